# SPDX-License-Identifier: GPL-2.0-only
"""Local kernels: trees, unpacked packages, files, installed ones, the running one."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

import vm.modules
from common.errors import ConformError, ExitCode, KernelError, UsageError
from kernels import modules, package
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
    """An unpacked package, with its modules below /usr/lib as on merged-/usr systems."""
    return write(
        tmp_path / "unpacked",
        {
            f"boot/vmlinuz-{RELEASE}": boot_image(),
            f"boot/config-{RELEASE}": fakes.CONFIG.encode(),
            f"usr/lib/modules/{RELEASE}/kernel/net/tls/tls.ko.gz": gzip.compress(fakes.module("tls")),
        },
    )


def test_tree(tree: Path) -> None:
    """A built tree gives its unpacked image, its configuration, and an index of its modules."""
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
    """A rebuilt module gives another digest; an unchanged tree gives the same."""
    first = resolve(str(tree))
    assert resolve(str(tree)) == first
    (tree / "net/tls/tls.ko").write_bytes(fakes.module("tls", "sctp"))
    second = resolve(str(tree))
    assert second.digest != first.digest
    assert second.modules != first.modules


@pytest.mark.parametrize(
    "order", [b"net/" + b"x" * 5000 + b".o\n", b"/".join([b"net"] * 3000) + b".o\n", b"net/\xff.o\n", b"\n\r\n"]
)
def test_a_module_that_cannot_be_there_was_not_built(tree: Path, order: bytes) -> None:
    """A name in modules.order that no file can have is that of a module which was not built."""
    (tree / "modules.order").write_bytes(order + b"net/tls/tls.o\n")
    kernel = resolve(str(tree))
    assert kernel.modules is not None
    assert modules.names(kernel.modules, RELEASE) == {"tls"}


@pytest.mark.parametrize("line", [b"\xff\xfe\0", b"kernel/net/x.ko: \xff.ko\n", b"kernel/" + b"y" * 5000 + b".ko:\n"])
def test_an_index_need_not_be_text(tmp_path: Path, line: bytes) -> None:
    """A package's index of modules may hold anything."""
    folder = f"lib/modules/{RELEASE}"
    module = {f"{folder}/kernel/net/tls/tls.ko": fakes.module("tls")}
    index = {f"{folder}/modules.dep": line + b"\nkernel/net/tls/tls.ko:\n"}
    root = write(tmp_path / "odd", {f"boot/vmlinuz-{RELEASE}": boot_image(), **module, **index})
    kernel = resolve(str(root))
    assert kernel.modules is not None
    assert "tls" in modules.names(kernel.modules, RELEASE)
    assert all(path.is_relative_to(root) for path in vm.modules.closure(kernel, ("tls",)))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A file outside of the tree."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret.ko").write_bytes(b"secret")
    return tmp_path / "elsewhere"


@pytest.mark.parametrize("release", ["6/../../../../../x", "6.1/x", "6." + "1" * 5000, "6.1\x1b[31m"])
def test_a_release_is_a_name(tree: Path, own_cache: Path, release: str) -> None:
    """The release in an image names folders, but cannot choose a path."""
    (tree / "arch/x86/boot/bzImage").unlink()
    (tree / "vmlinux").write_bytes(fakes.vmlinux(fakes.BANNER.replace(RELEASE, release)))
    with pytest.raises(KernelError, match="is not a kernel release") as caught:
        resolve(str(tree))
    assert len(str(caught.value)) < 200
    assert str(caught.value).isprintable()
    assert not (own_cache / "modules").exists()


@pytest.mark.parametrize(
    "place", ["net/../../../../../../../../../net/x.o", "/etc/passwd.o", "net/a/../../../x/net/b.o"]
)
def test_modules_order_names_files_of_the_tree(tree: Path, elsewhere: Path, own_cache: Path, place: str) -> None:
    """A list of modules cannot cause writes outside of the cache, whatever names and links it has."""
    (tree / "net" / "a").symlink_to(elsewhere)
    (tree / "modules.order").write_text(f"net/tls/tls.o\n{place}\n")
    before = sorted(own_cache.parent.rglob("*"))
    with pytest.raises(KernelError, match=r"modules.order names '.*', which is not a path below it"):
        resolve(str(tree))
    made = {path for path in own_cache.parent.rglob("*") if path not in before}
    assert not [path for path in made if own_cache not in path.parents and path != own_cache]


