"""Where metrics may be listened for: on the machine itself, and nowhere else."""

from __future__ import annotations

import re
from ipaddress import ip_address

_PORT = re.compile(r"[1-9][0-9]{0,4}")
_PATH = re.compile(r"(?:/[A-Za-z0-9_@+=:,.-]+)+\.sock")
_LONGEST = 107
"""Bytes of a UNIX socket's path, unix(7)."""

EXAMPLE = "127.0.0.1:7682"
_OPEN = (
    f'metrics are served on this machine only; write "{EXAMPLE}", and let a proxy that asks who comes'
    " stand in front of it for others"
)


def _parsed(text: str) -> tuple[str, int]:
    """Return the address and the port that are written.

    Raises:
        ValueError: it is not an address of this machine with a port.
    """
    host, colon, port = text.rpartition(":")
    if not colon and _PORT.fullmatch(text):
        raise ValueError(f'a port alone would be open to the network; write "127.0.0.1:{text}"')
    if not colon or not host:
        raise ValueError(f'neither address and port nor an absolute path; write for example "{EXAMPLE}"')
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise ValueError(f'has no port from 1 to 65535; write for example "{EXAMPLE}"')
    if host == "localhost":
        raise ValueError(f'systemd takes no names of hosts; write "127.0.0.1:{port}"')
    return host, int(port)


def check(text: str) -> None:
    """Accept a loopback address with a port, or the absolute path of a UNIX socket (ListenStream=).

    Raises:
        ValueError: it is something else; with what to write instead.
    """
    if text.startswith("/"):
        if not _PATH.fullmatch(text) or ".." in text.split("/") or "." in text.split("/"):
            # systemd deletes what is in the place of a socket: a mistake here had better not name a file.
            raise ValueError(
                "must be an absolute path that ends in .sock, with letters, digits and _@+=:,.- between"
                ' slashes; write for example "/run/rota/metrics.sock"'
            )
        if len(text) > _LONGEST:
            raise ValueError(f"is longer than {_LONGEST} bytes, the most that a UNIX socket's path may have")
        return
    host, _ = _parsed(text)
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ip_address(bare)
    except ValueError:
        raise ValueError(f'"{host}" is not an IP address; write for example "{EXAMPLE}"') from None
    if (address.version == 6) != (bare != host):
        form = f"[{bare}]" if address.version == 6 else bare
        raise ValueError(f'write "{form}:{text.rpartition(":")[2]}"')
    mapped = address.version == 6 and str(address) != "::1"
    if mapped or not address.is_loopback:
        raise ValueError(_OPEN)
