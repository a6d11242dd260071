"""Delivery: the only user of apprise, each message in a process of its own.

A process of its own can be ended when a service hangs, takes its memory along, and alone ever has the URL,
which is a secret: what it says of an error is told without any part of the URL.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote

from rota.wording import Text

PATIENCE = 60.0
"""Seconds that a message may take to be sent."""

_LONGEST_ERROR = 300
_HIDDEN = "…"
_CODE = "from rota.notify import main; main()"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of sending a message: `error` says why it was not sent, "" if it was."""

    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether it was sent."""
        return not self.error


def secrets_of(url: str) -> list[str]:
    """Return the parts of a URL that may be secret, longest first: all but its scheme and short numbers."""
    _, _, rest = url.partition("://")
    parts = {url, rest, *re.split(r"[/?#@:&=,;]+", rest), *(value for _, value in parse_qsl(rest))}
    parts |= {unquote(part) for part in parts} | {quote(part, safe="") for part in parts}
    found = {part for part in parts if len(part) >= 4 and not re.fullmatch(r"\d{1,5}", part)}
    return sorted(found, key=len, reverse=True)


def redacted(text: str, url: str) -> str:
    """Return a text on one line, without any part of a URL."""
    for secret in secrets_of(url):
        text = re.sub(re.escape(secret), _HIDDEN, text, flags=re.IGNORECASE)
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text if len(text) <= _LONGEST_ERROR else f"{text[: _LONGEST_ERROR - 1]}…"


def read_url(path: Path) -> str:
    """Return the URL in a file: its one line that is neither empty nor begins with #.

    Raises:
        ValueError: there is none, or more than one; OSError: it cannot be read.
    """
    found = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    urls = [line for line in found if line and not line.startswith("#")]
    if not urls:
        raise ValueError("the file of the channel was not there, or is empty; it holds an apprise URL")
    if len(urls) > 1:
        raise ValueError("the file of the channel holds several lines; it holds one apprise URL")
    return urls[0]


async def deliver(credential: Path, text: Text, patience: float = PATIENCE) -> Outcome:
    """Send a message to the channel whose URL is in a file; whatever goes wrong is in the outcome.

    Args:
        credential: the file.
        text: the message.
        patience: seconds after which it is given up.
    """
    order = json.dumps({"credential": str(credential), "subject": text.subject, "body": text.body})
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-sP", "-c", _CODE, stdin=pipe, stdout=pipe, stderr=null, env=environment
        )
    except OSError as error:
        return Outcome(f"no process to send it could be started: {error.strerror}")
    try:
        async with asyncio.timeout(patience):
            said, _ = await child.communicate(order.encode())
    except TimeoutError:
        return Outcome(f"not sent within {patience:g} s")
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    try:
        return Outcome(str(json.loads(said)["error"]))
    except (ValueError, KeyError):
        return Outcome(f"the process that was to send it ended with {child.returncode}")


class _Errors(logging.Handler):
    """Keeps what apprise logs of what went wrong."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(record.getMessage())


def send(url: str, subject: str, body: str) -> str:
    """Send a message by apprise, in this process; return why it was not sent, without the URL, or ""."""
    try:
        import apprise  # noqa: PLC0415  (a quarter of a second, and only where something is sent)
    except ImportError:
        return "apprise is not installed; on Debian: apt install apprise"
    errors = _Errors()
    logging.getLogger("apprise").addHandler(errors)
    try:
        plugin = apprise.Apprise.instantiate(url, suppress_exceptions=False)
        if plugin is None:
            return _told(errors.found, url) or "apprise does not know this kind of URL"
        if "overflow=" not in url:
            # Better cut than refused: what matters comes first.
            plugin.overflow_mode = apprise.OverflowMode.TRUNCATE
        sender = apprise.Apprise()
        sender.add(plugin)
        if sender.notify(title=subject, body=body, body_format=apprise.NotifyFormat.TEXT):
            return ""
    except Exception as error:  # noqa: BLE001  (whatever a plugin raises is why; redacted, it is told)
        return redacted(f"{type(error).__name__}: {error}", url) or type(error).__name__
    return _told(errors.found, url) or "apprise did not say why"


def _told(found: Iterable[str], url: str) -> str:
    return redacted("; ".join(found), url)


def main() -> None:
    """Send the message on standard input, as JSON; say on standard output what came of it."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # a plugin that prints shall not be taken for the answer
    order = json.loads(sys.stdin.read())
    try:
        error = send(read_url(Path(order["credential"])), order["subject"], order["body"])
    except ValueError as wrong:
        error = str(wrong) if "file of the channel" in str(wrong) else "the file of the channel is not UTF-8"
    except OSError as wrong:
        error = f"the file of the channel cannot be read: {wrong.strerror}"
    json.dump({"error": error}, answer)
    answer.close()
