# SPDX-License-Identifier: GPL-2.0-only
"""Kernels from the archive: found, verified, unpacked, remembered. The archives are made here; apt is the real one."""

from __future__ import annotations

import gzip
import itertools
import os
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common import cache
from common.errors import ExitCode, HostError, UsageError
from kernels import apt, config, inventory, modules
from kernels.archive import Order
from kernels.resolve import resolve
from kernels.version import Version
from tests.kernels import fakes

CHECKOUT = Path(__file__).parents[2]

pytestmark = fakes.NEEDS_APT

OTHER = "6.12.90+deb12-amd64"


def test_resolve(stocked: fakes.FakeArchive) -> None:
    """A kernel is found by branch, fetched and unpacked: plain modules, only those a guest may need, indexed."""
    messages: list[str] = []
    kernel = resolve("debian:6.12", progress=messages.append)
    assert (kernel.release, kernel.version, kernel.slug) == (fakes.RELEASE, Version(6, 12, 95), "debian-6.12")
    assert kernel.image is not None
    assert kernel.image.name == "vmlinux"
    assert kernel.modules is not None
    assert modules.names(kernel.modules, kernel.release) == {"tls"}
    module = modules.folder(kernel.modules, kernel.release) / "kernel/net/tls/tls.ko"
    assert module.read_bytes() == fakes.module("tls")
    assert kernel.provenance["suite"] == "bookworm"
    assert any(f"downloading linux-image-{fakes.RELEASE} (" in line for line in messages)
    assert not list(kernel.modules.rglob("*.deb"))
    config.check_bootable(kernel)


@pytest.mark.parametrize("wanted", ["6.12", "6.12.95", "6.12.95+deb12", "6.12.95-1", "bookworm", "oldstable"])
def test_names(stocked: fakes.FakeArchive, wanted: str) -> None:
    """A kernel is found by branch, version, ABI, package version, and both names of its suite."""
    assert resolve(f"debian:{wanted}").release == fakes.RELEASE


def test_newest_wins(stocked: fakes.FakeArchive, tmp_path: Path) -> None:
    """The newest kernel of a branch is taken; metapackages and real-time kernels do not count."""
    stocked.add(fakes.image_package(tmp_path, OTHER), version="6.12.90-1")
    stocked.add(
        fakes.package(tmp_path, "linux-image-6.12-amd64", {}),
        version="6.12.99-1",
        depends=f"linux-image-{OTHER} (= 6.12.90-1)",
    )
    stocked.add(fakes.package(tmp_path, "linux-image-6.12.99-rt-amd64", {}), version="6.12.99-1")
    assert resolve("debian:6.12").release == fakes.RELEASE
    assert resolve("debian:6.12.90").release == OTHER


@pytest.mark.parametrize("last", ["", "-unsigned"], ids=["signed", "unsigned"])
def test_signed_wins(archive: fakes.FakeArchive, tmp_path: Path, last: str) -> None:
    """Of the signed and the unsigned package of a kernel the signed one is taken, wherever it stands in the index."""
    package = fakes.image_package(tmp_path)
    for suffix in ("-unsigned" if not last else "", last):
        package = archive.add(package, name=f"linux-image-{fakes.RELEASE}{suffix}")
    assert resolve("debian:6.12").provenance["package"] == f"linux-image-{fakes.RELEASE}"


def test_unsigned_alone_will_do(archive: fakes.FakeArchive, tmp_path: Path) -> None:
    """Where only the unsigned package exists, it is taken: nothing here checks a boot signature."""
    archive.add(fakes.image_package(tmp_path), name=f"linux-image-{fakes.RELEASE}-unsigned")
    assert resolve("debian:6.12").release == fakes.RELEASE


