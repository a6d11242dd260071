"""A real Docker engine whose disk is full: what is unused goes, and nothing else."""

from __future__ import annotations

import http.server
import io
import json
import os
import shutil
import socketserver
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rota_agents.home_keeper.cleaner import engine, program
from rota_agents.home_keeper.cleaner.engine import Engine, RefusedError
from rota_agents.home_keeper.cleaner.offers import Nothing, Scene
from rota_agents.home_keeper.cleaner.plan import Need, Step
from rota_agents.home_keeper.cleaner.tree import file_system, open_directory

from rota.clean_rules import CleanRules, DockerRule, PathRule
from rota.errors import RotaError
from rota.watch_rules import limits
from rota.watches import Disk, Limit

SECOND, MIB = 1_000_000, 1024**2
AGE = 6
"""Seconds after which something is old; what is to be young is looked at sooner, on a busy machine too."""
DISK = Disk(limits("space", declared=True), limits("inodes", declared=True))


class Docker:
    """dockerd with all it keeps on a disk of its own."""

    def __init__(self, folder: Path) -> None:
        self.disk, self.socket = folder / "disk", folder / "docker.sock"
        self._folder = folder

    def start(self) -> subprocess.Popen[bytes]:
        image = self._folder / "image"
        self.disk.mkdir()
        with image.open("wb") as opened:
            opened.truncate(400 * MIB)
        subprocess.run(["mkfs.ext4", "-q", "-m0", str(image)], check=True)
        mount = ["mount", "-o", "loop", str(image), str(self.disk)]
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no loop device here: {done.stderr.strip()}")
        log = (self._folder / "log").open("wb")
        command = [
            "dockerd",
            *("--data-root", str(self.disk / "docker"), "--exec-root", str(self._folder / "run")),
            *("--host", f"unix://{self.socket}", "--pidfile", str(self._folder / "pid")),
            *("--bridge=none", "--iptables=false", "--storage-driver=vfs"),
        ]
        return subprocess.Popen(command, stdout=log, stderr=log)

    def __call__(self, *words: str, data: bytes | None = None) -> str:
        command = ["docker", "--host", f"unix://{self.socket}", *words]
        done = subprocess.run(command, input=data, capture_output=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr.decode()}"
        return done.stdout.decode().strip()

    def image(self, name: str, mib: int) -> None:
        """Make an image of some size, with a program that can be run."""
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as tar:
            tar.add("/bin/busybox", "bin/busybox")
            content = tarfile.TarInfo("data")
            content.size = mib * MIB
            tar.addfile(content, io.BytesIO(os.urandom(content.size)))
        self("import", "-", name, data=made.getvalue())

    def images(self) -> set[str]:
        return set(self("images", "--format", "{{.Repository}}:{{.Tag}}").split())


