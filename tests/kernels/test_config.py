# SPDX-License-Identifier: GPL-2.0-only
"""Configurations, and the symbols that every case needs."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import ExitCode, KernelError
from kernels import config
from kernels.kernel import Kernel
from kernels.resolve import resolve
from tests.kernels import fakes


@pytest.fixture
def fit(tmp_path: Path) -> Kernel:
    """A kernel that has all it needs."""
    (tmp_path / "bzImage").write_bytes(fakes.bzimage(gzip.compress(fakes.vmlinux())))
    (tmp_path / "config").write_text(fakes.CONFIG)
    return resolve(str(tmp_path / "bzImage"))


def test_read(tmp_path: Path) -> None:
    """A .config is read, plain or gzipped; what is not set is absent, strings lose their quotes."""
    plain, packed = tmp_path / "config", tmp_path / "config.gz"
    plain.write_text(fakes.CONFIG)
    packed.write_bytes(gzip.compress(fakes.CONFIG.encode()))
    assert config.read(plain) == config.read(packed)
    assert config.read(plain)["LOCALVERSION"] == "-fake"
    assert "TLS" not in config.read(plain)
    assert config.missing(config.read(plain), ["NET", "TLS", "SMC"]) == ["TLS", "SMC"]


def test_a_fit_kernel_passes(fit: Kernel) -> None:
    """A kernel that has all it needs is accepted."""
    config.check_bootable(fit)


@pytest.mark.parametrize("symbol", ["BPF_SYSCALL", "NET", "INET", "VIRTIO_PCI", "VIRTIO_CONSOLE", "BLK_DEV_INITRD"])
def test_a_missing_symbol_is_named(fit: Kernel, symbol: str) -> None:
    """A kernel without BPF, sockets or virtio cannot be judged, and the missing symbol is named."""
    poor = replace(fit, config={key: value for key, value in fit.config.items() if key != symbol})
    with pytest.raises(KernelError, match=rf"lacks CONFIG_{symbol}, without") as caught:
        config.check_bootable(poor)
    assert caught.value.exit_code == ExitCode.CANNOT_JUDGE
    assert caught.value.hint


def test_a_missing_module_is_named(fit: Kernel) -> None:
    """A symbol set to `m` counts only with its module."""
    modular = replace(fit, config={**fit.config, "VIRTIO_PCI": "m"})
    with pytest.raises(KernelError, match=r"lacks virtio_pci\.ko \(CONFIG_VIRTIO_PCI=m\)"):
        config.check_bootable(modular)


def test_the_host_needs_no_virtio(fit: Kernel) -> None:
    """The running kernel needs no devices of a VM, but it needs BPF."""
    host = replace(fit, image=None, config={"BPF_SYSCALL": "y", "NET": "y", "INET": "y"})
    config.check_bootable(host)
    with pytest.raises(KernelError, match="CONFIG_BPF_SYSCALL"):
        config.check_bootable(replace(host, config={"NET": "y", "INET": "y"}))


def test_an_unknown_configuration_passes(fit: Kernel) -> None:
    """A kernel with an unknown configuration is accepted."""
    config.check_bootable(replace(fit, config={}))
