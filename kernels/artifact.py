# SPDX-License-Identifier: GPL-2.0-only
"""From files to a Kernel: the bootable form of an image, its release, banner and configuration."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common import cache
from common.errors import KernelError
from kernels import config as configuration
from kernels import modules, seal, vmlinux
from kernels.kernel import Kernel
from kernels.spec import Spec
from kernels.version import Version

_SCHEMA = 1
_RELEASE = re.compile(r"Linux version (\S+)")
_NAME = re.compile(r"[0-9A-Za-z][\w.+~@:,=^-]{0,63}", re.ASCII)
"""A release names folders; and `__NEW_UTS_LEN` is 64."""
# Search after the build number: the compiler's version before it looks alike.
_DEBIAN = re.compile(r"#\d+ .*\bDebian (\d+\.\d+[^\s-]*)-")


@dataclass(frozen=True, slots=True)
class Image:
    """An image in its bootable form."""

    boot: Path | None
    """The file for QEMU to load; None for the running kernel."""
    compressed: Path | None
    banner: str
    config: str
    """The configuration embedded in it, or ""."""
    digest: str

    @property
    def release(self) -> str:
        """What `uname -r` will print; KernelError if no kernel could have such a release."""
        match = _RELEASE.match(self.banner)
        if match is not None and not _NAME.fullmatch(match[1]):
            quoted = f"{match[1][:40]!r}" + (f" and {len(match[1]) - 40} characters more" if len(match[1]) > 40 else "")
            raise KernelError(f"{quoted} is not a kernel release", hint="64 letters, digits and .+~@:,=^-_ at most")
        return match[1] if match else ""


def upstream(banner: str, release: str) -> Version:
    """Return the upstream version: Debian's release has no sublevel before 6.12, but its banner has."""
    match = _DEBIAN.search(banner)
    try:
        return Version.parse(match[1] if match else release)
    except ValueError as error:
        raise KernelError(
            f"{release!r} is not a kernel release", hint="set CONFIG_LOCALVERSION, not VERSION"
        ) from error


def image(path: Path) -> Image:
    """Inspect a kernel image, and extract the vmlinux of a bzImage once; KernelError if it cannot boot."""
    match vmlinux.kind(path):
        case vmlinux.ImageKind.BZIMAGE:
            digest = _hash(path)
            path = path.resolve()
            entry = cache.root() / "images" / digest
            if entry.is_dir() and seal.flaw(entry):
                cache.discard(entry)
            cache.publish(entry, lambda temporary: _sealed(path, temporary))
            return prepared(entry, digest, compressed=path)
        case vmlinux.ImageKind.VMLINUX:
            if not vmlinux.has_pvh(path):
                raise KernelError(
                    f"{path} has no PVH note, so QEMU cannot boot it", hint="give the bzImage, or set CONFIG_PVH=y"
                )
            digest = vmlinux.build_id(path) or _hash(path)
            return Image(path, None, vmlinux.banner(path), vmlinux.embedded_config(path), digest)
    description, hint = vmlinux.description(path)
    raise KernelError(
        f"{path} is not an x86-64 kernel{': it is ' if description else ''}{description}",
        hint=hint or "give a bzImage, a vmlinuz or an uncompressed vmlinux",
    )


def _sealed(bzimage: Path, entry: Path) -> None:
    prepare(bzimage, entry)
    seal.seal(entry)


def prepare(bzimage: Path, entry: Path) -> None:
    """Fill the directory `entry`: the vmlinux of an image, if it boots, its release, banner and configuration."""
    entry.mkdir(parents=True, exist_ok=True)
    inner = entry / "vmlinux"
    facts = {"banner": vmlinux.banner(bzimage), "config": "", "boot": "compressed"}
    try:
        vmlinux.extract(bzimage, inner)
    except vmlinux.UnsupportedError as reason:
        facts["why"] = str(reason)
        inner.unlink(missing_ok=True)
    else:
        facts["banner"] = vmlinux.banner(inner) or facts["banner"]
        facts["config"] = vmlinux.embedded_config(inner)
        if vmlinux.has_pvh(inner):
            facts["boot"] = inner.name
        else:
            inner.unlink()
    (entry / "image.json").write_text(json.dumps(facts))


def prepared(entry: Path, digest: str, *, compressed: Path) -> Image:
    """Read back what `prepare` made of the bzImage `compressed`."""
    facts = json.loads((entry / "image.json").read_text())
    boot = compressed if facts["boot"] == "compressed" else entry / facts["boot"]
    return Image(boot, compressed, facts["banner"], facts["config"], digest)


def kernel(
    spec: Spec,
    found: Image,
    *,
    modules_root: Path | None,
    config: Path | None,
    provenance: Mapping[str, str],
    digest: str = "",
) -> Kernel:
    """Make a Kernel; pass `digest` if it is already known."""
    text = configuration.read(config) if config else configuration.parse(found.config)
    config_hash = hashlib.sha256(json.dumps(text, sort_keys=True).encode()).hexdigest()
    return Kernel(
        spec=spec.text,
        slug=spec.slug,
        release=found.release,
        version=upstream(found.banner, found.release),
        banner=found.banner,
        image=found.boot,
        compressed=found.compressed,
        modules=modules_root,
        config=text,
        provenance={"source": spec.source.value, **provenance, "config": config_hash if text else "unknown"},
        digest=digest or _digest(found, modules_root, config_hash),
    )


def _digest(found: Image, root: Path | None, config_hash: str) -> str:
    # Modules by name, size and time, as make does: hashing the gigabytes of an unstripped tree would cost more
    # than the run.
    total = hashlib.sha256(f"{_SCHEMA} {found.digest} {config_hash}".encode())
    if root is not None:
        for path in sorted(modules.folder(root, found.release).rglob("*.ko*")):
            status = (modules.checked(root, path) if path.is_symlink() else path).stat()
            total.update(f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return total.hexdigest()


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
