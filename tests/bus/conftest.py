"""A private message bus for the tests in this directory."""

from __future__ import annotations

import select
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
  </policy>
  <limit name="max_replies_per_connection">50000</limit>
</busconfig>
"""


@pytest.fixture
def private_bus(tmp_path: Path) -> Iterator[str]:
    """The address of a dbus-daemon of the test's own, on which everything is allowed."""
    if shutil.which("dbus-daemon") is None:
        pytest.skip("dbus-daemon not installed (run tests/machine/setup.sh)")
    config = tmp_path / "bus.conf"
    config.write_text(CONFIG.format(socket=tmp_path / "bus"), encoding="utf-8")
    command = ["dbus-daemon", "--nofork", "--nopidfile", "--print-address=1", f"--config-file={config}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        try:
            readable, _, _ = select.select([daemon.stdout], [], [], 10)
            address = daemon.stdout.readline().strip() if readable else ""
            assert address, f"dbus-daemon gave no address within 10 s, exit status {daemon.poll()}"
            yield address
        finally:
            daemon.terminate()
