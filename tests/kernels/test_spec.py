# SPDX-License-Identifier: GPL-2.0-only
"""Kernel specs: valid ones, and the errors for invalid ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from common.errors import ExitCode, UsageError
from kernels.resolve import amend, parse
from kernels.spec import Preset, SpecSource


@pytest.mark.parametrize(
    ("text", "source", "wanted", "slug"),
    [
        ("debian:6.12", SpecSource.DEBIAN, "6.12", "debian-6.12"),
        ("debian:6.12/cloud", SpecSource.DEBIAN, "6.12", "debian-6.12-cloud"),
        ("debian:6.12.95+deb12", SpecSource.DEBIAN, "6.12.95+deb12", "debian-6.12.95_deb12"),
        ("debian:trixie-backports", SpecSource.DEBIAN, "trixie-backports", "debian-trixie-backports"),
        ("installed:6.1.0-50-amd64", SpecSource.INSTALLED, "6.1.0-50-amd64", "installed-6.1.0-50-amd64"),
        ("host", SpecSource.HOST, "", "host"),
        ("source:7.3", SpecSource.SOURCE, "7.3", "source-7.3"),
        ("source:7.3.4-1~bpo13+1,preset=debug", SpecSource.SOURCE, "7.3.4-1~bpo13+1", "source-7.3.4-1_bpo13_1-debug"),
        ("source:trixie-backports", SpecSource.SOURCE, "trixie-backports", "source-trixie-backports"),
    ],
)
def test_forms(text: str, source: SpecSource, wanted: str, slug: str) -> None:
    """Every form of a spec is parsed, and gets its slug."""
    spec = parse(text)
    assert (spec.text, spec.source, spec.wanted, spec.slug) == (text, source, wanted, slug)
    assert spec.cloud == text.endswith("/cloud")


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An existing path is a directory or a file, with or without a slash, also below ~."""
    tree, image = tmp_path / "My Linux", tmp_path / "bzImage"
    tree.mkdir()
    image.touch()
    assert (parse(str(tree)).source, parse(str(tree)).slug) == (SpecSource.DIRECTORY, "my_linux")
    assert (parse(str(image)).source, parse(str(image)).slug) == (SpecSource.FILE, "bzimage")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse("bzImage").wanted == parse("./bzImage").wanted == parse("~/bzImage").wanted == str(image)
    assert re.fullmatch("[a-z0-9_.-]+", parse("/").slug)
    (tmp_path / "b,patch=x").mkdir()
    assert parse("b,patch=x").source is SpecSource.DIRECTORY


