"""The only user of asyncssh: asks another machine one fixed question, and believes it nothing else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rota.unit_watches import Host

from ..checks.words import SECOND, Malformed, clip, size, span
from . import Unavailable
from .credentials import of, secret

if TYPE_CHECKING:
    from asyncssh import SSHClientConnection

COMMAND = "rota-probe units"
"""What is asked, whatever command its authorized_keys forces."""
MOST = 8 * 1024 * 1024
"""Bytes of an answer; some 20,000 units."""
_MOST_ERROR = 2000
_KEEPALIVE = 15
_LOST_AFTER = 2
"""Questions whether it is there, without an answer."""


class Unreachable(Exception):  # noqa: N818  (it says what is so, for now)
    """A machine gives no answer; the text says why. It may be back any moment."""


class Connection:
    """A connection to a machine, made when it is needed and kept."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._connection: SSHClientConnection | None = None

    async def ask(self) -> bytes:
        """Return what the machine says of its units.

        Raises:
            Unreachable: it gives no answer in time.
            Unavailable: it cannot be asked, or is another machine, until somebody does something.
            Malformed: it says more than it can have to say.
        """
        try:
            async with asyncio.timeout(self._host.timeout / SECOND):
                return await self._answer()
        except TimeoutError:
            self.close()
            raise Unreachable(f"no answer within {span(self._host.timeout)}") from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give up the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()

    async def _answer(self) -> bytes:
        try:
            import asyncssh  # noqa: PLC0415  (only where other machines are watched: 20 MiB)
        except ImportError:
            raise Unavailable("asyncssh is missing; install python3-asyncssh") from None
        host = self._host
        where = f"{host.address} port {host.port}"
        try:
            if self._connection is None:
                self._connection = await self._connect()
            return await self._run(self._connection)
        except asyncssh.HostKeyNotVerifiable:
            raise Unavailable(
                f"{where} is not the machine of known_hosts, or has new keys; compare them with those that "
                f"ssh-keyscan -p {host.port} {host.address} prints"
            ) from None
        except asyncssh.PermissionDenied:
            raise Unavailable(
                f"{where} does not let {host.user} in with this key; look at authorized_keys there"
            ) from None
        except (asyncssh.Error, OSError) as error:
            told = str(error) or type(error).__name__
            raise Unreachable(f"{where}: {clip(told, 200)}") from None

    async def _connect(self) -> SSHClientConnection:
        import asyncssh  # noqa: PLC0415

        host = self._host
        try:
            key = asyncssh.import_private_key(secret(host.key, host.key_file))
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
            told = f"the credential {host.key} is no private key: {clip(str(error))}{of(host.key_file)}"
            raise Unavailable(told) from None
        try:
            known = asyncssh.import_known_hosts(secret(host.known_hosts, host.known_hosts_file))
        except ValueError as error:
            told = f"the credential {host.known_hosts}: {clip(str(error))}{of(host.known_hosts_file)}"
            raise Unavailable(told) from None
        return await asyncssh.connect(
            host.address,
            host.port,
            username=host.user,
            client_keys=[key],
            known_hosts=known,
            # Nothing but this key, and nothing of what a person has in ~/.ssh.
            config=None,
            preferred_auth="publickey",
            agent_path=None,
            password_auth=False,
            kbdint_auth=False,
            host_based_auth=False,
            gss_auth=False,
            gss_kex=False,
            agent_forwarding=False,
            x11_forwarding=False,
            keepalive_interval=_KEEPALIVE,
            keepalive_count_max=_LOST_AFTER,
        )

    async def _run(self, connection: SSHClientConnection) -> bytes:
        import asyncssh  # noqa: PLC0415

        answer = bytearray()
        async with await connection.create_process(COMMAND, stdin=asyncssh.DEVNULL, encoding=None) as process:
            while chunk := await process.stdout.read(65536):
                answer += chunk
                if len(answer) > MOST:
                    self.close()
                    raise Malformed(f"{self._host.address} says more than {size(MOST)}")
            error = await process.stderr.read(_MOST_ERROR)
            await process.wait_closed()
            if process.exit_status != 0:
                said = clip(error.decode(errors="replace"), 200) or f"status {process.exit_status}"
                raise Unavailable(f"{COMMAND} fails on {self._host.address}: {said}")
        return bytes(answer)
