"""Real ends of channels, in this process: an HTTP webhook and an SMTP server that keep what they get."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session


@dataclass
class Webhook:
    """An HTTP server.

    Attributes:
        port: where.
        got: JSON bodies, in order.
        status: what it answers.
        hang: seconds that it takes to.
    """

    port: int = 0
    got: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200
    hang: float = 0

    @property
    def url(self) -> str:
        """Return it as apprise writes it, with a secret in it."""
        return f"json://watchman:geheimnis@127.0.0.1:{self.port}/t0ken-of-mine"

    @property
    def subjects(self) -> list[str]:
        """Return the titles of what came, in order."""
        return [str(one["title"]) for one in self.got]


@contextmanager
def webhook() -> Iterator[Webhook]:
    """Serve until the end of a block."""
    kept = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(kept.hang)
            if kept.status == 200:
                kept.got.append(json.loads(body))
            self.send_response(kept.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    kept.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Keeper:
    def __init__(self) -> None:
        self.got: list[EmailMessage] = []

    async def handle_DATA(self, _: SMTP, __: Session, envelope: Envelope) -> str:  # noqa: N802  (aiosmtpd's name)
        found = message_from_bytes(envelope.original_content or b"", policy=policy.default)
        assert isinstance(found, EmailMessage)
        self.got.append(found)
        return "250 OK"


@contextmanager
def mailbox() -> Iterator[tuple[str, list[EmailMessage]]]:
    """Take mail until the end of a block; the URL of a channel to there, and what came."""
    keeper = _Keeper()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]  # aiosmtpd takes no port 0
    controller = Controller(keeper, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield f"mailto://127.0.0.1:{port}?from=rota@example.org&to=ada@example.org&mode=insecure", keeper.got
    finally:
        controller.stop()
