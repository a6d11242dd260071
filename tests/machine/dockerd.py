"""A Docker engine of its own for tests: dockerd on this machine, an image of busybox, gone when closed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from rota.container_watches import Proxy, to_json
from tests.machine.rootfs import CACHE, MachineError, remove_tree, tail

IMAGE = "rota-test"
TOOLS = ("sh", "sleep", "cat", "touch", "rm", "kill", "tail", "test", "true", "false", "echo")
OPTIONS = ("--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs")


def missing() -> str | None:
    """Return why no engine can be started here, or None if one can."""
    if os.geteuid() != 0:
        return "not root: dockerd needs it"
    absent = [tool for tool in ("dockerd", "containerd", "busybox") if shutil.which(tool) is None]
    return f"{', '.join(absent)} not installed (run tests/machine/setup.sh)" if absent else None


class Docker:
    """An engine; a context manager that starts it, and removes it with all its containers."""

    def __init__(self) -> None:
        CACHE.mkdir(exist_ok=True)
        # short: a UNIX socket's path has an end
        self.run = Path(tempfile.mkdtemp(prefix="rota-docker-")).resolve()
        self.data = Path(tempfile.mkdtemp(prefix="docker-", dir=CACHE)).resolve()
        self.socket = str(self.run / "docker.sock")
        self.log = self.run / "dockerd.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
            self._image()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, timeout: float = 60) -> None:
        """Start the engine, and wait until it answers."""
        command = ["dockerd", "--data-root", str(self.data), "--exec-root", str(self.run / "exec")]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--host", f"unix://{self.socket}", "--pidfile", str(self.run / "pid"), *OPTIONS],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until = time.monotonic() + timeout
        while True:
            with suppress(OSError, ValueError):
                if self.ask("GET", "/version"):
                    return
            if self._process.poll() is not None or time.monotonic() > until:
                raise MachineError(f"dockerd does not answer:\n{tail(self.log)}")
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the engine: in order, with its containers, or by another signal."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None

    def close(self) -> None:
        """Remove the engine, its containers and its files."""
        if self._process is not None and self._process.poll() is None:
            with suppress(OSError, RuntimeError, ValueError):
                self.clear()
            self.stop()
        mounts = [line.split(" ")[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in reversed(mounts):  # an engine that was killed leaves some
            if mount.startswith((str(self.data), str(self.run))):
                subprocess.run(["umount", "--lazy", mount], check=False)
        for path in (self.data, self.run):
            remove_tree(path)

    def _image(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            binaries = Path(folder, "bin")
            binaries.mkdir()
            Path(folder, "tmp").mkdir()
            shutil.copy(str(shutil.which("busybox")), binaries / "busybox")
            for tool in TOOLS:
                (binaries / tool).symlink_to("busybox")
            image = subprocess.run(
                ["tar", "-C", folder, "-c", "."], stdout=subprocess.PIPE, check=True
            ).stdout
        self.ask("POST", f"/images/create?fromSrc=-&repo={IMAGE}", image)

    def ask(self, method: str, target: str, body: Any = None) -> Any:
        """Ask the engine; return its answer, the last of several, None if it is empty.

        Raises:
            OSError: it does not answer.
            RuntimeError: it refuses.
        """
        lines = self._asked(method, target, body).splitlines()
        return json.loads(lines[-1]) if lines else None

    def events(self, name: str, since: float) -> list[tuple[str, float]]:
        """Return what happened to a container since a time, with the times: seconds since 1970."""
        filters = quote(json.dumps({"container": [name]}))
        target = f"/events?since={since:.6f}&until={time.time():.6f}&filters={filters}"
        found = map(json.loads, self._asked("GET", target, None).splitlines())
        return [(str(item["Action"]), item["timeNano"] / 1e9) for item in found]

    def _asked(self, method: str, target: str, body: Any) -> bytes:
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        kind = "application/x-tar" if isinstance(body, bytes) else "application/json"
        lines = [f"{method} {target} HTTP/1.0", "Host: d", f"Content-Type: {kind}"]
        head = "\r\n".join([*lines, f"Content-Length: {len(raw)}", "", ""])
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(60)
            one.connect(self.socket)
            one.sendall(head.encode() + raw)
            with one.makefile("rb") as stream:
                said, _, answer = stream.read().partition(b"\r\n\r\n")
        status = int(said.split(b" ")[1]) if b" " in said else 0
        if not 200 <= status < 400:
            raise RuntimeError(f"{method} {target}: {status} {answer.decode(errors='replace')}")
        return answer.strip()

    def create(
        self,
        name: str,
        command: str = "sleep 1000",
        *,
        restart: str = "no",
        check: str = "",
        labels: Mapping[str, str] | None = None,
        memory: int = 0,
        start_period: float = 0,
        **host: Any,
    ) -> str:
        """Make a container and return its id.

        Args:
            name: its name.
            command: a line of shell.
            restart: its policy, on-failure:N included.
            check: a health check's line of shell, each second, twice; "" for none.
            labels: its labels.
            memory: most bytes, 0 for no limit.
            start_period: seconds in which failing health checks do not count.
            host: more of HostConfig.
        """
        policy, _, retries = restart.partition(":")
        second = 1_000_000_000
        health = {
            "Test": ["CMD-SHELL", check],
            "Interval": second,
            "Timeout": 5 * second,
            "Retries": 2,
            "StartPeriod": round(start_period * second),
        }
        wanted = {
            "Image": IMAGE,
            "Cmd": ["sh", "-c", command],
            "Env": ["PASSWORD=hunter2"],
            "Labels": dict(labels or {}),
            "StopTimeout": 1,
            **({"Healthcheck": health} if check else {}),
            "HostConfig": {
                "NetworkMode": "none",
                "Memory": memory,
                "RestartPolicy": {"Name": policy, "MaximumRetryCount": int(retries or 0)},
                **host,
            },
        }
        return str(self.ask("POST", f"/containers/create?name={quote(name)}", wanted)["Id"])

    def run_one(self, name: str, command: str = "sleep 1000", **more: Any) -> str:
        """Make and start a container, and return its id; see `create`."""
        made = self.create(name, command, **more)
        self.do(name, "start")
        return made

    def do(self, name: str, verb: str, query: str = "") -> None:
        """Start, stop, kill, pause ... a container."""
        self.ask("POST", f"/containers/{name}/{verb}{query}")

    def inspect(self, name: str) -> Any:
        """Return what the engine says of a container."""
        return self.ask("GET", f"/containers/{name}/json")

    def execute(self, name: str, command: str) -> None:
        """Run a line of shell in a container."""
        made = self.ask("POST", f"/containers/{name}/exec", {"Cmd": ["sh", "-c", command]})
        self.ask("POST", f"/exec/{made['Id']}/start", {"Detach": True})

    def clear(self) -> None:
        """Remove all containers."""
        for one in self.ask("GET", "/containers/json?all=1") or ():
            with suppress(RuntimeError):
                self.ask("DELETE", f"/containers/{one['Id']}?force=1")


class Proxied:
    """rota-docker-proxy before an engine, on a socket that is listened on as systemd does."""

    def __init__(self, docker: Docker, rules: Proxy) -> None:
        self.socket = str(docker.run / "proxy.sock")
        self._config = docker.run / "proxy.json"
        self._config.write_text(to_json(rules))
        self._listening = socket.socket(socket.AF_UNIX)
        Path(self.socket).unlink(missing_ok=True)
        self._listening.bind(self.socket)
        self._listening.listen(64)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; who connected before waits for it."""
        code = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid())\n"
        code += "from rota_agents.home_keeper.proxy import main; sys.exit(main(['--config', sys.argv[2]]))"
        number = self._listening.fileno()
        with self._config.with_suffix(".log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code, str(number), str(self._config)],
                pass_fds=[number],
                env={**os.environ, "LISTEN_FDS": "1"},
                stderr=log,
            )

    def kill(self) -> None:
        """Kill it, with all its connections."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """Kill it and listen no longer."""
        self.kill()
        self._listening.close()