@pytest.mark.parametrize("info", [["not docker"], None, "text", 7, {"DockerRootDir": "/"}])
@pytest.mark.parametrize("kind", ["images", "containers", "build-cache"])
def test_an_answer_that_is_none_is_told_and_the_other_steps_are_taken(
    tmp_path: Path, info: object, kind: str
) -> None:
    """Something listens at the socket that is no engine."""
    path, report = tmp_path / "docker.sock", tmp_path / "report.json"

    class Odd(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(info if self.path == "/info" else [3]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "a socket"

        def log_message(self, *_: object) -> None:
            return

    disk = Disk((Limit("warning", 0.001, 0.0005),))
    docker_ = DockerRule(
        (str(path),),
        SECOND,
        build_cache=kind == "build-cache",
        images=kind == "images",
        containers=kind == "containers",
    )
    gone = PathRule(str(tmp_path / "gone"), SECOND)
    what = CleanRules(disks={"/": disk}, docker=docker_, paths=(gone,))
    with socketserver.UnixStreamServer(str(path), Odd) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert not program.run("/", what, report)
        server.shutdown()
    told = json.loads(report.read_text())
    said = {row["step"].split()[0]: row.get("error", "") for row in told["steps"]}
    assert said.keys() == {kind, "paths"} and "No such file" in said["paths"]
    assert said[kind].startswith(f"{path}: its answer is not as expected: ")
    assert told["ended"]


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    if os.geteuid() != 0:
        pytest.skip("not root: cannot run dockerd")
    missing = [name for name in ("dockerd", "docker", "mkfs.ext4") if shutil.which(name) is None]
    if missing or not Path("/bin/busybox").exists():
        pytest.skip(f"not installed: {', '.join(missing) or 'busybox'}")
    made = Docker(tmp_path_factory.mktemp("docker"))
    engine_ = made.start()
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                Engine(str(made.socket)).ask("/info")
                break
            except RotaError:
                if engine_.poll() is not None or time.monotonic() > deadline:
                    pytest.skip(
                        f"dockerd does not run here: {(made.socket.parent / 'log').read_text()[-300:]}"
                    )
                time.sleep(0.1)
        yield made
    finally:
        engine_.terminate()
        engine_.wait(60)
        subprocess.run(["umount", "--recursive", "--lazy", str(made.disk)], capture_output=True, check=False)


def rule(docker: Docker, **more: object) -> DockerRule:
    return replace(DockerRule((str(docker.socket),), AGE * SECOND), **more)  # type: ignore[arg-type]


def rules(docker: Docker, **more: object) -> CleanRules:
    return CleanRules(disks={str(docker.disk): DISK}, docker=rule(docker, **more))


def scene(docker: Docker) -> Scene:
    opened = open_directory(str(docker.disk))
    try:
        return Scene(file_system(opened), Need(1), program.now())
    finally:
        os.close(opened)


def test_images_go_when_nothing_has_them_and_volumes_never(docker: Docker) -> None:
    docker("volume", "create", "precious")
    docker.image("used:1", 20)
    docker("create", "--name", "stopped", "--network", "none", "used:1", "/bin/busybox", "true")
    for name in ("old:1", "older:1", "kept:1"):
        docker.image(name, 30)
    docker("tag", "old:1", "alias:2")
    docker("tag", "old:1", "alias:3")
    time.sleep(AGE + 1)
    docker.image("young:1", 40)
    ballast = docker.disk / "ballast"
    used = program.usage(str(docker.disk))
    ballast.write_bytes(bytes(int(0.95 * (used.used + used.available)) - used.used))
    assert program.usage(str(docker.disk)).full > 90
    what = rules(docker, keep=("kept:*",))
    told = program.preview(str(docker.disk), what)
    row = next(row for row in told["steps"] if row["step"].startswith("images"))
    assert row["count"] == 2 and row["frees"] > 60 * MIB
    assert docker.images() >= {"old:1", "alias:2", "older:1"}, "a preview changes nothing"
    assert program.run(str(docker.disk), what, None)
    left = docker.images()
    assert left >= {"used:1", "kept:1", "young:1"}
    assert not {"old:1", "older:1"} <= left, "at least one went"
    assert not left & {"old:1", "alias:2", "alias:3"} or "older:1" not in left
    assert docker("volume", "ls", "-q") == "precious"
    ballast.unlink()


def test_containers_go_by_when_they_stopped(docker: Docker) -> None:
    """`docker container prune --filter until=` would go by when they were created."""
    for name in ("first", "second", "mine"):
        label = ("--label", "rota.keeper=ignore") if name == "mine" else ()
        docker("create", "--name", name, *label, "--network", "none", "used:1", "/bin/busybox", "sleep", "60")
    docker("start", "second")
    step = Step("containers", str(docker.socket), rule(docker))
    time.sleep(AGE + 1)
    docker("kill", "second")
    offer = engine.offer(step, rule(docker), scene(docker))
    assert set(offer.names) == {"first", "stopped"}
    assert offer.act(lambda _: False).count == 2
    assert set(docker("ps", "-a", "--format", "{{.Names}}").split()) == {"second", "mine"}
    time.sleep(AGE + 1)
    docker("start", "second")
    with pytest.raises(Nothing):
        engine.offer(step, rule(docker), scene(docker))
    docker("rm", "-f", "second", "mine")


def test_what_is_taken_into_use_meanwhile_stays(docker: Docker) -> None:
    time.sleep(AGE)
    step = Step("images", str(docker.socket), rule(docker))
    offer = engine.offer(step, rule(docker), scene(docker))
    assert "used:1" in offer.names
    docker("create", "--name", "late", "--network", "none", "used:1", "/bin/busybox", "true")
    offer.act(lambda _: False)
    assert "used:1" in docker.images()
    docker("rm", "late")


def test_it_stops_when_there_is_enough(docker: Docker) -> None:
    for name in ("a:1", "b:1"):
        docker.image(name, 1)
    time.sleep(AGE + 1)
    offer = engine.offer(Step("images", str(docker.socket), rule(docker)), rule(docker), scene(docker))
    assert offer.count >= 2
    assert offer.act(lambda freed: freed > 0).count == 1


def test_an_engine_that_keeps_its_things_elsewhere(docker: Docker) -> None:
    step = Step("images", str(docker.socket), rule(docker))
    with pytest.raises(Nothing, match="is not on this file system"):
        engine.offer(step, rule(docker), Scene("0:0", Need(1), program.now()))


def test_an_engine_that_is_gone_or_refuses(docker: Docker, tmp_path: Path) -> None:
    with pytest.raises(RotaError, match="cannot be asked"):
        Engine(str(tmp_path / "no.sock")).ask("/info")
    with pytest.raises(RefusedError, match=r"(?i)no such image") as refused:
        Engine(str(docker.socket)).ask("/images/nothing/json")
    assert refused.value.status == 404


def test_the_build_cache_of_a_real_engine(docker: Docker) -> None:
    """Without buildkit's own client there is nothing in it; what is asked, and the prune, are real."""
    step = Step("build-cache", str(docker.socket), rule(docker))
    with pytest.raises(Nothing, match="no build cache"):
        engine.offer(step, rule(docker), scene(docker))
    query = {"filters": json.dumps({"until": ["2s"]}), "keep-storage": "0", "reserved-space": "0"}
    found = Engine(str(docker.socket)).ask("/build/prune", "POST", **query)
    assert int(found.get("SpaceReclaimed") or 0) == 0
