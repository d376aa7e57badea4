# SPDX-License-Identifier: GPL-2.0-only
"""Kernel modules: which ones a networking guest may need, decompressed and indexed."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from common import cache
from common.errors import HostError, KernelError
from kernels import unpack
from kernels.inside import inside

MODULE = re.compile(r"\.ko(?:\.(?:xz|zst|gz))?$")

INDEX_INPUTS = ("modules.builtin", "modules.builtin.modinfo", "modules.order")
"""Files that depmod reads besides the modules."""

_LARGEST = 256 << 20
"""Bytes of a module with its debugging information."""

_BASE = "base"
"""The file in a folder of links with the directory that every link must lead into."""

# Below .../lib/modules/RELEASE/kernel/: all that sockets may use, and the devices and file systems of a VM. Left out
# are media that no VM has, network file systems, and what needs another hypervisor's bus or RDMA hardware.
_WANTED = re.compile(
    r"""
    (?!.*/(?:l2tp_ppp|9pnet_rdma|hv_sock|vmw_vsock_vmci_transport|mhi_net|thunderbolt[-_]net)\.ko)
    (?:
      arch/x86/(?:crypto|lib)/ | crypto/ | lib/ | block/t10-pi
    | net/(?!atm|batman-adv|bluetooth|can|ceph|ieee802154|mac80|nfc|qrtr|rds|rxrpc|sunrpc|wireless)
    | fs/(?:9p|binfmt_misc|configfs|erofs|ext4|fscache|fuse|jbd2|mbcache|netfs|overlayfs|squashfs)
    | drivers/net/(?:[^/]+\.ko|bonding/|ipvlan/|netdevsim/|ovpn/|team/|vxlan/|wireguard/|mdio/|phy/(?:libphy|phylink))
    | drivers/virtio/(?!virtio_vdpa)
    | drivers/vhost/(?!vhost_vdpa|vhost_scsi)
    | drivers/block/(?:loop|null_blk|virtio_blk)
    | drivers/char/(?:virtio_console|hw_random/(?:rng-core|virtio-rng))
    | drivers/scsi/(?:scsi_common|scsi_mod|sd_mod|virtio_scsi)
    | drivers/(?:connector|dax|dca|dibs|nvdimm)/
    | drivers/infiniband/core/ib_core
    | drivers/(?:misc/lkdtm|misc/pvpanic|pps/pps_core|ptp/ptp(?:_kvm)?\.ko)
    )
    """,
    re.VERBOSE,
)


def wanted(path: str) -> bool:
    """Return whether a guest may need a module, named by its path below `kernel/`."""
    return _WANTED.match(path) is not None


def plain(data: bytes, name: str) -> bytes:
    """Return the decompressed module, if the file's suffix says that it is compressed; KernelError if it is damaged."""
    if name.rpartition(".")[2] not in ("xz", "gz", "zst"):
        return data
    try:
        return unpack.whole(data, _LARGEST)
    except unpack.TooLargeError as error:
        raise KernelError(f"the module {name} is {error}", hint="build or fetch it again") from error
    except (unpack.CorruptError, unpack.UnknownError) as error:
        raise KernelError(
            f"the module {name} cannot be decompressed: {error}", hint="build or fetch the kernel again"
        ) from error


def depmod(root: Path, release: str) -> None:
    """Run depmod below `root/lib/modules/release`."""
    # sbin is on an ordinary user's PATH neither in Debian 12 nor in 13.
    tool = shutil.which("depmod", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))
    if tool is None:
        raise HostError("depmod is not installed", hint="install the package kmod")
    # fmt: off
    command = [
        tool, "--all",
        "--basedir", str(root),
        release,
    ]
    # fmt: on
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not (folder(root, release) / "modules.dep").is_file():
        raise KernelError(
            f"depmod cannot index the modules of {release}: {_last(done.stderr)}",
            hint="check that the modules belong to this kernel and are readable",
        )


def gather(release: str, found: Mapping[str, Path], inputs: Path, base: Path) -> Path:
    """Return a cached folder with links to the modules in `found` that a guest may need, and their index.

    `found` maps paths below `kernel/` to files; `inputs` is the directory of modules.builtin and its like. KernelError
    if any of them is not in the directory `base`.
    """
    links = {path: inside(base, file) for path, file in found.items() if MODULE.search(path) and wanted(path)}
    key = hashlib.sha256(f"{release} {base.resolve()}".encode())
    for path, file in sorted(links.items()):
        # By size and time, as make does: a rebuilt module gives another folder.
        status = file.stat()
        key.update(f"{path} {file} {status.st_size} {status.st_mtime_ns}\n".encode())

    def build(root: Path) -> None:
        target = folder(root, release)
        for path, file in links.items():
            link = target / "kernel" / path
            link.parent.mkdir(parents=True, exist_ok=True)
            if path.endswith(".gz"):
                # Debian's kmod is built without zlib: it would index a gzipped module without dependencies.
                link.with_suffix("").write_bytes(plain(file.read_bytes(), file.name))
            else:
                link.symlink_to(file)
        target.mkdir(parents=True, exist_ok=True)
        (root / _BASE).write_text(str(base.resolve()))
        for name in INDEX_INPUTS:
            if (inputs / name).is_file():
                shutil.copyfile(inside(base, inputs / name), target / name)
        depmod(root, release)

    return cache.publish(cache.root() / "modules" / key.hexdigest(), build)


def checked(root: Path, path: Path) -> Path:
    """Resolve the links of a module's file; KernelError if it lies outside the kernel's folder.

    The index of an unpacked package is not trusted, and a link may have changed since it was made.
    """
    note = root / _BASE
    is_ours = note.is_file() and root.parent == cache.root() / "modules" and path.is_symlink()
    return inside(Path(note.read_text()) if is_ours else root, path)


def folder(root: Path, release: str) -> Path:
    """Return `root/lib/modules/release`."""
    return root / "lib" / "modules" / release


def names(root: Path, release: str) -> frozenset[str]:
    """Return the names of all modules in modules.dep, with `_` for `-`."""
    try:
        lines = (folder(root, release) / "modules.dep").read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return frozenset()
    return frozenset(MODULE.sub("", line.partition(":")[0].rpartition("/")[2]).replace("-", "_") for line in lines)


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]
