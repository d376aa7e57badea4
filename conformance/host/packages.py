# SPDX-License-Identifier: GPL-2.0-only
"""The Debian packages that a run needs, with the reason and a proof of their presence.

Consulted on every start, hence no dataclass, no TOML and no dpkg: a proof costs a stat() or two.
"""

from __future__ import annotations

import os

from kernels import toolchain


class HostPackage:
    """A Debian package; any one of its proofs will do: a program found in PATH, or an absolute path."""

    __slots__ = ("name", "proofs", "reason")

    def __init__(self, name: str, reason: str, *proofs: str) -> None:
        self.name = name
        self.reason = reason
        self.proofs = proofs

    def found(self) -> str:
        """Return the path of a proof, or an empty string."""
        return next((path for proof in self.proofs for path in candidates(proof) if os.path.exists(path)), "")


PACKAGES = (
    HostPackage(
        "python3-venv",
        "needed to make a virtual environment",
        os.path.join(os.path.dirname(os.__file__), "ensurepip"),
    ),
    HostPackage("qemu-system-x86", "runs the kernels", "qemu-system-x86_64"),
    HostPackage("clang", "compiles the BPF programs", "clang"),
    HostPackage(
        "linux-libc-dev",
        "the kernel's UAPI headers, included by the BPF programs",
        "/usr/include/linux/bpf.h",
    ),
    HostPackage("busybox-static", "needed by stock virtme-ng guests, --machine vng", "busybox-static", "busybox"),
    HostPackage("kmod", "indexes a kernel's modules", "depmod"),
)

_JUDGING = ("run", "test")
"""The commands that boot kernels; the others need the first package only."""


BUILDING = tuple(HostPackage(name, reason, proof) for name, reason, proof in toolchain.PACKAGES)
"""Packages that only building a kernel from source needs."""


def missing(arguments: list[str]) -> list[HostPackage]:
    """Return the packages that `./conform ARGUMENTS` needs and this machine lacks."""
    needed = list(PACKAGES if arguments[0] in _JUDGING else PACKAGES[:1])
    if any(spec in argument for argument in arguments for spec in ("source:", "tree:")):
        needed += BUILDING
    return [package for package in needed if not package.found()]


def apt_get(packages: list[HostPackage]) -> list[str]:
    """Return the command that installs `packages`, without what they only recommend."""
    return ["apt-get", "install", "--yes", "--no-install-recommends", *(package.name for package in packages)]


def candidates(proof: str) -> list[str]:
    """Return the possible paths of `proof`; a Debian user's PATH lacks /usr/sbin and /sbin, which are used."""
    if os.path.isabs(proof):
        return [proof]
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return [os.path.join(folder, proof) for folder in (*folders, "/usr/sbin", "/sbin") if folder]
