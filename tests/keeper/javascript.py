"""Runs rules of polkit without polkitd: by duktape, which most polkitds are built with, or else by node."""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import shutil
import subprocess
from collections.abc import Iterable
from typing import Any

import pytest

_POLKIT = """
var rule_ = null;
var polkit = {
    Result: { YES: "yes", NO: "no", NOT_HANDLED: "not handled" },
    addRule: function (rule) { rule_ = rule; }
};
"""
_ASK = """
JSON.stringify(%s.map(function (ask) {
    var action = { id: ask.id, lookup: function (key) { return ask.details[key]; } };
    return rule_(action, { user: ask.user, isInGroup: function () { return false; } });
}));
"""
_EVAL, _SAFE, _NOSOURCE, _STRLEN, _NOFILENAME = 1 << 3, 1 << 7, 1 << 9, 1 << 10, 1 << 11


def _duktape(source: str) -> str | None:
    name = ctypes.util.find_library("duktape")
    if name is None:
        return None
    library = ctypes.CDLL(name)
    library.duk_create_heap.restype = ctypes.c_void_p
    library.duk_safe_to_lstring.restype = ctypes.c_char_p
    library.duk_safe_to_lstring.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
    library.duk_eval_raw.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint]
    library.duk_destroy_heap.argtypes = [ctypes.c_void_p]
    heap = library.duk_create_heap(None, None, None, None, None)
    try:
        flags = _EVAL | _SAFE | _NOSOURCE | _STRLEN | _NOFILENAME
        failed = library.duk_eval_raw(heap, source.encode(), 0, flags)
        found = bytes(library.duk_safe_to_lstring(heap, -1, None)).decode()
    finally:
        library.duk_destroy_heap(heap)
    assert not failed, found
    return found


def _node(source: str) -> str | None:
    program = shutil.which("node")
    if program is None:
        return None
    script = f"process.stdout.write(eval({json.dumps(source)}))"
    return subprocess.run([program, "-e", script], capture_output=True, text=True, check=True).stdout


def ask(rules: str, asked: Iterable[tuple[str, str, dict[str, str]]]) -> list[str]:
    """Return what rules say: yes, no or not handled; of triples of action, user and details."""
    asks = [{"id": action, "user": user, "details": details} for action, user, details in asked]
    source = f"{_POLKIT}\n{rules}\n{_ASK % json.dumps(asks)}"
    told = _duktape(source) or _node(source)
    if told is None:
        pytest.skip("neither duktape (libduktape207) nor node is installed")
    found: Any = json.loads(told)
    assert isinstance(found, list)
    return found
