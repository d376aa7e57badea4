# SPDX-License-Identifier: GPL-2.0-only
"""Kernel specs: what is one, and what an error says of what is none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from common.errors import ExitCode
from common.errors import UsageError
from kernels.resolve import parse
from kernels.spec import Source


@pytest.mark.parametrize(
    ("text", "source", "wanted", "slug"),
    [
        ("debian:6.12", Source.DEBIAN, "6.12", "debian-6.12"),
        ("debian:6.12/cloud", Source.DEBIAN, "6.12", "debian-6.12-cloud"),
        ("debian:6.12.95+deb12", Source.DEBIAN, "6.12.95+deb12", "debian-6.12.95_deb12"),
        ("debian:trixie-backports", Source.DEBIAN, "trixie-backports", "debian-trixie-backports"),
        ("installed:6.1.0-50-amd64", Source.INSTALLED, "6.1.0-50-amd64", "installed-6.1.0-50-amd64"),
        ("host", Source.HOST, "", "host"),
    ],
)
def test_forms(text: str, source: Source, wanted: str, slug: str) -> None:
    """Every form of a spec is taken apart and named for test ids."""
    spec = parse(text)
    assert (spec.text, spec.source, spec.wanted, spec.slug) == (text, source, wanted, slug)
    assert spec.cloud == text.endswith("/cloud")


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What exists is a directory or a file, with or without a slash, also below ~."""
    tree, image = tmp_path / "My Linux", tmp_path / "bzImage"
    tree.mkdir()
    image.touch()
    assert (parse(str(tree)).source, parse(str(tree)).slug) == (Source.DIRECTORY, "my_linux")
    assert (parse(str(image)).source, parse(str(image)).slug) == (Source.FILE, "bzimage")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse("bzImage").wanted == parse("./bzImage").wanted == parse("~/bzImage").wanted == str(image)
    assert re.fullmatch("[a-z0-9_.-]+", parse("/").slug)


@pytest.mark.parametrize(
    ("text", "sentence", "hint"),
    [
        ("6.12", "unknown kernel '6.12'", "did you mean debian:6.12?"),
        ("nonsense", "unknown kernel 'nonsense'", "debian:VERSION"),
        ("", "unknown kernel ''", "debian:VERSION"),
        ("./nonsense", "no such file or directory: ./nonsense", "debian:VERSION"),
        ("~/nonsense", "no such file or directory: ~/nonsense", "debian:VERSION"),
        ("fedora:6.12", "unknown kernel 'fedora:6.12'", "debian:VERSION"),
        ("debian:", "names neither a version nor a suite", "debian:6.12"),
        ("debian:6", "names neither a version nor a suite", "debian:6.12"),
        ("debian:../../etc", "names neither a version nor a suite", "debian:6.12"),
        ("debian:6.12/rt", "asks for the flavour 'rt'", "/cloud"),
        ("installed:", "names no release", "installed:6.1.0-50-amd64"),
        ("installed:../x", "names no release", "installed:6.1.0-50-amd64"),
    ],
)
def test_errors(text: str, sentence: str, hint: str) -> None:
    """What is no spec is refused with a sentence that quotes it and a hint that shows one."""
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert sentence in str(caught.value)
    assert hint in caught.value.hint
    assert caught.value.exit_code == ExitCode.BROKEN
