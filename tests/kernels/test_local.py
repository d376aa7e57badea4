# SPDX-License-Identifier: GPL-2.0-only
"""Kernels that are here already: trees, unpacked packages, files, installed ones, the running one."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from common.errors import ConformError
from common.errors import ExitCode
from common.errors import KernelError
from common.errors import UsageError
from kernels import modules
from kernels import package
from kernels.resolve import resolve
from kernels.version import Version
from tests.kernels import fakes

RELEASE = fakes.RELEASE


def write(root: Path, files: dict[str, bytes]) -> Path:
    """Make files below a directory."""
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def boot_image(release: str = RELEASE, config: str = "") -> bytes:
    """Return a bzImage."""
    banner = fakes.BANNER.replace(RELEASE, release)
    return fakes.bzimage(gzip.compress(fakes.vmlinux(banner, config)), banner)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A kernel tree, built, with two modules."""
    return write(
        tmp_path / "linux",
        {
            "Makefile": b"",
            "Kconfig": b"",
            ".config": fakes.CONFIG.encode(),
            "arch/x86/boot/bzImage": boot_image(),
            "modules.order": b"net/tls/tls.o\nkernel/net/sctp/sctp.ko\nsound/soundcore.o\nnet/never/built.o\n",
            "modules.builtin": b"kernel/net/unix/unix.ko\n",
            "net/tls/tls.ko": fakes.module("tls"),
            "net/sctp/sctp.ko": fakes.module("sctp"),
            "sound/soundcore.ko": fakes.module("soundcore"),
        },
    )


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """An unpacked package, with its modules where merged-/usr systems have them."""
    return write(
        tmp_path / "unpacked",
        {
            f"boot/vmlinuz-{RELEASE}": boot_image(),
            f"boot/config-{RELEASE}": fakes.CONFIG.encode(),
            f"usr/lib/modules/{RELEASE}/kernel/net/tls/tls.ko.gz": gzip.compress(fakes.module("tls")),
        },
    )


def test_tree(tree: Path) -> None:
    """A built tree gives its image unpacked, its configuration, and an index of the modules the build made."""
    kernel = resolve(str(tree))
    assert (kernel.release, kernel.version, kernel.banner) == (RELEASE, Version(6, 12, 95), fakes.BANNER)
    assert kernel.compressed == tree / "arch/x86/boot/bzImage"
    assert kernel.image is not None
    assert kernel.image.read_bytes().startswith(b"\x7fELF")
    assert kernel.config["BPF_SYSCALL"] == "y"
    assert kernel.modules is not None
    assert modules.names(kernel.modules, RELEASE) == {"tls", "sctp"}


def test_tree_with_vmlinux_only(tree: Path) -> None:
    """A tree where only vmlinux was built boots that."""
    (tree / "arch/x86/boot/bzImage").unlink()
    (tree / "vmlinux").write_bytes(fakes.vmlinux())
    kernel = resolve(str(tree))
    assert (kernel.image, kernel.compressed) == (tree / "vmlinux", None)


def test_rebuilding_a_module_changes_the_digest(tree: Path) -> None:
    """A module built again makes another kernel; the same tree asked twice is the same."""
    first = resolve(str(tree))
    assert resolve(str(tree)) == first
    (tree / "net/tls/tls.ko").write_bytes(fakes.module("tls", "sctp"))
    second = resolve(str(tree))
    assert second.digest != first.digest
    assert second.modules != first.modules


def test_tree_not_built(tree: Path) -> None:
    """A tree that is not built cannot be judged; the hint says how to build it."""
    (tree / "arch/x86/boot/bzImage").unlink()
    with pytest.raises(KernelError, match=f"the tree {tree} is not built") as caught:
        resolve(str(tree))
    assert caught.value.exit_code == ExitCode.CANNOT_JUDGE
    assert "bzImage modules" in caught.value.hint


def test_unpacked_package(unpacked: Path) -> None:
    """An unpacked package gives image, configuration and modules, which stay compressed."""
    kernel = resolve(str(unpacked))
    assert (kernel.release, kernel.config["NET"]) == (RELEASE, "y")
    assert kernel.modules is not None
    file = modules.folder(kernel.modules, RELEASE) / "kernel/net/tls/tls.ko.gz"
    assert modules.plain(file.read_bytes(), file.name) == fakes.module("tls")


def test_directory_with_two_kernels(unpacked: Path) -> None:
    """A directory with several kernels does not say which; the user must."""
    write(unpacked, {"boot/vmlinuz-6.1.0-50-amd64": boot_image("6.1.0-50-amd64")})
    with pytest.raises(UsageError, match=r"holds several kernels: 6.1.0-50-amd64, 6.12.95"):
        resolve(str(unpacked))


def test_empty_directory(tmp_path: Path) -> None:
    """A directory that holds no kernel says what would have been one."""
    with pytest.raises(KernelError, match="holds no kernel"):
        resolve(str(tmp_path))


