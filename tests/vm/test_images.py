# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import gzip
import io
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from common.errors import HostError, KernelError
from tests.vm.test_cpio import members
from vm import modules, rootfs


@pytest.fixture(name="root", scope="module")
def _root() -> dict[str, bytes]:
    stream = io.BytesIO()
    rootfs.write_root(stream)
    assert stream.tell() < 25 << 20
    return {name: content for name, (_, content, _) in members(stream.getvalue()).items()}


def test_the_root_has_python_and_the_agent(root: dict[str, bytes]) -> None:
    """The interpreter, its libraries, what scenarios import, and every file of the agent are there."""
    library = next(name.removesuffix("/os.pyc") for name in root if name.endswith("/os.pyc"))
    wanted = {"init.py", "suite/vm/guest/init.py", "suite/vm/guest/agent.py", "usr/bin/python3", "proc", "dev/console"}
    wanted |= {
        f"{library}/{name}.pyc" for name in ("ctypes/__init__", "socket", "json/decoder", "random", "dataclasses")
    }
    assert wanted <= set(root)
    assert any(name.startswith(f"{library}/lib-dynload/_ctypes.") for name in root)
    assert any("libc.so" in name for name in root)
    assert not any("/test/" in name or name.startswith(f"{library}/idlelib") for name in root)


def test_the_root_is_named_by_the_agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A changed agent is another root image, an unchanged one the same."""
    before = rootfs.key()
    assert rootfs.key() == before
    changed = tmp_path / "agent.py"
    changed.write_text("print('other')\n")
    monkeypatch.setattr(rootfs, "agent_sources", lambda: [changed])
    assert rootfs.key() != before


def test_a_host_without_python_is_named() -> None:
    """Without python3 on the host, the error names it."""
    with pytest.raises(HostError, match="/nowhere/python3"):
        rootfs.write_root(io.BytesIO(), Path("/nowhere/python3"))


def test_modules_are_shipped_plain_and_in_order(tmp_path: Path) -> None:
    """However they are compressed on the host, the guest gets what finit_module takes, in load order."""
    pack: dict[str, Callable[[bytes], bytes]] = {
        "virtio.ko.xz": lzma.compress,
        "vsock.ko.gz": gzip.compress,
        "tls.ko.zst": zstandard.ZstdCompressor().compress,
        "plain.ko": bytes,
    }
    files = [tmp_path / name for name in pack]
    for path in files:
        path.write_bytes(pack[path.name](path.name.encode()))
    stream = io.BytesIO()
    modules.write_modules(stream, files)
    found = members(stream.getvalue())
    assert found["modules/order"][1].split() == [b"virtio.ko", b"vsock.ko", b"tls.ko", b"plain.ko"]
    assert found["modules/tls.ko"][1] == b"tls.ko.zst"


@pytest.mark.parametrize("suffix", ["xz", "gz", "zst"])
def test_a_damaged_module_is_named(tmp_path: Path, suffix: str) -> None:
    """A module that cannot be unpacked is the kernel's fault, in one sentence."""
    path = tmp_path / f"virtio.ko.{suffix}"
    path.write_bytes(b"rubbish")
    with pytest.raises(KernelError, match=f"virtio.ko.{suffix}"):
        modules.write_modules(io.BytesIO(), [path])
