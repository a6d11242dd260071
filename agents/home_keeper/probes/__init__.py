"""Probes: where facts come from. Each may fail, and none may wait for ever."""


class Unavailable(Exception):  # noqa: N818  (it says what is missing, not that something broke)
    """A probe cannot look, because of how this machine is set up; the text says what to do about it."""
