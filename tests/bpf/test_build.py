# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bpf import build
from bpf import object as bpf_object
from common import cache
from common.errors import HostError

GOOD = (build.SOURCES / "sk_skb_fence.bpf.c").read_text()
EMPTY = """#include "redirect.h"
SEC("sk_skb") int nothing(struct __sk_buff *skb) { return skb->len; }
"""


@pytest.fixture(autouse=True)
def cached(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache for this module, without the remembered path of the compiler."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "bpf-cache"))
    build._compiler.cache_clear()


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: None) -> None:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(name="sources")
def fixture_sources(tmp_path: Path) -> Callable[[str], Path]:
    """Write a folder with one program in it."""

    def write(text: str) -> Path:
        folder = tmp_path / "sources"
        folder.mkdir(exist_ok=True)
        (folder / "one.bpf.c").write_text(text)
        return folder

    return write


def programs(module: str) -> dict[str, Any]:
    """Import the source of a generated module."""
    namespace: dict[str, Any] = {}
    exec(module, namespace)  # noqa: S102
    found: dict[str, Any] = namespace["PROGRAMS"]
    return found


def test_the_module_holds_every_program_ready_to_load() -> None:
    """The module has instructions, relocations and map definitions of every program."""
    found = programs(build.programs_module())
    assert set(found) == {path.name.removesuffix(".bpf.c") for path in build.SOURCES.glob("*.bpf.c")}
    for name, program in found.items():
        assert name.startswith(program["section"])
        assert program["licence"] == "GPL"
        assert {label for _, label in program["relocations"]} == set(program["maps"])
        for index, _ in program["relocations"]:
            # ld_imm64 with BPF_PSEUDO_MAP_FD as source register
            assert program["instructions"][index * 8] == 0x18
            assert program["instructions"][index * 8 + 1] >> 4 == 1
    assert found["sk_msg_redirect_hash"]["maps"] == {"state": (2, 4, 48, 1, 1024), "targets": (18, 4, 4, 2, 0)}


def test_hashes_are_those_of_the_objects() -> None:
    """Provenance names what was really loaded."""
    found = programs(build.programs_module())
    assert build.object_hashes() == {name: program["sha256"] for name, program in found.items()}


def test_what_is_built_is_not_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second start runs no compiler and no ELF reader."""
    first = build.programs_module()

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("something was started")

    monkeypatch.setattr(subprocess, "run", refuse)
    assert build.programs_module() == first


@pytest.mark.usefixtures("own_cache")
def test_a_changed_source_or_header_is_another_entry(sources: Callable[[str], Path]) -> None:
    """The cache key has the content of sources and headers."""
    folder = sources(GOOD)
    entries = {build.build(folder)["one"]}
    entries.add(build.build(sources(GOOD + "\n"))["one"])
    (folder / "new.h").write_text("\n")
    entries.add(build.build(folder)["one"])
    assert len(entries) == 3


@pytest.mark.usefixtures("own_cache")
def test_the_same_source_makes_the_same_object_wherever_it_lies(tmp_path: Path) -> None:
    """Two checkouts have the same hashes in their provenance."""
    hashes = set()
    for place in ("here", "there"):
        folder = tmp_path / place
        folder.mkdir()
        (folder / "one.bpf.c").write_text(GOOD)
        hashes.add(build.object_hashes(folder)["one"])
        cache.remove(cache.root() / "bpf")
    assert len(hashes) == 1


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without clang the user learns what to install."""
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(HostError) as caught:
        build.programs_module()
    assert "clang" in str(caught.value)
    assert caught.value.hint == "apt-get install clang"


@pytest.mark.usefixtures("own_cache")
def test_a_refused_source_is_quoted_and_leaves_nothing(sources: Callable[[str], Path]) -> None:
    """The compiler's first error is the message; the cache has no half-built entry."""
    with pytest.raises(HostError) as caught:
        build.build(sources(GOOD.replace("targets, 0", "goals, 0")))
    assert str(caught.value).startswith("clang cannot compile one.bpf.c: one.bpf.c:")
    assert "goals" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (cache.root() / "bpf").exists()
    assert not list((cache.root() / "partial").iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (EMPTY.replace("return", "static volatile int runs; runs++; return"), "which is not a map"),
        (EMPTY + EMPTY.splitlines()[1].replace("nothing", "other"), "2 programs"),
        (EMPTY + EMPTY.splitlines()[1].replace("nothing", "other").replace("sk_skb", "sk_skb2"), "2 sections of code"),
        ("int data = 1;\n", "0 sections of code"),
    ],
)
def test_objects_that_the_loader_cannot_load_are_refused(
    sources: Callable[[str], Path], text: str, message: str
) -> None:
    """Global data, calls between sections and the like fail on the host, not in the guest."""
    with pytest.raises(HostError) as caught:
        build.build(sources(text))
    assert message in str(caught.value)


def test_a_truncated_object_is_refused(tmp_path: Path) -> None:
    """A file cut short is an error of one sentence, wherever it was cut."""
    whole = build.build()["sk_skb_fence"].read_bytes()
    cut = tmp_path / "cut.o"
    for size in range(0, len(whole), 37):
        cut.write_bytes(whole[:size])
        with pytest.raises(HostError, match=r"cut\.o"):
            bpf_object.read(cut)
