# SPDX-License-Identifier: GPL-2.0-only
"""What a hostile guest sees of the host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kernels.resolve import resolve
from vm import compose
from vm.launch import open_machine
from vm.machine import CallStatus, MachineKind, MachineOptions

pytestmark = pytest.mark.vm

PROBE = """
import ctypes, glob, os

libc = ctypes.CDLL(None, use_errno=True)

def _read(path):
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20)
    except OSError:
        return b""

def _tags():
    tags = {_read(path).rstrip(b"\\0\\n").decode() for path in glob.glob("/sys/bus/virtio/devices/*/mount_tag")}
    return sorted(filter(None, tags))

def _mounted(kind, tag, number):
    target = f"/tmp/probe{number}"
    os.makedirs(target, exist_ok=True)
    data = b"trans=virtio,version=9p2000.L,access=any" if kind == b"9p" else b""
    return target if not libc.mount(tag.encode(), target.encode(), kind, 0, data) else ""

def _found(root, needle):
    for folder, folders, files in os.walk(root):
        folders[:] = [each for each in folders if os.path.join(folder, each) not in ("/proc", "/sys", "/dev")]
        for name in files:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and needle in _read(path):
                yield path

def scan(arguments):
    needle, canary = arguments["needle"].encode(), arguments["canary"]
    places = ["/"]
    guesses = ["/dev/root", "virtme.guesttools", "virtme.cache", "ROOTFS", "host", "hostfs", "myfs"]
    for number, tag in enumerate([*_tags(), *guesses]):
        for kind in (b"9p", b"virtiofs"):
            places.append(_mounted(kind, tag, f"{number}{kind.decode()}"))
    found = [path for place in filter(None, places) for path in _found(place, needle)]
    found += [path for place in filter(None, [*places, "/proc/1/root"]) for path in [place + canary]
              if os.path.lexists(path)]
    written = []
    for place in filter(None, places[1:]):
        try:
            open(place + "/written", "w").close()
            written.append(place)
        except OSError:
            pass
    virtio = sorted(int(_read(path), 16) for path in glob.glob("/sys/bus/virtio/devices/*/device"))
    return {
        "found": found,
        "written": written,
        "tags": _tags(),
        "virtio": virtio,
        "disks": [name for name in os.listdir("/sys/block") if not name.startswith(("ram", "loop", "zram"))],
        "networks": [name for name in os.listdir("/sys/class/net")
                     if os.path.exists(f"/sys/class/net/{name}/device")],
        "disk bytes": [name for name in glob.glob("/dev/sd*") + glob.glob("/dev/vd*") + glob.glob("/dev/sr*")
                       if needle in _read(name)],
    }
"""

CONSOLE = 3
NINE_P = 9
"""Virtio device types: section 5 of the specification."""


@pytest.mark.parametrize("kind", [MachineKind.CLONE, MachineKind.COLD, MachineKind.VNG])
@pytest.mark.parametrize("spec", ["debian:5.10", "debian:6.12"])
def test_a_guest_finds_no_file_disk_or_network_of_the_host(spec: str, kind: MachineKind, tmp_path: Path) -> None:
    """A guest finds nothing but its console, and in a stock guest the root image made for it."""
    canary = tmp_path / "canary"
    needle = "a-canary-" + tmp_path.name
    canary.write_text(needle)
    beside = compose.guest_tools().parent / "resources.py"
    assert beside.is_file()

    machine = open_machine(resolve(spec), MachineOptions(kind=kind), bundle={}, warmup=None)
    try:
        machine.load({"probe": PROBE})
        reply = machine.call("probe:scan", {"needle": needle, "canary": str(canary)}, deadline=60.0)
    finally:
        machine.close()

    assert reply.status is CallStatus.ANSWERED, reply.error
    seen: dict[str, Any] = reply.value
    assert not seen["found"]
    assert not seen["written"]
    assert not seen["disks"]
    assert not seen["networks"]
    assert not seen["disk bytes"]
    is_stock = kind is MachineKind.VNG
    assert set(seen["virtio"]) == ({CONSOLE, NINE_P} if is_stock else {CONSOLE})
    assert seen["tags"] == (["/dev/root", "virtme.guesttools"] if is_stock else [])
    assert ("sees" in machine.info.why) is is_stock
