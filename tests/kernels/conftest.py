# SPDX-License-Identifier: GPL-2.0-only
"""Every test of kernels has its own cache; tests that fetch have their own archive or source."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from kernels import apt, build, make
from tests.kernels import fakes
from tests.kernels.sources import MAKEFILE, commit, git


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sockmap-conformance"


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> fakes.FakeArchive:
    """An empty archive, which apt's sources name."""
    made = fakes.FakeArchive(tmp_path / "archive")
    monkeypatch.setattr(apt, "ETC", made.etc)
    return made


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces the tools for building a real kernel, which are not needed here."""

    def configure(tree: Path, fragments: tuple[Path, ...], log: Path) -> None:
        wanted = build._wanted(fragments)
        lines = [f"CONFIG_{name}={value}\n" for name, value in wanted.items() if value != "n" and name != "ABSENT"]
        (tree / ".config").write_text("".join(lines))

    monkeypatch.setattr(make, "PACKAGES", ())
    monkeypatch.setattr(make, "compiler", lambda: "cc 1")
    monkeypatch.setattr(make, "configure", configure)


@pytest.fixture
def linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with a kernel, as current directory."""
    root = tmp_path / "linux"
    (root / "net/core").mkdir(parents=True)
    (root / "Makefile").write_text(MAKEFILE.replace("@RELEASE@", fakes.RELEASE))
    (root / ".gitignore").write_text("*.o\n")
    (root / "Kbuild").touch()
    (root / "Kconfig").touch()
    (root / "fake.image").write_bytes(fakes.bzimage(gzip.compress(fakes.vmlinux())))
    for name in ("sock_map", "skmsg"):
        (root / f"net/core/{name}.c").write_text(f"int {name};\nint one;\nint two;\n")
    monkeypatch.chdir(root)
    git("init", "--quiet")
    commit("Begin")
    return root


@pytest.fixture
def stocked(archive: fakes.FakeArchive, tmp_path: Path) -> fakes.FakeArchive:
    """An archive with one kernel."""
    archive.add(fakes.image_package(tmp_path))
    return archive
