"""Machine: a booted Debian with a real systemd in a container, gone without trace when closed.

A machine is an overlay over the shared root file system, mounted in a mount namespace of its own, so that
no mount outlives its processes. Whoever holds the lock on `.cache/machines/NAME/lock` owns the machine;
a machine whose lock is free was left behind by a killed parent, and `sweep` removes it.
"""

from __future__ import annotations

import atexit
import fcntl
import itertools
import os
import secrets
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self, TypeVar

from tests.machine import cgroup
from tests.machine.rootfs import (
    CACHE,
    HOSTNAME,
    MachineError,
    ensure_rootfs,
    locked,
    missing_tools,
    remove_tree,
    say,
    tail,
)

MACHINES = CACHE / "machines"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
POWER_OFF = signal.SIGRTMIN + 4

BOOT = """set -eu
rootfs=$1 machine=$2 volatile=$3 groups=$4; shift 4
for group in $groups; do echo $$ >"$group/cgroup.procs"; done
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn
disk=$machine/disk
if [ "$volatile" = yes ]; then mount -t tmpfs -o mode=755 tmpfs "$disk"; fi
mkdir -p "$disk/upper" "$disk/work"
# relative paths: overlay takes no commas and colons in them, and the checkout may be anywhere
mount -t overlay -o "lowerdir=$rootfs,upperdir=$disk/upper,workdir=$disk/work" overlay "$machine/root"
exec "$@"
"""
# a group of its own inside the machine's: to kill a command with all it started
ENTER = 'echo $$ >"$0/cgroup.procs" && exec "$@"'

PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
Command = str | Sequence[str]
T = TypeVar("T")


class CommandError(MachineError):
    """A command in the machine failed.

    Attributes:
        result: its exit status and output.
    """

    def __init__(self, result: subprocess.CompletedProcess[str]) -> None:
        self.result = result
        said = "\n".join(part.strip() for part in (result.stdout, result.stderr) if part.strip())
        super().__init__(f"`{result.args}` exited with {result.returncode}:\n{said or '(no output)'}")


def missing() -> str | None:
    """Return why no machine can be booted on this host, or None if one can."""
    if os.geteuid() != 0:
        return "not root: systemd-nspawn needs it (run the same as root)"
    tools = missing_tools("systemd-nspawn", "mmdebstrap", "nsenter", "unshare", "setpriv")
    if tools:
        return f"{', '.join(tools)} not installed (run tests/machine/setup.sh)"
    if cgroup.unified() is None:
        return f"no cgroup v2 hierarchy at {cgroup.SYS} or {cgroup.SYS}/unified"
    if "overlay" not in Path("/proc/filesystems").read_text(encoding="ascii"):
        subprocess.run(["modprobe", "overlay"], stderr=subprocess.DEVNULL, check=False)
        if "overlay" not in Path("/proc/filesystems").read_text(encoding="ascii"):
            return "the kernel has no overlayfs"
    for probe in cgroup.groups(f"rota-probe-{os.getpid()}"):
        try:
            probe.mkdir()
            probe.rmdir()
        except OSError as error:
            return f"cannot make a control group: {error}"
    return None