def test_split_packages(archive: fakes.FakeArchive, tmp_path: Path) -> None:
    """From 7.x on the parts of a kernel come from packages of their own, with the image beside the modules."""
    release = "7.3.4+deb13-amd64"
    version = "7.3.4-1"
    banner = fakes.BANNER.replace(fakes.RELEASE, release).replace("6.12.95", "7.3.4")
    folder = f"usr/lib/modules/{release}"
    parts = {
        "linux-binary": {f"{folder}/vmlinuz": fakes.bzimage(gzip.compress(fakes.vmlinux(banner)), banner)},
        "linux-base": {f"{folder}/config": fakes.CONFIG.encode()},
        "linux-modules": {f"{folder}/kernel/net/tls/tls.ko.gz": gzip.compress(fakes.module("tls"))},
    }
    for part, files in parts.items():
        archive.add(fakes.package(tmp_path, f"{part}-{release}", files), version=version)
    depends = ", ".join(f"{part}-{release} (= {version})" for part in parts)
    archive.add(fakes.package(tmp_path, f"linux-image-{release}", {}), version=version, depends=f"kmod, {depends}")
    kernel = resolve("debian:7.3")
    assert (kernel.release, kernel.version) == (release, Version(7, 3, 4))
    assert kernel.config["NET"] == "y"
    assert kernel.modules is not None
    assert modules.names(kernel.modules, release) == {"tls"}


def test_an_incomplete_kernel_is_skipped(stocked: fakes.FakeArchive, tmp_path: Path) -> None:
    """A kernel whose modules have left the archive is skipped for a complete one."""
    stocked.add(
        fakes.package(tmp_path, "linux-image-6.12.99+deb12-amd64", {}),
        version="6.12.99-1",
        depends="linux-modules-6.12.99+deb12-amd64 (= 6.12.99-1)",
    )
    assert resolve("debian:6.12").release == fakes.RELEASE


def test_cloud(stocked: fakes.FakeArchive, tmp_path: Path) -> None:
    """The cloud flavour is another kernel, and only taken when asked for."""
    with pytest.raises(UsageError):
        resolve("debian:6.12/cloud")
    cloud = "6.12.96+deb12-cloud-amd64"
    stocked.add(fakes.image_package(tmp_path, cloud), version="6.12.96-1")
    assert resolve("debian:6.12/cloud", refresh=True).release == cloud
    assert resolve("debian:6.12", refresh=True).release == fakes.RELEASE


def test_unknown_version(stocked: fakes.FakeArchive, tmp_path: Path) -> None:
    """An unknown version is refused with the nearest existing ones."""
    stocked.add(fakes.image_package(tmp_path, "6.1.0-50-amd64"), version="6.1.176-1")
    with pytest.raises(UsageError, match=r"no suite of the archive has the kernel 'debian:6.11'") as caught:
        resolve("debian:6.11")
    assert "the nearest: debian:6.1, debian:6.12;" in caught.value.hint
    assert caught.value.exit_code == ExitCode.BROKEN
    with pytest.raises(UsageError) as caught:
        resolve("debian:6.12.3")
    assert "the nearest: debian:6.12.95+deb12;" in caught.value.hint
    with pytest.raises(UsageError) as caught:
        resolve("debian:buster")
    assert "the nearest: debian:bookworm;" in caught.value.hint


def test_remembered(stocked: fakes.FakeArchive) -> None:
    """A spec resolved before comes back at once and without the archive; a refresh needs it."""
    with stocked.served():
        first = resolve("debian:6.12")
    messages: list[str] = []
    started = time.perf_counter()
    assert resolve("debian:6.12", progress=messages.append) == first
    assert time.perf_counter() - started < 0.05
    assert messages == []
    with pytest.raises(HostError, match="does not answer"):
        resolve("debian:6.12", refresh=True)


def test_inventory(stocked: fakes.FakeArchive, tmp_path: Path, own_cache: Path) -> None:
    """Cached and offered kernels can be listed; unused ones, or all, can be pruned."""
    stocked.add(fakes.image_package(tmp_path, OTHER), version="6.12.90-1")
    old, new = inventory.fetch("debian:6.12.90"), inventory.fetch("debian:6.12")
    assert {(kernel.release, kernel.specs) for kernel in inventory.cached()} == {
        (OTHER, ("debian:6.12.90",)),
        (fakes.RELEASE, ("debian:6.12",)),
    }
    assert [(offer.suite, offer.release) for offer in inventory.offered()] == [
        ("bookworm", fakes.RELEASE),
        ("bookworm", OTHER),
    ]
    assert inventory.prune(days=1) == 0
    assert old.modules is not None
    assert new.modules is not None
    os.utime(old.modules, (0, 0))
    assert inventory.prune(days=1) > 4096
    assert [kernel.release for kernel in inventory.cached()] == [fakes.RELEASE]
    resolve("debian:6.12")
    inventory.prune()
    assert inventory.cached() == []
    assert not list(own_cache.glob("resolved/*"))
    assert not list(own_cache.glob("partial/*"))


