# SPDX-License-Identifier: GPL-2.0-only
"""Unpack the files that a guest needs from kernel packages, in the layout of an unpacked package."""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
from pathlib import Path

from common.errors import HostError
from kernels import modules

# From 7.x, image and configuration lie with the modules instead of in /boot.
_LAYOUT = re.compile(
    r"(?:\./)?(?:usr/)?(?:"
    r"boot/(?P<file>vmlinuz|config)-(?P<of>[^/]+)"
    r"|lib/modules/(?P<release>[^/]+)/(?P<path>vmlinuz|config|modules\.[a-z.]+|kernel/.+)"
    r")"
)


def unpack(package: Path, root: Path, release: str) -> None:
    """Unpack image, configuration and the modules a guest may need, decompressed, below `root`."""
    # fmt: off
    command = [
        "dpkg-deb",
        "--fsys-tarfile", str(package),
    ]
    # fmt: on
    if shutil.which(command[0]) is None:
        raise HostError("dpkg-deb is not installed", hint="install the package dpkg, or give a directory or a file")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                for member in archive:
                    target = _target(member.name, release) if member.isreg() else None
                    content = archive.extractfile(member) if target is not None else None
                    if target is not None and content is not None:
                        path = root / modules.MODULE.sub(".ko", target)
                        path.parent.mkdir(parents=True, exist_ok=True)
                        path.write_bytes(modules.plain(content.read(), target))
            process.stdout.read()
        except (tarfile.TarError, EOFError) as error:
            raise _damaged(package, str(error)) from error
        finally:
            # After an error dpkg-deb would block on a pipe without a reader.
            process.stdout.close()
        message = process.stderr.read().decode("utf-8", "replace").strip()
    if process.returncode:
        raise _damaged(package, message)


def _target(name: str, release: str) -> str | None:
    match = _LAYOUT.fullmatch(name)
    if match is None or release not in (match["of"], match["release"]) or ".." in name.split("/"):
        return None
    if match["file"]:
        return f"boot/{match['file']}-{release}"
    path = match["path"]
    if path in ("vmlinuz", "config"):
        return f"boot/{path}-{release}"
    module = path.removeprefix("kernel/")
    if path in modules.INDEX_INPUTS or (module != path and modules.MODULE.search(module) and modules.wanted(module)):
        return f"lib/modules/{release}/{path}"
    return None


def _damaged(package: Path, reason: str) -> HostError:
    return HostError(
        f"{package.name} cannot be unpacked: {reason}", hint="fetch it again with `./conform kernels fetch`"
    )