def test_file_in_a_tree(tree: Path) -> None:
    """The image of a tree finds the tree's modules and configuration."""
    kernel = resolve(str(tree / "arch/x86/boot/bzImage"))
    assert kernel.modules is not None
    assert modules.names(kernel.modules, RELEASE) == {"tls", "sctp"}
    assert kernel.config["LOCALVERSION"] == "-fake"


def test_file_in_a_package(unpacked: Path) -> None:
    """The image of an unpacked package finds the package's modules and configuration."""
    kernel = resolve(str(unpacked / "boot" / f"vmlinuz-{RELEASE}"))
    assert kernel.modules is not None
    assert kernel.config["LOCALVERSION"] == "-fake"


def test_file_alone(tmp_path: Path) -> None:
    """An image with nothing beside it has no modules, and the configuration it carries within."""
    kernel = resolve(str(write(tmp_path, {"bzImage": boot_image(config="CONFIG_NET=y\n")}) / "bzImage"))
    assert (kernel.modules, kernel.config) == (None, {"NET": "y"})


def test_vmlinux_without_pvh(tmp_path: Path) -> None:
    """A vmlinux that QEMU cannot start is refused, with what would help."""
    write(tmp_path, {"vmlinux": fakes.vmlinux(notes=(fakes.BUILD_ID,))})
    with pytest.raises(KernelError, match="no PVH note") as caught:
        resolve(str(tmp_path / "vmlinux"))
    assert "bzImage" in caught.value.hint


def test_bzimage_without_pvh_boots_as_it_is(tmp_path: Path) -> None:
    """A bzImage whose kernel has no PVH note is booted by the boot protocol."""
    image = fakes.bzimage(gzip.compress(fakes.vmlinux(notes=(fakes.BUILD_ID,))))
    kernel = resolve(str(write(tmp_path, {"bzImage": image}) / "bzImage"))
    assert kernel.image == kernel.compressed == tmp_path / "bzImage"


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", fakes.module("tls")], ids=["empty", "script", "module"])
def test_file_that_is_no_kernel(tmp_path: Path, content: bytes) -> None:
    """A file that is no kernel is named, and a bisection skips it."""
    path = write(tmp_path, {"thing": content}) / "thing"
    with pytest.raises(KernelError, match=f"{path} is no x86-64 kernel") as caught:
        resolve(str(path))
    assert caught.value.exit_code == ExitCode.CANNOT_JUDGE


def test_pipe_is_no_kernel(tmp_path: Path) -> None:
    """A pipe is refused rather than waited for."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(KernelError, match="not a regular file"):
        resolve(str(tmp_path / "pipe"))


def test_installed(unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed kernel is found by its release; another one is refused with those there are."""
    monkeypatch.setattr(package, "MACHINE", unpacked)
    kernel = resolve(f"installed:{RELEASE}")
    assert (kernel.release, kernel.slug) == (RELEASE, "installed-6.12.95_deb12-amd64")
    with pytest.raises(UsageError, match=r"no kernel 6.1.0 is installed") as caught:
        resolve("installed:6.1.0")
    assert caught.value.hint == f"there is: installed:{RELEASE}"


def test_renamed_image(unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that says it is another release is not taken for the one in its name."""
    monkeypatch.setattr(package, "MACHINE", unpacked)
    write(unpacked, {f"boot/vmlinuz-{RELEASE}": boot_image("6.1.0-50-amd64")})
    with pytest.raises(KernelError, match=f"is the kernel 6.1.0-50-amd64, not {RELEASE[:4]}"):
        resolve(f"installed:{RELEASE}")


def test_debian_release_without_sublevel(tmp_path: Path) -> None:
    """Debian's older releases hide the sublevel; the banner has it, after the compiler's own Debian version."""
    banner = (
        "Linux version 6.1.0-50-amd64 (a@b) (gcc-12 (Debian 12.2.0-14) 12.2.0) #1 SMP Debian 6.1.176-1 (2026-01-02)"
    )
    image = fakes.bzimage(gzip.compress(fakes.vmlinux(banner)), banner)
    kernel = resolve(str(write(tmp_path, {"bzImage": image}) / "bzImage"))
    assert (kernel.release, kernel.version) == ("6.1.0-50-amd64", Version(6, 1, 176))


def test_host() -> None:
    """The running kernel is resolved without an image."""
    kernel = resolve("host")
    assert kernel.is_host
    assert kernel.release == os.uname().release
    assert kernel.banner == Path("/proc/version").read_text().strip()


def test_cache_in_the_way(tree: Path, own_cache: Path) -> None:
    """A cache that cannot be written is told, not thrown."""
    own_cache.parent.mkdir()
    own_cache.write_text("in the way")
    with pytest.raises(ConformError, match=str(own_cache)):
        resolve(str(tree))