@pytest.mark.parametrize(
    ("text", "sentence", "hint"),
    [
        ("6.12", "unknown kernel '6.12'", "did you mean debian:6.12?"),
        ("nonsense", "unknown kernel 'nonsense'", "debian:VERSION"),
        ("", "unknown kernel ''", "debian:VERSION"),
        ("./nonsense", "no such file or directory: ./nonsense", "debian:VERSION"),
        ("~/nonsense", "no such file or directory: ~/nonsense", "debian:VERSION"),
        ("~nonsense/x", "no such file or directory: ~nonsense/x", "debian:VERSION"),
        ("x" * 300, "unknown kernel 'xxx", "debian:VERSION"),
        ("fedora:6.12", "unknown kernel 'fedora:6.12'", "debian:VERSION"),
        ("debian:", "names neither a version nor a suite", "debian:6.12"),
        ("debian:6", "names neither a version nor a suite", "debian:6.12"),
        ("debian:../../etc", "names neither a version nor a suite", "debian:6.12"),
        ("debian:6.12/rt", "asks for the flavour 'rt'", "/cloud"),
        ("source:", "names neither a version nor a suite", "source:7.3"),
        ("source:7.3,patch=none.patch", "there is no patch 'none.patch'", "relative to the current directory"),
        ("source:7.3,config=", "there is no fragment of a configuration ''", "give a file"),
        ("source:7.3,config=/", "'/' is not a regular file, so it cannot be a fragment of a conf", "to one first"),
        ("source:7.3,patch=/dev/null", "'/dev/null' is not a regular file, so it cannot be a patch", "to one first"),
        ("debian:6.12,patch=x", "debian:6.12 is built already, so it cannot have patch=x", "source:VERSION"),
        ("debian:6.12/cloud,preset=debug", "debian:6.12/cloud is built already", "tree:PATH"),
        ("installed:6.1.0-50-amd64,config=x", "is built already, so it cannot have config=x", "source:VERSION"),
        ("host,patch=x", "host is built already, so it cannot have patch=x", "source:VERSION"),
        ("~/linux,patch=x,config=y", "~/linux is built already, so it cannot have patch=x", "source:VERSION"),
        ("source:7.3,preset=slow", "there is no preset 'slow'", "fast, debug"),
        ("source:7.3,preset=fast,preset=debug", "asks for the presets fast and debug", "give one preset"),
        ("source:7.3,pach=fix", "has the unknown option 'pach'", "patch=, config=, preset="),
        ("tree:", "names no directory", "tree:~/linux@v7.3"),
        ("tree:@HEAD", "names no directory", "tree:~/linux@v7.3"),
        ("tree:~nonsense/x", "no such directory: ~nonsense/x", "tree:~/linux@v7.3"),
        ("tree:/nowhere@HEAD", "no such directory: /nowhere", "tree:~/linux@v7.3"),
        ("tree:/@", "names no revision after the @", "tree:~/linux@v7.3"),
        ("installed:", "names no release", "installed:6.1.0-50-amd64"),
        ("installed:../x", "names no release", "installed:6.1.0-50-amd64"),
    ],
)
def test_errors(text: str, sentence: str, hint: str) -> None:
    """An invalid spec is refused with a sentence that quotes it and a hint with a valid one."""
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert sentence in str(caught.value)
    assert hint in caught.value.hint
    assert caught.value.exit_code == ExitCode.BROKEN


def test_trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tree may be followed by a revision, and both may hold an @; relative to the current directory, and to ~."""
    (tmp_path / "linux@home").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for text, revision, slug in (
        ("tree:linux@home", "", "tree-linux_home"),
        ("tree:~/linux@home@v7.3", "v7.3", "tree-linux_home-v7.3"),
        ("tree:./linux@home@HEAD@{1}", "HEAD@{1}", "tree-linux_home-head__1_"),
    ):
        spec = parse(text)
        assert (spec.wanted, spec.revision, spec.slug) == (str(tmp_path / "linux@home"), revision, slug)
        assert spec.builds
    assert parse("tree:.").wanted == str(tmp_path)


def test_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Build options are part of the spec, or are added to it; a comma in a name is part of the name."""
    monkeypatch.chdir(tmp_path)
    first, second, fragment = tmp_path / "a,b.patch", tmp_path / "fix.patch", tmp_path / "more.config"
    for path in (first, second, fragment):
        path.write_text("--- a/x\n+++ b/x\n")
    text = amend("source:7.3,patch=a,b.patch", patches=["fix.patch"], fragments=[str(fragment)], preset="debug")
    spec = parse(text)
    assert (spec.text, spec.wanted) == (text, "7.3")
    assert (spec.patches, spec.fragments, spec.preset) == ((first, second), (fragment,), Preset.DEBUG)
    assert spec.slug == "source-7.3-a_b-fix-more-debug"
    assert amend("debian:6.12") == "debian:6.12"
    with pytest.raises(UsageError, match=r"debian:6\.12 is built already, so it cannot have patch=fix\.patch"):
        amend("debian:6.12", patches=["fix.patch"])
    # Before anything is built: the base of a comparison, which has no patch, takes an hour.
    with pytest.raises(UsageError, match=r"there is no patch 'nosuch\.patch'"):
        amend("source:7.3", patches=["nosuch.patch"])
    first.write_text("")
    with pytest.raises(UsageError, match=r"a,b\.patch holds no diff"):
        amend("source:7.3", patches=["a,b.patch"])
