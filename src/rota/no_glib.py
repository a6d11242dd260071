"""Keeps out GLib, which dbus-next takes along where PyGObject is installed; import it before dbus-next."""

from __future__ import annotations

import sys

if "gi" not in sys.modules:
    sys.modules["gi"] = None  # type: ignore[assignment]  # makes `import gi` raise ImportError
