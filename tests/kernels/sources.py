# SPDX-License-Identifier: GPL-2.0-only
"""A tiny kernel source in a git repository, with a Makefile that prints like the kernel's."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from common import cache
from common.errors import ConformError
from kernels.resolve import resolve

BUILT = [
    pytest.mark.usefixtures("tools"),
    pytest.mark.skipif(
        shutil.which("make") is None or shutil.which("git") is None,
        reason="make and git build a kernel",
    ),
]
"""The marks of a test that builds a kernel."""
MAKEFILE = """\
OBJECTS = net/core/sock_map.o net/core/skmsg.o
all: arch/x86/boot/bzImage
arch/x86/boot/bzImage: $(OBJECTS) .config
	mkdir -p arch/x86/boot include/config
	cat fake.image > $@
	echo map > System.map
	echo @RELEASE@ > include/config/kernel.release
%.o: %.c
	@echo '  CC      $@'
	@! grep -Hn '^#error' $< | sed 's/:#error/: error: #error/' | grep . >&2
	@cp $< $@; echo $@ >> compiled
x86_64_defconfig:
	echo CONFIG_NET=y > .config
olddefconfig:
	grep -v ABSENT .config > .config.new && mv .config.new .config
"""


def git(*arguments: str) -> str:
    """Run the user's git."""
    identity = ("-c", "user.name=a", "-c", "user.email=a@invalid")
    return subprocess.run(["git", *identity, *arguments], capture_output=True, text=True, check=True).stdout


def commit(subject: str) -> None:
    """Commit everything."""
    git("add", "--all")
    git("commit", "--quiet", "-m", subject)


def change(path: str, old: str = "one", new: str = "three") -> str:
    """Change a file of the user's and return the diff."""
    file = Path(path)
    file.write_text(file.read_text().replace(old, new))
    return git("diff")


def compiled() -> list[str]:
    """Return the files compiled in the trees of the cache, in order."""
    return [line for path in (cache.root() / "trees").glob("*/linux/compiled") for line in path.read_text().split()]


def everything(root: Path) -> dict[str, tuple[int, bytes]]:
    """Return all files below a folder, by their time and content; git updates the time of an object that it uses."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path): (0 if "objects" in path.parts else path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def failure(spec: str) -> ConformError:
    """Return the error that a spec ends in."""
    with pytest.raises(ConformError) as caught:
        resolve(spec)
    return caught.value