def test_sources(tmp_path: Path) -> None:
    """Archives are read from both forms of apt's sources, with their options; others' and disabled ones are not."""
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(
        "# deb http://commented.invalid/debian bookworm main\n"
        "deb [arch=amd64,arm64 signed-by=/some/key.gpg] http://one.invalid/debian bookworm main contrib # why\n"
        "deb-src http://sources.invalid/debian bookworm main\n"
        "deb http://other.invalid/linux bookworm stable\n"
    )
    (tmp_path / "sources.list.d" / "two.sources").write_text(
        "Types: deb\nURIs: http://two.invalid/security\nSuites: stable-security\nComponents: main\n"
        "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n\n"
        "Enabled: no\nTypes: deb\nURIs: http://disabled.invalid/debian\nSuites: sid\nComponents: main\n"
    )
    found = apt.archives(tmp_path)
    assert [archive.uri for archive in found] == ["http://one.invalid/debian", "http://two.invalid/security"]
    assert found[0].options == (("signed-by", "/some/key.gpg"),)
    assert {"bullseye", "trixie-backports", "sid", "experimental"} < set(found[0].suites)
    assert "bullseye-security" in found[1].suites
    assert "sid" not in found[1].suites
    assert "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n" in found[1].stanza()


VERSIONS = [
    "6.1.176-1", "6.1.176-1~deb11u1", "6.1.177-1", "6.12.9-1", "6.12.95-1", "6.12.95-1~bpo12+1", "6.12.95-2",
    "7.3~rc7-1~exp1", "7.3-1", "7.3.4-1~bpo13+1", "1:1.0-1", "6.12.95+deb12-1",
]  # fmt: skip


def test_order() -> None:
    """Versions are ordered as dpkg orders them."""
    for one, other in itertools.combinations(VERSIONS, 2):
        done = subprocess.run(["dpkg", "--compare-versions", one, "lt", other], check=False)
        assert (Order(one) < Order(other)) == (done.returncode == 0), (one, other)


@pytest.mark.vm
@pytest.mark.parametrize("branch", ["5.10", "6.12", "7.3"])
def test_the_real_archive(branch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest, the default and the newest kernel come from the machine's own archive, ready to be judged."""
    monkeypatch.undo()  # an earlier download is used
    kernel = resolve(f"debian:{branch}")
    assert kernel.version.branch == branch
    assert kernel.version.sublevel > 0
    assert kernel.image is not None
    assert kernel.image.name == "vmlinux"
    assert kernel.modules is not None
    assert modules.names(kernel.modules, kernel.release) >= {
        "vsock_loopback",
        "vmw_vsock_virtio_transport_common",
        "vsock",
    }
    config.check_bootable(kernel)
    assert cache.root() in kernel.modules.parents


def test_apt_dies_with_us(tmp_path: Path) -> None:
    """A run that is killed while apt works leaves no apt behind, which would hold its lock against the next run."""
    fifo = tmp_path / "pid"
    os.mkfifo(fifo)
    command = ["sh", "-c", f"echo $$ > {fifo}; exec sleep 1000"]
    code = f"from kernels.apt import Apt; Apt.__new__(Apt)._run({command})"
    with subprocess.Popen([sys.executable, "-c", code], cwd=CHECKOUT) as user:
        child = os.pidfd_open(int(fifo.read_text()))
        user.kill()
    poll = select.poll()
    poll.register(child, select.POLLIN)
    assert poll.poll(5000)
    os.close(child)
