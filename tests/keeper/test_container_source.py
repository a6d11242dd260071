"""The source of containers where there is no engine, or one that is none."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from rota_agents.home_keeper.checks.engine import Container, Happened, Listed
from rota_agents.home_keeper.probes import engine as probe
from rota_agents.home_keeper.probes.containers import ContainerSource
from rota_agents.home_keeper.probes.engine import Gone, Refused
from rota_agents.home_keeper.probes.polling import Observation, wall_clock
from rota_agents.home_keeper.probes.threads import Threads
from rota_agents.home_keeper.remedies.containers import remedies
from rota_agents.home_keeper.words import Action, Remedy, Target

from rota.container_watches import DOCKERS_OWN, PROXY, Containers, Engine
from rota.errors import RotaError


def source(path: Path, name: str = "", patience: float = 0) -> ContainerSource:
    return ContainerSource(Engine(name, str(path)), Containers(), patience=patience)


def told(found: ContainerSource, count: int = 3) -> list[Observation]:
    """Return what a source says first."""
    said: list[Observation] = []

    async def look() -> None:
        task = asyncio.create_task(found.follow(said.append))
        async with asyncio.timeout(60):
            while len(said) < count:
                await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(look())
    return said


def test_where_there_is_no_engine_that_is_noted(tmp_path: Path) -> None:
    said = told(source(tmp_path / "docker.sock", "podman"))
    assert said[2].at - said[1].at > said[1].at - said[0].at, "with growing pauses"
    ((target, (finding,)),) = said[-1].findings.items()
    assert str(target) == "check:containers-podman"
    assert (finding.problem, finding.severity) == ("blind", "info")
    assert "docker.sock: No such file or directory" in finding.summary
    assert finding.since == said[0].at


def test_where_one_should_be_and_does_not_answer_somebody_is_told(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        ((finding,),) = told(source(path))[-1].findings.values()
        assert (finding.severity, finding.details["why"]) == ("warning", f"{path}: Connection refused")


@pytest.fixture
def forbidden() -> Iterator[Path]:
    """Yield a socket of root's, as an engine's own is, to somebody who is not root."""
    if os.geteuid() != 0:
        pytest.skip("nobody else has a socket for us")
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as own:
        path = Path(folder, "docker.sock")
        own.bind(str(path))
        own.listen()
        path.chmod(0o600)  # who runs tests may be in its group
        Path(folder).chmod(0o755)
        os.seteuid(65534)
        try:
            yield path
        finally:
            os.seteuid(0)


def test_where_an_engines_own_socket_may_not_be_opened_it_is_told_what_to_write(forbidden: Path) -> None:
    ((finding,),) = told(source(forbidden))[-1].findings.values()
    assert finding.severity == "warning"
    assert finding.summary == (
        f"check containers cannot look: {forbidden}: Permission denied; in [keeper.containers] write "
        f'sockets = ["{PROXY}"] and docker = "{forbidden}": rota-docker-proxy may open it'
    )


def test_what_to_write_instead_of_a_socket() -> None:
    for path in DOCKERS_OWN:
        wanted = f'; in [keeper.containers] write sockets = ["{PROXY}"]: rota-docker-proxy may open it'
        assert probe._instead(path) == wanted
    assert probe._instead(PROXY) == ""


def test_an_engine_that_is_away_for_a_moment_is_noted_and_nobody_is_told(tmp_path: Path) -> None:
    """It may be started anew: `systemctl restart docker`."""
    path, patience = tmp_path / "docker.sock", 1.0
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        said = told(source(path, patience=patience), 4)
    found = [finding for one in said for findings in one.findings.values() for finding in findings]
    severities = [finding.severity for finding in found]
    assert severities == sorted(severities) and {*severities} == {"info", "warning"}
    assert said[-1].at - said[0].at > patience * 900_000
    assert {finding.since for finding in found} == {said[0].at}, "since when it is away"


def test_what_answers_is_no_engine(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"SSH-2.0-none\r\n")
        writer.close()

    said: list[Observation] = []

    async def look() -> None:
        async with await asyncio.start_unix_server(answer, path):
            task = asyncio.create_task(source(path).follow(said.append))
            async with asyncio.timeout(60):
                while not said:
                    await asyncio.sleep(0.01)
            task.cancel()

    asyncio.run(look())
    ((finding,),) = said[-1].findings.values()
    assert finding.severity == "warning"


def test_a_remedy_without_an_engine_says_so(tmp_path: Path) -> None:
    found = source(tmp_path / "docker.sock")
    does = remedies([found], Containers())
    assert set(does) == {"restart-container", "start-container"}
    for name, said in (("web", "cannot be asked"), ("podman/web", "no engine is followed")):
        action = Action(1, Target("container", name), "exited", Remedy("start-container"), 0, "", 1)
        with pytest.raises(RotaError, match=said):
            asyncio.run(_act(does["start-container"](action)))


async def _act(work: object) -> None:
    await work  # type: ignore[misc]


def test_a_look_that_fails_leaves_no_other_behind(tmp_path: Path) -> None:
    """Else it would go on beside the next session, and put down what it saw in this one."""
    found = ContainerSource(Engine("", str(tmp_path / "docker.sock")), Containers(), glance=0)
    ended = []

    class Refusing:
        async def listed(self) -> dict[str, tuple[str, str]]:
            return {"a": ("running", "web"), "b": ("running", "db")}

        async def inspect(self, which: str) -> Container:
            try:
                await asyncio.sleep(0 if which == "a" else 60)
                raise Refused(500, "it cannot tell")
            finally:
                await asyncio.sleep(0.05)
                ended.append(which)

    class Silent:
        queue: asyncio.Queue[None] = asyncio.Queue()

    found.connection = Refusing()

    async def live() -> None:
        with pytest.raises(Refused, match="it cannot tell"):
            await found._listen(Silent(), lambda _: None)
        assert ended == ["a", "b"]

    asyncio.run(live())


def test_a_clock_that_is_set_back_puts_no_list_off(tmp_path: Path) -> None:
    """What is due an hour later by the clock on the wall is looked at no later than the next list.

    The clock goes back at each list, so the engine is played: none does that.
    """
    lists, hour = 0, 3600 * 1_000_000
    engine = Engine("", str(tmp_path / "docker.sock"))
    found = ContainerSource(engine, Containers(), now=lambda: wall_clock() - lists * hour, glance=0.1)
    found._again = wall_clock() + hour

    class Listed:
        async def listed(self) -> dict[str, tuple[str, str]]:
            nonlocal lists
            lists += 1
            return {}

    class Silent:
        queue: asyncio.Queue[None] = asyncio.Queue()

    found.connection = Listed()

    async def live() -> None:
        task = asyncio.create_task(found._listen(Silent(), lambda _: None))
        with suppress(TimeoutError):
            async with asyncio.timeout(20):
                while lists < 3:
                    await asyncio.sleep(0.02)
        task.cancel()

    asyncio.run(live())
    assert lists >= 3


class Stream:
    """The events of a played engine."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Happened | None] = asyncio.Queue()

    def close(self) -> None:
        return


