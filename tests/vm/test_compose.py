# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from common.errors import HostError, KernelError
from tests.vm.nowhere import kernel
from vm import compose, stock
from vm.machine import MachineOptions

# What virtme-ng 1.42 printed for a Debian kernel, paths shortened.
RECORDED = shlex.split(
    "/usr/bin/qemu-system-x86_64 -m 1G -fsdev local,id=virtfs3,path=/,security_model=none,readonly=on,multidevs=remap"
    " -device virtio-9p-pci,fsdev=virtfs3,mount_tag=/dev/root -device i6300esb,id=watchdog0 -machine q35 -cpu max"
    " -parallel none -net none -echr 1 -chardev file,path=/proc/self/fd/2,id=dmesg -device virtio-serial-pci"
    " -device virtconsole,chardev=dmesg -chardev stdio,id=console,signal=off,mux=on -serial chardev:console"
    " -mon chardev=console -vga none -display none -smp 2 -kernel /k/vmlinuz"
    " -append 'virtme_console=ttyS0 console=hvc0 TERM=xterm quiet loglevel=1 init=/v/virtme-ng-init' -initrd /i"
)
RECORDED_SCRIPT = shlex.split(
    "/usr/bin/qemu-system-x86_64 -machine q35 -serial chardev:console -chardev file,id=console,path=/dev/null"
    " -chardev stdio,id=stdin,signal=on,mux=off -device virtio-serial-pci"
    " -device virtserialport,name=virtme.stdin,chardev=stdin -chardev file,id=ret,path=/t/virtme_retc7r1walt"
    " -no-reboot -kernel /k/vmlinuz -append 'quiet init=/v/init' -initrd /proc/self/fd/3"
)


def arguments(options: MachineOptions, accelerator: str = "tcg") -> str:
    """Return the composed arguments as one string."""
    return shlex.join(compose.compose(RECORDED, kernel(), options, accelerator).arguments)


def test_the_machine_is_virtmes() -> None:
    """Machine type, bus and displays are what virtme-ng chose."""
    composed = arguments(MachineOptions())
    assert "-machine q35,memory-backend=ram" in composed
    assert "-device virtio-serial-pci" in composed
    assert "-parallel none" in composed
    assert "-vga none -display none" in composed


@pytest.mark.parametrize("unwanted", ["9p", "fsdev", "stdio", "virtconsole", "-mon", "/k/", "/proc", "i6300esb", "max"])
def test_what_a_snapshot_cannot_have_is_gone(unwanted: str) -> None:
    """Exports, terminals and files of the host are not part of the machine."""
    assert unwanted not in arguments(MachineOptions())


def test_options_reach_the_machine() -> None:
    """Processors, memory, accelerator and --append are used."""
    composition = compose.compose(RECORDED, kernel(), MachineOptions(cpus=2, memory=768, append="slub_debug=F"), "kvm")
    assert "-accel kvm -cpu host -smp 2" in shlex.join(composition.arguments)
    assert "size=768M" in shlex.join(composition.machine(None))
    before_init, _, init = composition.append.partition("rdinit=")
    assert "slub_debug=F" in before_init
    assert init.startswith("/usr/bin/python3 -- ")
    assert "virtme" not in composition.append


def test_memory_is_written_only_while_a_template_is_made() -> None:
    """A clone has a private view of the template's memory."""
    composition = compose.compose(RECORDED, kernel(), MachineOptions(), "tcg")
    assert "mem-path=/proc/self/fd/7,share=on" in shlex.join(composition.machine(7, shared=True))
    assert "mem-path=/proc/self/fd/7,share=off" in shlex.join(composition.machine(7))


def test_stock_guests_keep_virtmes_init_but_write_no_file() -> None:
    """The guest's console is replaced by ours, and every file that a port would write to is /dev/null."""
    command = list(stock._own_ports(RECORDED_SCRIPT, "/c/initramfs"))
    text = shlex.join(command)
    assert "console" not in text
    assert "stdio" not in text
    assert "/t/" not in text
    assert command[command.index("-initrd") + 1] == "/c/initramfs"
    assert "init=/v/init" in text


@pytest.mark.parametrize(
    "more",
    ["-netdev user,id=n", "-nic user", "-net user", "-device virtio-net-pci", "-device vhost-vsock-pci,guest-cid=3",
     "-drive file=/dev/sda", "-hda /x", "-device virtio-blk-pci,drive=x", "-device vhost-user-fs-pci,chardev=x"],
)  # fmt: skip
def test_a_guest_that_would_see_more_of_the_host_is_refused(more: str, tmp_path: Path) -> None:
    """Whatever a version of virtme-ng adds, no machine has a network, a disk or a directory of the host."""
    if "chardev" not in more:
        with pytest.raises(HostError, match="which was not asked for"):
            compose.compose([*RECORDED, *more.split()], kernel(), MachineOptions(), "tcg")
    with pytest.raises(HostError, match="which was not asked for"):
        stock.check_exports([*RECORDED_SCRIPT, *more.split()], tmp_path)


@pytest.mark.parametrize(
    ("export", "is_fine"),
    [
        ("local,id=virtfs1,path={root},security_model=none,readonly=on,multidevs=remap", True),
        ("local,id=virtfs1,path={tools},security_model=none,readonly=on,multidevs=remap", True),
        ("local,id=virtfs1,path={root},security_model=none,multidevs=remap", False),
        ("local,id=virtfs1,path={root}/..,security_model=none,readonly=on", False),
        ("local,id=virtfs1,path=/,security_model=none,readonly=on", False),
        ("local,id=virtfs1,path=/usr/bin,security_model=none,readonly=on", False),
        ("local,id=virtfs1,path={root}/link,security_model=none,readonly=on", False),
    ],
)
def test_a_stock_guest_sees_only_its_own_root(tmp_path: Path, export: str, is_fine: bool) -> None:
    """The exports of a stock guest are its own root and virtme-ng's tools, both read-only."""
    (tmp_path / "link").symlink_to("/")
    value = export.format(root=tmp_path, tools=compose.guest_tools())
    command = ["qemu", "-fsdev", value, "-device", "virtio-9p-pci,fsdev=virtfs1,mount_tag=/dev/root"]
    if is_fine:
        stock.check_exports(command, tmp_path)
    else:
        with pytest.raises(HostError, match="which was not asked for"):
            stock.check_exports(command, tmp_path)


def test_a_file_that_is_no_kernel_is_named(tmp_path: Path) -> None:
    """A file that virtme-ng cannot boot is a KernelError with one sentence."""
    with pytest.raises(KernelError, match=r"cannot boot .*nothing"):
        compose.ask_virtme(Path(sys.executable), tmp_path / "nothing")


def test_stock_guests_need_9p() -> None:
    """A kernel without 9p is refused before anything starts; one with an unknown configuration is tried."""
    assert not stock._missing(kernel())
    assert stock._missing(kernel(NET_9P="m", NET_9P_VIRTIO="y")) == ["9P_FS"]
