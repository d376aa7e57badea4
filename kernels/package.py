# SPDX-License-Identifier: GPL-2.0-only
"""Kernels in the layout of a package, below any root: an unpacked package, or this machine (`installed:`)."""

from __future__ import annotations

from pathlib import Path

from common.errors import KernelError, UsageError
from kernels import artifact, modules
from kernels.inside import inside
from kernels.kernel import Kernel
from kernels.spec import Spec

MACHINE = Path("/")


def resolve_installed(spec: Spec) -> Kernel:
    """Return a kernel installed on this machine."""
    image = image_of(MACHINE, spec.wanted)
    if image is None:
        have = ", ".join(f"installed:{release}" for release in releases(MACHINE))
        hint = f"there is: {have}" if have else "no kernels are installed here"
        raise UsageError(f"no kernel {spec.wanted} is installed on this machine", hint=hint)
    return _resolve(spec, MACHINE, spec.wanted, image)


def resolve_unpacked(spec: Spec) -> Kernel | None:
    """Return the kernel unpacked below a directory; None if there is none, UsageError if there are several."""
    root = Path(spec.wanted)
    match releases(root):
        case []:
            return None
        case [release]:
            image = image_of(root, release)
            assert image is not None
            return _resolve(spec, root, release, image)
        case several:
            raise UsageError(f"{root} holds several kernels: {', '.join(several)}", hint="give the file of one of them")


def releases(root: Path) -> list[str]:
    """Return the releases that have an image below `root`."""
    boot = [path.name.removeprefix("vmlinuz-") for path in root.glob("boot/vmlinuz-*")]
    beside = [path.parent.name for lib in ("lib", "usr/lib") for path in root.glob(f"{lib}/modules/*/vmlinuz")]
    return sorted({*boot, *beside})


def image_of(root: Path, release: str) -> Path | None:
    """Return the image of a release below `root`."""
    return _first([root / "boot" / f"vmlinuz-{release}", *(folder / "vmlinuz" for folder in _folders(root, release))])


def config_of(root: Path, release: str) -> Path | None:
    """Return the configuration of a release below `root`; KernelError if it is a dangling link."""
    path = _first([root / "boot" / f"config-{release}", *(folder / "config" for folder in _folders(root, release))])
    return inside(root, path) if path is not None else None


def modules_of(root: Path, release: str) -> Path | None:
    """Return a folder with the indexed modules of a release; None if there are none."""
    for folder in _folders(root, release):
        indexed = (folder / "modules.dep").is_file() and (root / "lib" / "modules" / release).is_dir()
        if indexed and not _gzipped(folder / "kernel"):
            return root
        if (folder / "kernel").is_dir():
            found = {str(path.relative_to(folder / "kernel")): path for path in (folder / "kernel").rglob("*.ko*")}
            return modules.gather(release, found, folder, root)
    return None


def _resolve(spec: Spec, root: Path, release: str, path: Path) -> Kernel:
    image = artifact.image(inside(root, path))
    if image.release != release:
        raise KernelError(
            f"{path} is the kernel {image.release}, not {release}",
            hint="a stale or renamed image: install or build it again",
        )
    return artifact.kernel(
        spec,
        image,
        modules_root=modules_of(root, release),
        config=config_of(root, release),
        provenance={"path": str(path)},
    )


def _gzipped(folder: Path) -> bool:
    """Tell from one module whether a build's modules are .ko.gz, which the kmod of Debian neither reads nor indexes."""
    return next((path.name.endswith(".gz") for path in folder.rglob("*.ko*")), False)


def _folders(root: Path, release: str) -> list[Path]:
    return [root / "lib" / "modules" / release, root / "usr" / "lib" / "modules" / release]


def _first(paths: list[Path]) -> Path | None:
    return next((path for path in paths if path.is_file()), None)