class Played:
    """An engine that is played, where a real one cannot be made to do it at that moment."""

    podman = False

    def __init__(self, *containers: Container) -> None:
        self.all = {one.id: one for one in containers}
        self.ring: list[Happened] = []
        self.stream = Stream()
        self.asked: list[str] = []
        self.given: list[int] = []
        self.cures = True

    async def connect(self) -> None:
        return

    async def history(self, since: int, until: int) -> list[Happened]:
        return [event for event in self.ring if since <= event.nanos <= until]

    async def follow(self, _since: int) -> Stream:
        self.stream = Stream()
        return self.stream

    async def snapshot(self) -> dict[str, Container]:
        return dict(self.all)

    async def listed(self) -> dict[str, Listed]:
        return {key: Listed(one.status, one.name, one.health or None) for key, one in self.all.items()}

    async def inspect(self, which: str) -> Container:
        return next(one for one in self.all.values() if which in (one.id, one.name))

    def change(self, which: str, *events: str, signal: int = 15, **state: object) -> None:
        one = self.all[which]
        self.all[which] = replace(one, **state)
        for action in events:
            at = wall_clock() * 1000
            self.stream.queue.put_nowait(Happened(one.id, action, at, signal if action == "kill" else 0))

    async def restart(self, which: str, timeout: int) -> None:
        self.asked.append("restart")
        self.given.append(timeout)
        now = wall_clock()
        self.change(
            *(which, "kill", "die", "stop", "start", "restart"),
            health=self.all[which].health and ("starting" if self.cures else "unhealthy"),
            started=now,
            finished=now - 1000,
        )

    async def start(self, _which: str) -> None:
        self.asked.append("start")

    def close(self) -> None:
        return


def played(*containers: Container, glance: float = 30) -> tuple[ContainerSource, Played]:
    found = ContainerSource(Engine("", "/nonexistent"), Containers(), glance=glance)
    engine = Played(*containers)
    found.connection = engine
    return found, engine


def web(**more: object) -> Container:
    return replace(Container("i" * 64, "web", started=wall_clock() - 10**9), **more)


def remedy(found: ContainerSource, word: str, problem: str = "exited") -> object:
    action = Action(1, Target("container", "web"), problem, Remedy(word), 0, "", 1)
    return remedies([found], Containers())[word](action)