@pytest.mark.parametrize("kind", ["file", "folder", "order", "image", "dangling", "loop"])
def test_links_out_of_a_tree_are_not_followed(tree: Path, elsewhere: Path, kind: str) -> None:
    """A module, the list of them or the image that is a link to some other file of the machine is refused by name."""
    secret = elsewhere / "secret.ko"
    link, target = {
        "file": (tree / "net/tls/tls.ko", secret),
        "folder": (tree / "net/tls", elsewhere),
        "order": (tree / "modules.order", secret),
        "image": (tree / "arch/x86/boot/bzImage", secret),
        "dangling": (tree / "modules.order", tree / "nowhere"),
        "loop": (tree / "modules.order", tree / "modules.order"),
    }[kind]
    if kind == "folder":
        secret.rename(elsewhere / "tls.ko")
        (tree / "net/tls/tls.ko").unlink()
        link.rmdir()
    else:
        link.unlink()
    link.symlink_to(target)
    if kind in ("dangling", "loop"):
        assert resolve(str(tree)).modules is None
        return
    with pytest.raises(KernelError, match=f"leads out of {tree}, to {elsewhere}"):
        resolve(str(tree))


def test_links_within_a_tree_are_followed(tree: Path) -> None:
    """A tree may arrange its own files as it likes, and be reached by a link itself."""
    (tree / "arch/x86/boot/bzImage").rename(tree / "the-image")
    (tree / "arch/x86/boot/bzImage").symlink_to("../../../the-image")
    (tree.parent / "link").symlink_to(tree)
    kernel = resolve(str(tree.parent / "link"))
    assert kernel.modules is not None
    assert modules.names(kernel.modules, RELEASE) == {"tls", "sctp"}


@pytest.mark.parametrize("kind", ["image", "config", "module", "input"])
def test_links_out_of_a_package_are_not_followed(unpacked: Path, elsewhere: Path, kind: str) -> None:
    """An absolute link in an unpacked package means a file of the package, not of this machine."""
    secret = elsewhere / "secret.ko"
    folder = unpacked / "usr/lib/modules" / RELEASE
    link = {
        "image": unpacked / f"boot/vmlinuz-{RELEASE}",
        "config": unpacked / f"boot/config-{RELEASE}",
        "module": folder / "kernel/net/tls/tls.ko.gz",
        "input": folder / "modules.builtin",
    }[kind]
    link.unlink(missing_ok=True)
    link.symlink_to(secret)
    with pytest.raises(KernelError, match=f"leads out of {unpacked}"):
        resolve(str(unpacked))


def test_an_index_that_was_made_without_zlib(unpacked: Path, own_cache: Path) -> None:
    """Debian's depmod leaves .ko.gz out of the index of a package whose modules are all compressed that way."""
    (unpacked / "usr/lib/modules").rename(unpacked / "modules")
    (unpacked / "lib").mkdir()
    (unpacked / "modules").rename(unpacked / "lib/modules")
    folder = unpacked / "lib/modules" / RELEASE
    write(folder / "kernel", {"net/sctp/sctp.ko.gz": gzip.compress(fakes.module("sctp", "tls"))})
    modules.depmod(unpacked, RELEASE)
    assert "tls" not in (folder / "modules.dep").read_text()

    kernel = resolve(str(unpacked))

    assert kernel.modules is not None
    assert modules.names(kernel.modules, RELEASE) == {"tls", "sctp"}
    assert {path.name for path in vm.modules.closure(kernel, ("sctp", "tls"))} == {"tls.ko", "sctp.ko"}


def test_an_index_cannot_name_what_is_not_of_the_package(unpacked: Path, elsewhere: Path) -> None:
    """The files that a guest gets are checked where they are read, since the index comes with the package."""
    (elsewhere / "secret.ko").rename(elsewhere / "virtio_console.ko")
    folder = unpacked / "lib/modules" / RELEASE
    write(folder / "kernel", {"net/fine.ko": fakes.module("fine"), "drivers/virtio_console.ko": fakes.module("x")})
    modules.depmod(unpacked, RELEASE)
    kernel = resolve(str(unpacked))
    assert kernel.modules == unpacked
    (folder / "kernel/drivers/virtio_console.ko").unlink()
    (folder / "kernel/drivers/virtio_console.ko").symlink_to(elsewhere / "virtio_console.ko")
    with pytest.raises(KernelError, match=f"leads out of {unpacked}"):
        resolve(str(unpacked))
    with pytest.raises(KernelError, match=f"leads out of {unpacked}"):
        vm.modules.closure(kernel, ("fine", "virtio_console"))
    # As long as the original, so that the binary index, the only one that kmod reads, stays valid.
    elsewhere.rename(elsewhere.with_name("ee"))
    index = (folder / "modules.dep.bin").read_bytes()
    (folder / "modules.dep.bin").write_bytes(index.replace(b"kernel/drivers/", b"../../../../ee/"))
    with pytest.raises(KernelError, match=f"leads out of {unpacked}"):
        vm.modules.closure(kernel, ("virtio_console",))


