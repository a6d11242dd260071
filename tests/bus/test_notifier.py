"""rotad-notify on a private bus: a rotad of plain data on one side, real webhooks and mail on the other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bus.telling import Scene, Table, named, play, rules
from tests.sinks import Webhook, mailbox, webhook


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as sink:
        yield sink


def test_a_failure_and_what_follows(private_bus: str, tmp_path: Path, hook: Webhook) -> None:
    async def work(scene: Scene) -> None:
        scene.rotad.ran(1, status=9)  # before anybody listened
        scene.declare(rules(), ops=hook.url)
        await scene.start()
        scene.rotad.ran(2, status=3)
        await scene.until(lambda: len(hook.got) == 1)
        scene.rotad.ran(3, status=3)
        await scene.until(lambda: len(hook.got) == 2)
        scene.rotad.ran(4)
        await scene.until(lambda: len(hook.got) == 3)
        scene.rotad.ran(5)
        await asyncio.sleep(0.5)

    play(private_bus, tmp_path, work)
    first, second, third = (one.partition("] ")[2] for one in hook.subjects)
    assert first == "backup-check failed: exit status 3 after 3s"
    assert second == "backup-check failed: exit status 3 after 3s, for the 2nd time in a row"
    assert third == "backup-check is well again, after 2 failures in 2s"
    assert "Output:\n  the last line\n" in hook.got[0]["message"]
    assert f"rota --user logs {named(2)[:12]}" in hook.got[0]["message"]


def test_a_hundred_failures_are_one_message(private_bus: str, tmp_path: Path, hook: Webhook) -> None:
    async def work(scene: Scene) -> None:
        scene.declare(rules(group=3_000_000), ops=hook.url)
        await scene.start()
        for number in range(100):
            scene.rotad.ran(number, status=1, agent=f"agent-{number % 7}")
        await scene.until(lambda: hook.got and scene.heard_all() and scene.channel()["waiting"] == 0)

    play(private_bus, tmp_path, work)
    (subject,) = hook.subjects
    assert "100 failures: agent-" in subject
    assert "and 4 more" in subject


def test_what_happens_while_rotad_is_away_or_we_are(private_bus: str, tmp_path: Path, hook: Webhook) -> None:
    async def work(scene: Scene) -> None:
        scene.declare(rules(), ops=hook.url)
        await scene.start()
        scene.rotad.go()
        await asyncio.sleep(0.2)
        scene.rotad.ran(1, status=1)
        await scene.rotad.come(scene.address)
        await scene.until(lambda: len(hook.got) == 1)
        await scene.stop()
        scene.rotad.ran(2, status=1)
        await scene.start()
        await scene.until(lambda: len(hook.got) == 2)
        await scene.stop()
        # Its store is lost, and what was in the journal has other numbers.
        again = scene.rotad.recorded
        scene.rotad.store, scene.rotad.recorded, scene.rotad.runs = "bbbb", [], {}
        scene.rotad.record(*(one.event for one in again[4:]))
        await scene.start()
        scene.rotad.ran(3, status=1)
        await scene.until(lambda: len(hook.got) == 3)
        assert "for the 3rd time in a row" in hook.subjects[2], "what is heard again is not counted again"
        await asyncio.sleep(0.3)

    play(private_bus, tmp_path, work)
    assert len(hook.got) == 3
    assert [named(number)[:12] in hook.got[number - 1]["message"] for number in (1, 2, 3)] == [True] * 3


def test_rotads_store_is_lost_and_its_clock_was_set_back(
    private_bus: str, tmp_path: Path, hook: Webhook
) -> None:
    """What was heard last was of a day to come; what is recorded anew must not wait for that day."""

    async def work(scene: Scene) -> None:
        scene.declare(rules(), ops=hook.url)
        await scene.start()
        scene.rotad.ran(10 * 365 * 86_400, status=1)
        await scene.until(lambda: len(hook.got) == 1)
        scene.rotad.store, scene.rotad.recorded = "bbbb", []
        scene.rotad.ran(1, status=2)
        await scene.until(lambda: len(hook.got) == 2)
        scene.rotad.ran(-30 * 86_400, status=3)  # and it is set back once more
        await scene.until(lambda: len(hook.got) == 3)

    play(private_bus, tmp_path, work)
    assert ["exit status 2" in hook.subjects[1], "exit status 3" in hook.subjects[2]] == [True, True]


def test_events_that_were_forgotten_are_told_of(private_bus: str, tmp_path: Path, hook: Webhook) -> None:
    async def work(scene: Scene) -> None:
        scene.declare(rules(), ops=hook.url)
        scene.rotad.ran(1)
        await scene.start()
        await scene.stop()
        for number in range(2, 6):
            scene.rotad.ran(number, status=1)
        scene.rotad.first = 17
        await scene.start()
        await scene.until(lambda: hook.got)
        await scene.stop()
        scene.rotad.ran(6, status=1)
        scene.rotad.first = 25  # of which nothing is left
        notifier = await scene.start()
        await scene.until(lambda: len(hook.got) == 2)
        for hearing in notifier._hearings:
            hearing.look()
        scene.rotad.ran(7, status=1)
        await scene.until(lambda: len(hook.got) == 3)

    play(private_bus, tmp_path, work)
    first, second, third = (one["message"] for one in hook.got)
    assert "events 5 to 16 were forgotten" in first
    assert "exit status 1" in first
    assert "events 21 to 24 were forgotten" in second
    assert "forgotten" not in third


def test_a_channel_that_hangs_or_fails_keeps_no_other_waiting(private_bus: str, tmp_path: Path) -> None:
    async def work(scene: Scene) -> None:
        with webhook() as good, webhook() as bad, webhook() as slow, mailbox() as (url, mails):
            bad.status, slow.hang = 500, 100
            table = rules(channels=["slow", "bad", "none", "good", "mail"])
            table["channels"] = dict.fromkeys(table["routes"][0]["channels"], table["channels"]["ops"])
            scene.declare(table, bad=bad.url, slow=f"{slow.url}?rto=90", good=good.url, mail=url, none="#")
            notifier = await scene.start(patience=90, grace=0.2)
            scene.rotad.ran(1, status=1)

            def told() -> dict[str, Table]:
                return {one["channel"]: one for one in json.loads(notifier.status())["channels"]}

            await scene.until(
                lambda: good.got and mails and told()["bad"]["error"] and told()["none"]["error"]
            )
            states = {one["channel"]: one["state"] for one in json.loads(notifier.status())["messages"]}
            assert states["slow"] == "sending"
            assert told()["good"]["error"] == ""
            await scene.until(lambda: told()["good"]["last_sent"] and told()["mail"]["last_sent"])
            assert "500" in told()["bad"]["error"]
            assert "file of the channel was not there" in told()["none"]["error"]
            assert {name: one["waiting"] for name, one in told().items()} == {
                **dict.fromkeys(("bad", "slow", "none"), 1),
                **dict.fromkeys(("good", "mail"), 0),
            }
            assert "geheimnis" not in notifier.status()
            # It ends all the same; and what was cut off is known to be.
            await scene.stop()
            assert len(good.got) == 1

    play(private_bus, tmp_path, work)


def test_a_channel_that_comes_back(private_bus: str, tmp_path: Path, hook: Webhook) -> None:
    async def work(scene: Scene) -> None:
        scene.declare(rules(), ops=hook.url)
        hook.status = 503
        await scene.start(first_retry=300_000)
        scene.rotad.ran(1, status=1)
        await scene.until(lambda: scene.channel()["attempts"])
        for number in range(2, 6):
            scene.rotad.ran(number, status=1)
        await scene.until(lambda: scene.heard_all() and scene.channel()["attempts"] >= 3)
        assert hook.got == []
        hook.status = 200
        await scene.until(lambda: len(hook.got) == 2)
        await asyncio.sleep(0.5)

    play(private_bus, tmp_path, work)
    one, others = hook.got
    assert "backup-check failed: exit status 1" in one["title"]
    assert "4 failures: backup-check" in others["title"]


def test_given_up_and_said_so(
    private_bus: str, tmp_path: Path, hook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(scene: Scene) -> None:
        table = rules()
        table["channels"]["ops"]["expiry"] = 0
        scene.declare(table, ops=hook.url)
        hook.status = 503
        notifier = await scene.start()
        scene.rotad.ran(1, status=1)
        await scene.until(lambda: json.loads(notifier.status())["channels"][0]["given_up"] == 1)
        (message,) = json.loads(notifier.status())["messages"]
        assert message["state"] == "given-up"
        assert "503" in message["error"]

    play(private_bus, tmp_path, work)
    (told,) = [one.getMessage() for one in caplog.records if "given up" in one.getMessage()]
    assert "ops: message 1 was given up" in told
    assert "backup-check failed" in told
    assert "geheimnis" not in caplog.text
