"""Asks the journal whether somebody stopped a unit: systemd itself does not remember."""

from __future__ import annotations

_STOPPED = "9d1aaa27d60140bd96365438aad20286"
_OTHER = (
    "39f53479d3a045ac8e11786248231fbf",  # started
    "7ad2d189f7e94e70a38c781354912448",  # deactivated
    "d9b373ed55a64feb8242e02dbe79a49c",  # failed
)
"""Message ids of systemd's (systemd.journal-fields(7), sd-messages.h)."""


def stopped_by_request(unit: str) -> bool:
    """Return whether the last that happened to a unit in this boot is that a job stopped it.

    systemd logs "Stopped" for jobs only. False also where the journal cannot be read, or no longer says.
    """
    try:
        from systemd import journal  # noqa: PLC0415  (a C library, for units that were stopped before we began)
    except ImportError:
        return False
    try:
        with journal.Reader(flags=journal.LOCAL_ONLY | journal.SYSTEM) as reader:
            reader.this_boot()
            reader.add_match(_PID="1")
            reader.add_match(UNIT=unit)
            for message in (_STOPPED, *_OTHER):
                reader.add_match(MESSAGE_ID=message)
            reader.seek_tail()
            entry = reader.get_previous()
    except OSError:
        return False
    return str(entry.get("MESSAGE_ID", "")).replace("-", "") == _STOPPED