def test_a_stop_by_hand_while_a_restart_settles_is_a_persons() -> None:
    found, engine = played(web(health="unhealthy", failures=3))

    async def live() -> None:
        said: list[Observation] = []
        task = asyncio.create_task(found.follow(said.append))
        async with asyncio.timeout(20):
            while not said:
                await asyncio.sleep(0.01)
            restart = asyncio.create_task(_act(remedy(found, "restart-container", "unhealthy")))
            while not engine.asked:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            engine.change("i" * 64, "kill")
            at = wall_clock()
            engine.change("i" * 64, "die", "stop", status="exited", health="", exit_code=143, finished=at)
            with pytest.raises(RotaError, match="ended again right away"):
                await restart
            with pytest.raises(RotaError, match="was stopped by hand meanwhile"):
                await _act(remedy(found, "start-container"))
        task.cancel()
        assert engine.asked == ["restart"]
        assert not [one for one in said[-1].findings.values() if one]

    asyncio.run(live())


@pytest.mark.parametrize(
    ("health", "why"), [("", "it is running by now"), ("healthy", "it is healthy by now")]
)
def test_what_is_well_by_now_is_not_restarted(health: str, why: str) -> None:
    found, engine = played(web(health=health))
    done: dict[str, object] = {}

    async def live() -> None:
        done.update(await remedy(found, "restart-container", "restart-loop"))  # type: ignore[misc]

    asyncio.run(live())
    assert (engine.asked, done) == ([], {"done": "nothing", "why": why})


def test_health_that_no_event_told_of_is_seen_in_the_list() -> None:
    other = replace(web(), id="o" * 64, name="other", health="healthy")
    found, engine = played(web(health="unhealthy", failures=3), other, glance=0.1)

    async def live() -> None:
        said: list[Observation] = []
        task = asyncio.create_task(found.follow(said.append))
        async with asyncio.timeout(20):
            while not said:
                await asyncio.sleep(0.01)
            engine.change("i" * 64, health="healthy", failures=0)
            engine.change(other.id, health="unhealthy", failures=3)
            while len({target for one in said[1:] for target in one.findings}) < 2:
                await asyncio.sleep(0.01)
        task.cancel()
        latest = {str(target): found for one in said for target, found in one.findings.items()}
        assert latest["container:web"] == ()
        assert [finding.problem for finding in latest["container:other"]] == ["unhealthy"]

    asyncio.run(live())


@pytest.mark.parametrize("call", ["history", "follow"])
@pytest.mark.parametrize("begins", [False, True])
def test_an_engine_that_hangs_keeps_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, begins: bool
) -> None:
    """It says its version, and takes a call for events; with `begins` it also begins to answer that."""
    pytest.importorskip("docker", reason="no docker SDK")
    # an engine that really hangs; only the patience is not that of a real call
    monkeypatch.setattr(probe, "_CALL", 0.3)
    told, head = b'{"ApiVersion": "1.41"}', b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = b""
        while (line := await reader.readline()).strip():
            asked += line
        if b"/version" in asked:
            writer.write(head + f"Content-Length: {len(told)}\r\n\r\n".encode() + told)
        elif begins:
            writer.write(head + b"Transfer-Encoding: chunked\r\n\r\n")
        with suppress(ConnectionError):
            await reader.read()
        writer.close()

    async def live() -> None:
        threads = Threads(4)
        path = tmp_path / "docker.sock"
        async with await asyncio.start_unix_server(answer, path):
            found = probe.Connection(Engine("", str(path)), threads)
            await found.connect()
            for _ in range(6):
                if call == "follow" and begins:
                    stream = await found.follow(1)
                    await asyncio.sleep(0.5)
                    assert stream.queue.empty(), "to be quiet is no trouble"
                    stream.close()
                elif call == "follow":
                    with pytest.raises(Gone):
                        await found._with("follow", lambda client: client.events(since=1), 0.3)
                else:
                    with pytest.raises(Gone):
                        await found._with("history", lambda client: [*client.events(since=1, until=2)], 0.3)
            async with asyncio.timeout(10):
                while threads.busy:
                    await asyncio.sleep(0.05)
            found.close()

    asyncio.run(live())


@pytest.mark.parametrize(("declared", "given"), [(10, 10), (86_400, 3600), (-1, 300)])
def test_what_is_given_to_end_has_an_end(declared: int, given: int) -> None:
    """rota-docker-proxy lets no more than an hour through."""
    found, engine = played(web(health="unhealthy", failures=3, stop_timeout=declared))
    engine.cures = False
    with pytest.raises(RotaError, match="unhealthy again"):
        asyncio.run(_act(remedy(found, "restart-container", "unhealthy")))
    assert engine.given == [given]
