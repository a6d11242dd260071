"""What all services of rota's have alike: their command line, directories, sockets, log and exit code."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from systemd import daemon as sd

from rota import __version__
from rota.errors import DamagedError, Exit, RotaError

_LEVELS = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class _JournalFormatter(logging.Formatter):
    """Prefixes each line with the level journald understands (sd-daemon(3))."""

    def format(self, record: logging.LogRecord) -> str:
        level = _LEVELS.get(record.levelno, 6)
        return "\n".join(f"<{level}>{line}" for line in super().format(record).splitlines())


def parser(name: str, about: str, *, user: str = "") -> argparse.ArgumentParser:
    """Return the parser of a service's command line.

    Args:
        name: the program's.
        about: what it does, without its last words.
        user: what it does with --user; "" if there is no such option.
    """
    made = argparse.ArgumentParser(prog=name, description=f"{about}; started by systemd.")
    if user:
        made.add_argument("--user", action="store_true", help=user)
    made.add_argument(
        "--version", action="version", version=f"{name} {__version__}", help="print its version"
    )
    return made


def _directory(variable: str, default: Path) -> Path:
    """Return the first directory systemd made for us under this variable (systemd.exec(5))."""
    return Path(os.environ.get(variable, str(default)).split(":")[0])


def state_directory(name: str, *, user: bool) -> Path:
    """Return where a service keeps its state: /var/lib/NAME, or below ~/.local/state; it is made if need be.

    Raises:
        OSError: it cannot be made.
    """
    default = Path.home() / ".local/state" / name if user else Path("/var/lib", name)
    path = _directory("STATE_DIRECTORY", default)
    path.mkdir(parents=True, exist_ok=True)
    return path


def credentials() -> Path:
    """Return where systemd hands over credentials; a directory that is not there, if it handed over none."""
    return _directory("CREDENTIALS_DIRECTORY", Path("/nonexistent"))


def inherited(hint: str) -> list[socket.socket]:
    """Return the sockets that systemd handed over (sd_listen_fds(3)).

    Args:
        hint: who does.

    Raises:
        RotaError: there are none.
    """
    sockets = [socket.socket(fileno=number) for number in sd.listen_fds()]
    if not sockets:
        raise RotaError("no socket was handed over", hint, Exit.USAGE)
    for one in sockets:
        one.setblocking(False)
    return sockets


def run(log: logging.Logger, work: Coroutine[Any, Any, None], *, debug: bool = False) -> int:
    """Do a service's work with its log on standard error; return its exit code.

    Args:
        log: the service's own.
        work: ends when the service is to end.
        debug: log what is usually not of interest.
    """
    handler = logging.StreamHandler(sys.stderr)
    if os.environ.get("JOURNAL_STREAM"):
        handler.setFormatter(_JournalFormatter("%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.DEBUG if debug else logging.INFO)
    try:
        asyncio.run(work)
    except RotaError as error:
        log.error("%s%s", error.message, error.hint and f". {error.hint}")
        return int(error.exit_code)
    except DamagedError as error:
        log.error("the database is damaged: %s", error)
        return int(Exit.FAILED)
    except OSError as error:
        log.error("%s: %s", error.filename or log.name, error.strerror)
        return int(Exit.FAILED)
    return int(Exit.OK)
