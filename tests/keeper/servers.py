"""Real servers for the probes' tests: each in this process, or beside it, on a free port of loopback."""

from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

LOCALHOST = "127.0.0.1"


def free_port() -> int:
    """Return a port of loopback that nobody listens at."""
    with socket.socket() as sock:
        sock.bind((LOCALHOST, 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def raw_server(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Accept connections and hand each to `serve`, in a thread; yield the port."""
    with socket.create_server((LOCALHOST, 0)) as listener:
        done = threading.Event()

        def handle(sock: socket.socket) -> None:
            with sock, contextlib.suppress(OSError):
                serve(sock)

        def accept() -> None:
            while not done.is_set():
                with contextlib.suppress(OSError):
                    sock, _ = listener.accept()
                    threading.Thread(target=handle, args=(sock,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield int(listener.getsockname()[1])
        done.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


class Handler(http.server.BaseHTTPRequestHandler):
    """A web server with a page for each case."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        kind, _, status = self.path.partition("?")[0].lstrip("/").partition("/")
        body = f"all is well, {self.headers.get('Authorization', 'nobody')}".encode()
        self.send_response(int(status or 200))
        if kind == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for part in (body[:5], body[5:]):
                self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
            time.sleep(0.2)
        elif kind == "redirect":
            self.send_header("Location", "http://elsewhere.example/")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif kind == "endless":
            self.end_headers()
            while True:
                self.wfile.write(bytes(65536))
        elif kind == "drip":
            self.end_headers()
            while True:
                self.wfile.write(b".")
                self.wfile.flush()
                time.sleep(0.02)
        elif kind == "plain":  # neither a length nor chunks: it ends when the connection does
            self.close_connection = True
            self.end_headers()
            self.wfile.write(body)
        else:
            time.sleep(0.1 if kind == "late" else 0)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)


@contextlib.contextmanager
def web_server(context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serve `Handler` over HTTP, or with `context` over HTTPS; yield the port."""
    server = http.server.ThreadingHTTPServer((LOCALHOST, 0), Handler)
    # clients hang up on purpose
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def certificate(folder: Path, days: int, name: str = "localhost") -> tuple[Path, ssl.SSLContext]:
    """Make a certificate that is its own authority; return its file, and what a server needs to use it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make certificates with")
    key, file = folder / f"{name}-{days}.key", folder / f"{name}-{days}.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
         f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-keyout", str(key), "-out", str(file),
         "-days", str(max(days, 1))],
        check=True, capture_output=True,
    )  # fmt: skip
    if days <= 0:
        renew = [
            openssl,
            "x509",
            "-in",
            str(file),
            "-signkey",
            str(key),
            "-out",
            str(file),
            "-days",
            str(days),
        ]
        done = subprocess.run(renew, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"this openssl makes no certificate that has expired: {done.stderr.strip()}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key)
    return file, context


def namespace(code: str) -> str:
    """Run Python in a network namespace of its own, with its own /sys; skip where that cannot be."""
    if os.geteuid() != 0:
        pytest.skip("not root: cannot make a network namespace")
    script = 'mount -t sysfs none /sys && ip link set lo up && exec "$@"'
    command = ["unshare", "--net", "--mount", "sh", "-c", script, "sh", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and ("not permitted" in done.stderr or "denied" in done.stderr):
        pytest.skip(f"no network namespace: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout
