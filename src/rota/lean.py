"""Keeps out what libraries import in passing and rota never uses; import it before them.

dbus-next takes GLib along where PyGObject is installed (`no_glib`), and asyncio OpenSSL: together a third of
rotad's memory at rest and of the time `rota list` takes to start.
"""

from __future__ import annotations

import sys

import rota.no_glib  # noqa: F401

if "ssl" not in sys.modules:
    sys.modules["ssl"] = None  # type: ignore[assignment]  # makes `import ssl` raise ImportError