def test_tree_not_built(tree: Path) -> None:
    """A tree that is not built cannot be judged; the hint says how to build it."""
    (tree / "arch/x86/boot/bzImage").unlink()
    with pytest.raises(KernelError, match=f"the tree {tree} is not built") as caught:
        resolve(str(tree))
    assert caught.value.exit_code == ExitCode.CANNOT_JUDGE
    assert caught.value.hint.endswith("bzImage modules")
    (tree / ".git").mkdir()
    with pytest.raises(KernelError) as caught:
        resolve(str(tree))
    assert caught.value.hint.endswith(f"bzImage modules, or give tree:{tree}, which builds it elsewhere")


def test_unpacked_package(unpacked: Path) -> None:
    """An unpacked package gives image, configuration and modules, decompressed if kmod might not be able to."""
    kernel = resolve(str(unpacked))
    assert (kernel.release, kernel.config["NET"]) == (RELEASE, "y")
    assert kernel.modules is not None
    file = modules.folder(kernel.modules, RELEASE) / "kernel/net/tls/tls.ko"
    assert file.read_bytes() == fakes.module("tls")


def test_gzipped_modules_can_be_loaded(unpacked: Path) -> None:
    """A guest gets a module that its package has gzipped."""
    kernel = resolve(str(unpacked))
    assert kernel.modules is not None
    assert vm.modules.closure(kernel, ("tls",)) == [modules.folder(kernel.modules, RELEASE) / "kernel/net/tls/tls.ko"]


def test_a_module_that_is_in_the_index_only_is_missing(unpacked: Path) -> None:
    """A kernel with a missing module file can be judged; one with a dangling link cannot."""
    folder = unpacked / "lib/modules" / RELEASE
    write(folder / "kernel", {"net/fine.ko": fakes.module("fine")})
    modules.depmod(unpacked, RELEASE)
    kernel = resolve(str(unpacked))
    (folder / "kernel/net/fine.ko").unlink()
    assert vm.modules.closure(kernel, ("fine",)) == []
    (folder / "kernel/net/fine.ko").symlink_to("nowhere")
    with pytest.raises(KernelError, match="cannot be followed to a file"):
        vm.modules.closure(kernel, ("fine",))


def test_directory_with_two_kernels(unpacked: Path) -> None:
    """A directory with several kernels is refused; the user must choose."""
    write(unpacked, {"boot/vmlinuz-6.1.0-50-amd64": boot_image("6.1.0-50-amd64")})
    with pytest.raises(UsageError, match=r"holds several kernels: 6.1.0-50-amd64, 6.12.95"):
        resolve(str(unpacked))


def test_empty_directory(tmp_path: Path) -> None:
    """The error for a directory without a kernel says what is accepted."""
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
    """An image alone has no modules, and its embedded configuration."""
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
    """A file that is not a kernel is named, and a bisection skips it."""
    path = write(tmp_path, {"thing": content}) / "thing"
    with pytest.raises(KernelError, match=f"{path} is not an x86-64 kernel") as caught:
        resolve(str(path))
    assert caught.value.exit_code == ExitCode.CANNOT_JUDGE


def test_pipe_is_no_kernel(tmp_path: Path) -> None:
    """A pipe is refused, not waited for, and stops a bisection."""
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path / "pipe"), "/dev/zero"):
        with pytest.raises(UsageError, match="not a regular file"):
            resolve(path)


def test_installed(unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed kernel is found by its release; another one is refused with the list of installed ones."""
    monkeypatch.setattr(package, "MACHINE", unpacked)
    kernel = resolve(f"installed:{RELEASE}")
    assert (kernel.release, kernel.slug) == (RELEASE, "installed-6.12.95_deb12-amd64")
    with pytest.raises(UsageError, match=r"no kernel 6.1.0 is installed") as caught:
        resolve("installed:6.1.0")
    assert caught.value.hint == f"there is: installed:{RELEASE}"


def test_renamed_image(unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The release comes from the image's content, not from its name."""
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
    """A cache that cannot be written is one sentence, no traceback."""
    own_cache.parent.mkdir()
    own_cache.write_text("in the way")
    with pytest.raises(ConformError, match=str(own_cache)):
        resolve(str(tree))