class Machine:
    """A booted machine; a context manager that starts it, and closes it at the end.

    Start it from a thread that outlives it: the machine is told to power off when that thread ends.
    """

    def __init__(self, *, persistent: bool = False, options: Sequence[str] = ()) -> None:
        """Describe a machine; `start` boots it.

        Args:
            persistent: keep the disk between `power_off_hard` or `stop` and the next `start`.
            options: more options for systemd-nspawn, such as --bind-ro=/from:/to.
        """
        self.name = f"rota-{secrets.token_hex(4)}"
        self.persistent = persistent
        self.options = tuple(options)
        self.directory = MACHINES / self.name
        self.log = self.directory / "console.log"
        self._lock: int | None = None
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._init: int | None = None
        self._visits = itertools.count(1)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def init(self) -> int:
        """The machine's PID 1, as the host numbers it."""
        if self._init is None:
            raise MachineError(f"machine {self.name} is not running; call start() first")
        return self._init

    def start(self, timeout: float = 60) -> None:
        """Boot, and return when the machine is up."""
        if self._nspawn is not None:
            raise MachineError(f"machine {self.name} is running already")
        reason = missing()
        if reason:
            raise MachineError(f"cannot boot a machine: {reason}")
        rootfs = ensure_rootfs()
        self._claim()
        for group in cgroup.groups(self.name):
            group.mkdir()
        try:
            self._boot(rootfs.name, timeout)
        except BaseException:
            self.close()
            raise

    def _claim(self) -> None:
        if self._lock is not None:
            return
        _close_at_exit()
        sweep()
        with locked(CACHE / "machines.lock"):
            for path in (self.directory / "disk", self.directory / "root"):
                path.mkdir(parents=True)
            self._lock = os.open(self.directory / "lock", os.O_CREAT | os.O_RDWR)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        _open.append(self)

    def _boot(self, rootfs: str, timeout: float) -> None:
        machine = self.directory.relative_to(CACHE)
        command = [
            *("setpriv", "--pdeathsig", "TERM", "unshare", "--mount", "sh", "-c", BOOT, "boot"),
            *(rootfs, str(machine), "no" if self.persistent else "yes"),
            " ".join(str(group) for group in cgroup.groups(self.name)),
            *("systemd-nspawn", "--quiet", f"--directory={machine}/root", f"--machine={self.name}"),
            *("--boot", "--register=no", "--keep-unit", f"--hostname={HOSTNAME}", "--private-network"),
            *("--resolv-conf=off", "--timezone=off", "--link-journal=no"),
            # without bpf, address and device filters of units are silently off
            *("--system-call-filter=bpf", *self.options),
        ]
        with self.log.open("ab") as log:
            self._nspawn = subprocess.Popen(
                command,
                cwd=CACHE,
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout
        self._init = self._until(deadline, self._find_init)
        self._until(deadline, Path(f"/proc/{self._init}/root/run/systemd/private").exists)
        self._until(deadline, self._is_up)

    def _until(self, deadline: float, ready: Callable[[], T | None]) -> T:
        assert self._nspawn is not None
        while self._nspawn.poll() is None:
            result = ready()
            if result:
                return result
            if time.monotonic() > deadline:
                raise MachineError(f"machine {self.name} did not come up in time:\n{tail(self.log)}")
            time.sleep(0.01)
        raise MachineError(
            f"machine {self.name} ended while booting (status {self._nspawn.returncode}):\n{tail(self.log)}"
        )

    def _find_init(self) -> int | None:
        assert self._nspawn is not None
        for pid in cgroup.processes(cgroup.groups(self.name)[0]):
            with suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
                fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
                if int(fields["PPid"]) == self._nspawn.pid and fields["NSpid"].split()[1:] == ["1"]:
                    return pid
        return None

    def _is_up(self) -> bool:
        enter = ["nsenter", "-t", str(self._init), "-a", "systemctl", "is-system-running", "--wait"]
        state = subprocess.run(enter, capture_output=True, text=True, check=False).stdout.strip()
        return state in ("running", "degraded")

    def stop(self, timeout: float = 60) -> None:
        """Power off in order."""
        self._send(POWER_OFF, timeout)

    def power_off_hard(self) -> None:
        """Pull the plug: nothing in the machine gets to know."""
        self._send(signal.SIGKILL, 10)

    def _send(self, number: int, timeout: float) -> None:
        if self._nspawn is None:
            return
        with suppress(ProcessLookupError):
            os.kill(self.init, number)
        try:
            self._nspawn.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise MachineError(
                f"machine {self.name} did not stop within {timeout:g} s:\n{tail(self.log)}"
            ) from error
        finally:
            for group in cgroup.groups(self.name):
                cgroup.remove(group)
            self._nspawn.wait()
            self._nspawn = self._init = None

    def close(self) -> None:
        """Pull the plug and remove the machine with its disk."""
        for group in cgroup.groups(self.name):
            cgroup.remove(group)
        if self._nspawn is not None:
            self._nspawn.wait()
        self._nspawn = self._init = None
        if self._lock is not None:
            remove_tree(self.directory)
            os.close(self._lock)
            self._lock = None
            _open.remove(self)

    def run(
        self,
        command: Command,
        *,
        user: str | None = None,
        check: bool = True,
        input: str | bytes | None = None,
        timeout: float = 60,
        cwd: str = "/",
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program with its arguments, or a line of bash, as root or as another user.

        Raises:
            CommandError: it failed, and `check` was asked for.
            MachineError: it took longer than `timeout`, and was killed with all it started.
        """
        data = input.encode() if isinstance(input, str) else input
        group = self._visit()
        stdin = subprocess.DEVNULL if data is None else subprocess.PIPE
        with self._enter(group, command, user, cwd, env, stdin=stdin, **PIPES) as process:
            try:
                output, errors = process.communicate(data, timeout)
            except BaseException as error:
                cgroup.kill(group)
                output, errors = process.communicate()
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                said = (output + errors).decode(errors="replace").strip() or "(no output)"
                raise MachineError(
                    f"`{_line(command)}` took longer than {timeout:g} s and was killed:\n{said}"
                ) from None
        # what a command leaves running keeps its group
        with suppress(OSError):
            group.rmdir()
        result = subprocess.CompletedProcess(
            _line(command),
            process.returncode,
            output.decode(errors="replace"),
            errors.decode(errors="replace"),
        )
        if check and result.returncode:
            raise CommandError(result)
        return result

    def popen(
        self,
        command: Command,
        *,
        user: str | None = None,
        cwd: str = "/",
        env: Mapping[str, str] | None = None,
        stdin: int | None = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        """Start a command as `run` does, and return without waiting for it."""
        return self._enter(self._visit(), command, user, cwd, env, stdin=stdin, **PIPES)

    def _visit(self) -> Path:
        """Make a control group for one command, inside the machine's."""
        scope = cgroup.of_process(self.init)
        top = scope.parent if scope.name == "init.scope" else scope
        group = top / f"visit-{next(self._visits)}"
        group.mkdir()
        return group

    def _enter(
        self,
        group: Path,
        command: Command,
        user: str | None,
        cwd: str,
        env: Mapping[str, str] | None,
        **streams: int | None,
    ) -> subprocess.Popen[bytes]:
        arguments = ["bash", "-c", command] if isinstance(command, str) else list(command)
        become = [] if user is None else ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        settings = [f"{key}={value}" for key, value in {**self._environment(user), **(env or {})}.items()]
        return subprocess.Popen(
            [
                *("sh", "-c", ENTER, str(group), "nsenter", "-t", str(self.init), "-a", "--"),
                *("env", "-i", f"--chdir={cwd}", *settings, *become, *arguments),
            ],
            stdin=streams.get("stdin"),
            stdout=streams.get("stdout"),
            stderr=streams.get("stderr"),
        )

    def _environment(self, user: str | None) -> dict[str, str]:
        name = user or "root"
        uid, home = self.account(name)
        environment = {
            "PATH": PATH,
            "LANG": "C.UTF-8",
            "TERM": os.environ.get("TERM", "dumb"),
            "HOME": home,
            "USER": name,
            "LOGNAME": name,
            "SHELL": "/bin/bash",
        }
        runtime = f"/run/user/{uid}"
        if Path(f"/proc/{self.init}/root{runtime}/bus").exists():
            environment["XDG_RUNTIME_DIR"] = runtime
            environment["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={runtime}/bus"
        return environment

    def account(self, user: str) -> tuple[int, str]:
        """Return the uid and home directory of a user of the machine."""
        accounts = Path(f"/proc/{self.init}/root/etc/passwd").read_text(encoding="utf-8")
        for line in accounts.splitlines():
            name, _, uid, _, _, home, _ = line.split(":")
            if name == user:
                return int(uid), home
        raise MachineError(f"machine {self.name} has no user {user}")

    def linger(self, user: str) -> None:
        """Start the user's own service manager, as a login would; `run(user=…)` then reaches it."""
        uid, _ = self.account(user)
        self.run(["loginctl", "enable-linger", user])
        self.wait_for(["systemctl", "is-active", f"user@{uid}.service"])

    def read(self, path: str) -> str:
        """Return the text of a file."""
        return self.run(["cat", path]).stdout

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file, with the directories above it."""
        self.run(["install", "-D", f"--mode={mode:o}", "/dev/stdin", path], input=text)

    def exists(self, path: str) -> bool:
        """Say whether a path exists."""
        return self.run(["test", "-e", path], check=False).returncode == 0

    def copy_in(self, base: Path, names: Sequence[str], to: str) -> None:
        """Copy files and directories below `base` into the directory `to`, owned by root."""
        tar = ["tar", "-C", str(base), "--exclude=__pycache__", "--owner=0", "--group=0", "-c", "--", *names]
        archive = subprocess.run(tar, stdout=subprocess.PIPE, check=True).stdout
        self.run(["mkdir", "-p", to])
        self.run(["tar", "-C", to, "-x"], input=archive)

    def wait_for(
        self, condition: Callable[[], T | None] | Command, timeout: float = 10, what: str = ""
    ) -> T | None:
        """Wait until a function returns something true, or a command exits with 0; return the former."""
        deadline = time.monotonic() + timeout
        while True:
            said = ""
            if callable(condition):
                value = condition()
                if value:
                    return value
            else:
                result = self.run(condition, check=False)
                if result.returncode == 0:
                    return None
                said = f", which last exited with {result.returncode}:\n{result.stdout}{result.stderr}"
            if time.monotonic() > deadline:
                waited = what or (repr(condition) if callable(condition) else f"`{_line(condition)}`")
                raise MachineError(f"waited {timeout:g} s in vain for {waited}{said}")
            time.sleep(0.02)

    def shell(self) -> int:
        """Open an interactive root shell on this terminal, and return its exit status."""
        bash: Command = ["bash", "--login"]
        if os.isatty(0):
            # a terminal of the machine's own; the host's has no name in there
            bash = ["script", "--quiet", "--return", "--command", "bash --login", "/dev/null"]
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            return self._enter(self._visit(), bash, None, "/root", None).wait()
        finally:
            signal.signal(signal.SIGINT, previous)


_open: list[Machine] = []


def sweep() -> list[str]:
    """Remove machines whose parent was killed, and return their names."""
    swept = []
    MACHINES.mkdir(parents=True, exist_ok=True)
    with locked(CACHE / "machines.lock"):
        for directory in sorted(MACHINES.iterdir()):
            with (directory / "lock").open("a") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                say(f"removing {directory.name}, left behind by a process that was killed")
                for group in cgroup.groups(directory.name):
                    cgroup.remove(group)
                remove_tree(directory)
                swept.append(directory.name)
    return swept


def _close_all() -> None:
    for machine in reversed(_open):
        machine.close()


def _close_and_die(number: int, frame: FrameType | None) -> None:
    _close_all()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _close_at_exit() -> None:
    atexit.unregister(_close_all)
    atexit.register(_close_all)
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, _close_and_die)


def _line(command: Command) -> str:
    return command if isinstance(command, str) else shlex.join(command)
