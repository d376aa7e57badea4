# SPDX-License-Identifier: GPL-2.0-only
"""Small fake kernels, modules, packages and archives, real enough for the tools that read them."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from kernels import apt

NEEDS_APT = pytest.mark.skipif(
    shutil.which("apt-get") is None or not apt.HELPER.exists(), reason="only a Debian machine has apt"
)
"""The mark of a test that has apt read an archive."""
RELEASE = "6.12.95+deb12-amd64"
BANNER = f"Linux version {RELEASE} (a@b) (gcc (Debian 14.2.0-19) 14.2.0) #1 SMP Debian 6.12.95-1 (2026-01-02)"
CONFIG = """\
CONFIG_NET=y
CONFIG_INET=y
CONFIG_BPF_SYSCALL=y
CONFIG_BLK_DEV_INITRD=y
CONFIG_BINFMT_ELF=y
CONFIG_VIRTIO_PCI=y
CONFIG_VIRTIO_CONSOLE=y
CONFIG_LOCALVERSION="-fake"
# CONFIG_TLS is not set
"""

XEN_ENTRY = (b"Xen", 18, struct.pack("<Q", 0x1000000))
BUILD_ID = (b"GNU", 3, bytes(range(20)))


def vmlinux(
    banner: str = BANNER, config: str = "", notes: tuple[tuple[bytes, int, bytes], ...] = (XEN_ENTRY, BUILD_ID)
) -> bytes:
    """Return an ELF file with a PT_NOTE segment, a banner and, if asked for, an embedded configuration."""
    body = b""
    for name, kind, value in notes:
        body += struct.pack("<III", len(name) + 1, len(value), kind) + _padded(name + b"\0") + _padded(value)
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, 0x1000000, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    program = struct.pack("<IIQQQQQQ", 4, 4, 120, 0, 0, len(body), len(body), 4)
    embedded = b"IKCFG_ST" + gzip.compress(config.encode()) + b"IKCFG_ED" if config else b""
    return header + program + body + b"\0" + banner.encode() + b"\n\0" + embedded + bytes(4096)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def bzimage(payload: bytes, banner: str = BANNER) -> bytes:
    """Return a boot image around a payload, with the setup header that the boot protocol asks for."""
    setup = bytearray(1024)
    setup[0x1F1] = 1
    setup[0x1FE:0x200] = b"\x55\xaa"
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, 0x20F)
    struct.pack_into("<H", setup, 0x20E, 0x100)
    struct.pack_into("<H", setup, 0x236, 1)
    text = banner.removeprefix("Linux version ").encode() + b"\0"
    setup[0x300 : 0x300 + len(text)] = text[:250]
    data = payload + struct.pack("<I", 4711)  # the size, as the kernel's build appends it
    struct.pack_into("<II", setup, 0x248, 16, len(data))
    return bytes(setup) + bytes(16) + data


def module(name: str, depends: str = "") -> bytes:
    """Return a relocatable ELF file that depmod accepts as a module."""
    info = f"name={name}\0depends={depends}\0license=GPL\0".encode()
    names = b"\0.modinfo\0.shstrtab\0"
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 1, 62, 1, 0, 0, 64 + len(info) + len(names), 0, 64, 0, 0, 64, 3, 2
    )
    sections = [
        struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        struct.pack("<IIQQQQIIQQ", 1, 1, 2, 0, 64, len(info), 0, 0, 1, 0),
        struct.pack("<IIQQQQIIQQ", 10, 3, 0, 0, 64 + len(info), len(names), 0, 0, 1, 0),
    ]
    return header + info + names + b"".join(sections)


def package(folder: Path, name: str, files: dict[str, bytes]) -> Path:
    """Build a .deb holding `files`."""
    root = folder / f"{name}.root"
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(
        f"Package: {name}\nVersion: 6.12.95-1\nArchitecture: amd64\n"
        "Maintainer: nobody <nobody@invalid>\nDescription: fake\n"
    )
    target = folder / f"{name}.deb"
    # fmt: off
    subprocess.run([
        "dpkg-deb",
        "-Zgzip",
        "--build", str(root), str(target),
    ], check=True, capture_output=True)
    # fmt: on
    shutil.rmtree(root)
    return target


def image_package(folder: Path, release: str = RELEASE, compress: Callable[[bytes], bytes] = gzip.compress) -> Path:
    """Build the package of a whole kernel."""
    banner = BANNER.replace(RELEASE, release)
    modules = f"lib/modules/{release}"
    return package(
        folder,
        f"linux-image-{release}",
        {
            f"boot/vmlinuz-{release}": bzimage(compress(vmlinux(banner)), banner),
            f"boot/config-{release}": CONFIG.encode(),
            f"{modules}/modules.builtin": b"kernel/net/unix/unix.ko\n",
            f"{modules}/modules.order": b"kernel/net/tls/tls.ko\n",
            f"{modules}/kernel/net/tls/tls.ko.gz": gzip.compress(module("tls")),
            f"{modules}/kernel/sound/soundcore.ko.gz": gzip.compress(module("soundcore")),
        },
    )


class _SilentHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the parent's name for it
        pass


class FakeArchive:
    """A Debian archive in a directory, unsigned, and an /etc/apt that trusts it."""

    def __init__(self, root: Path, suite: str = "bookworm") -> None:
        self.root = root
        self.pool = root / "pool"
        self.pool.mkdir(parents=True)
        self.suite = suite
        self.port = 0
        self.stanzas: list[str] = []
        self.etc = root / "etc"
        (self.etc / "sources.list.d").mkdir(parents=True)
        (self.etc / "sources.list").write_text(f"deb [trusted=yes] copy:{root} {suite} main\n")
        self.publish()

    @contextmanager
    def served(self) -> Iterator[None]:
        """Serve the archive by HTTP, always at the same address."""
        handler = partial(_SilentHandler, directory=str(self.root))
        with ThreadingHTTPServer(("127.0.0.1", self.port), handler) as server:
            self.port = server.server_port
            (self.etc / "sources.list").write_text(
                f"deb [trusted=yes] http://127.0.0.1:{self.port} {self.suite} main\n"
            )
            thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()

    def add(self, deb: Path, *, name: str = "", version: str = "6.12.95-1", depends: str = "") -> Path:
        """Put a package into the pool and the index."""
        target = self.pool / deb.name
        deb.rename(target)
        data = target.read_bytes()
        self.stanzas.append(
            f"Package: {name or deb.stem}\nVersion: {version}\nArchitecture: amd64\nDepends: {depends or 'kmod'}\n"
            f"Filename: pool/{target.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
        )
        self.publish()
        return target

    def publish(self) -> None:
        """Write the index and the release file that vouches for it."""
        packages = "\n".join(self.stanzas).encode()
        path = Path("main/binary-amd64/Packages")
        suite = self.root / "dists" / self.suite
        (suite / path).parent.mkdir(parents=True, exist_ok=True)
        (suite / path).write_bytes(packages)
        digest = hashlib.sha256(packages).hexdigest()
        (suite / "Release").write_text(
            f"Origin: Debian\nSuite: oldstable\nCodename: {self.suite}\nArchitectures: amd64\nComponents: main\n"
            f"Date: Fri, 02 Jan 2026 00:00:00 UTC\nSHA256:\n {digest} {len(packages)} {path}\n"
        )
