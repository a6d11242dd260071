"""Delivery by apprise to a real webhook and a real mail server; what fails is told without the URL."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.notify import Outcome, deliver, read_url, redacted, secrets_of
from rota.wording import Text

from .sinks import mailbox, webhook

TEXT = Text(
    "[nas] backup-check failed: exit status 3", "Output:\n  tää <b>*old*</b>\nSee:    rota logs 9f2c\n"
)


def delivered(path: Path, url: str, patience: float = 20, text: Text = TEXT) -> Outcome:
    path.write_text(url, encoding="utf-8")
    return asyncio.run(deliver(path, text, patience))


def test_to_a_webhook(tmp_path: Path) -> None:
    with webhook() as sink:
        assert delivered(tmp_path / "url", f"# ops\n\n{sink.url}\n") == Outcome()
        (got,) = sink.got
    assert (got["title"], got["message"].strip()) == (TEXT.subject, TEXT.body.strip())


def test_to_a_mailbox(tmp_path: Path) -> None:
    with mailbox() as (url, got):
        assert delivered(tmp_path / "url", url) == Outcome()
    (mail,) = got
    assert mail["Subject"] == TEXT.subject
    body = mail.get_body(("plain", "html"))
    assert body is not None
    assert "rota logs 9f2c" in body.get_content()
    assert "tää" in body.get_content()


def test_what_the_service_refuses_is_told_without_the_secret(tmp_path: Path) -> None:
    with webhook() as sink:
        sink.status = 503
        outcome = delivered(tmp_path / "url", sink.url)
    assert not outcome.ok
    assert "503" in outcome.error
    for secret in ("geheimnis", "t0ken", "watchman"):
        assert secret not in outcome.error


def test_nobody_listens(tmp_path: Path) -> None:
    with webhook() as sink:
        url = sink.url
    outcome = delivered(tmp_path / "url", url)
    assert outcome.error
    assert "geheimnis" not in outcome.error


def test_who_hangs_is_left(tmp_path: Path) -> None:
    with webhook() as sink:
        sink.hang = 8
        begun = time.monotonic()
        outcome = delivered(tmp_path / "url", sink.url + "?rto=30&cto=30", patience=2)
        assert time.monotonic() - begun < 6
    assert outcome.error == "not sent within 2 s"


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("", "the file of the channel was not there, or is empty; it holds an apprise URL"),
        ("# only words\n", "the file of the channel was not there, or is empty; it holds an apprise URL"),
        ("json://a\njson://b\n", "the file of the channel holds several lines; it holds one apprise URL"),
        ("nosuchservice://geheimnis", ""),
        ("geheimnis", ""),
    ],
)
def test_wrong_files(tmp_path: Path, content: str, error: str) -> None:
    found = delivered(tmp_path / "url", content).error
    assert found
    assert "geheimnis" not in found
    assert error in found


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    outcome = asyncio.run(deliver(tmp_path / "none", TEXT))
    assert outcome.error == "the file of the channel cannot be read: No such file or directory"


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "url").write_bytes(b"json://geheimnis\xff")
    outcome = asyncio.run(deliver(tmp_path / "url", TEXT))
    assert outcome.error == "the file of the channel is not UTF-8"


def test_one_url_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("\n  # x\n json://a/b \n")
    assert read_url(tmp_path / "url") == "json://a/b"


WORDS = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=4, max_size=30)


@given(WORDS, WORDS, st.lists(WORDS, min_size=1, max_size=4), WORDS, st.text(max_size=20))
def test_no_part_of_a_url_gets_out(
    user: str, password: str, path: list[str], query: str, around: str
) -> None:
    url = f"slack://{user}:{password}@{'/'.join(path)}?key={query}"
    secrets = [user, password, *path, query]
    for secret in secrets:
        told = redacted(f"cannot reach {around} {secret}{around} ({url})", url)
        hidden = [one for one in secrets if not (one.isdigit() and len(one) <= 5)]
        assert not [one for one in hidden if one.lower() in told.lower() and one not in "cannot reach"]
    assert secrets_of(url)[0] == max(secrets_of(url), key=len)


def test_an_escaped_password_is_a_secret_both_ways() -> None:
    url = "mailto://ada:p%40ssw0rd@example.org"
    assert "p@ssw0rd" not in redacted("login with p@ssw0rd failed, p%40ssw0rd", url)
    assert "ssw0rd" not in redacted("login with p@ssw0rd failed, p%40ssw0rd", url)


def test_errors_are_one_short_line() -> None:
    assert redacted("a\n\x1b[31mb\t" + "c" * 1000, "json://host").startswith("a [31mb ccc")
    assert len(redacted("c" * 1000, "json://host")) == 300
