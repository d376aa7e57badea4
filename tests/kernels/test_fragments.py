# SPDX-License-Identifier: GPL-2.0-only
"""The fragments of configurations that ship with the suite, compared with what the cases need."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from kernels import build

CHECKOUT = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in build.FRAGMENTS.glob("*.config"))


def symbols(*names: str) -> dict[str, str]:
    """Return what fragments ask for."""
    return build._wanted([build.FRAGMENTS / f"{name}.config" for name in names])


def test_every_fragment_is_of_a_preset() -> None:
    """Every fragment is used by a preset, and none is missing."""
    assert sorted({name for names in build.PRESETS.values() for name in names}) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_symbol_has_its_reason(name: str) -> None:
    """Every symbol has a comment above it, and occurs only once."""
    text = (build.FRAGMENTS / f"{name}.config").read_text()
    build._check([build.FRAGMENTS / f"{name}.config"])
    found = re.findall(r"^(?:# )?CONFIG_(\w+)(?:=| is not set)", text, re.MULTILINE)
    assert len(found) == len(set(found))
    for paragraph in text.split("\n\n")[1:]:
        first = paragraph.strip().splitlines()[0]
        assert first.startswith("# "), paragraph
        assert not first.endswith(" is not set"), paragraph


def test_the_suite_gets_what_it_needs() -> None:
    """Every symbol that all cases need is built in."""
    needs = tomllib.loads((CHECKOUT / "kernels/needs.toml").read_text())
    assert {symbols("suite").get(symbol) for symbol in (*needs["judge"], *needs["boot"])} == {"y"}


def test_every_case_gets_what_it_needs() -> None:
    """Every symbol that some case cannot do without is built into one of the presets, most into all of them."""
    rows = tomllib.loads((CHECKOUT / "conformance/judge/needs.toml").read_text())["need"]
    needed = {row["symbol"] for row in rows if "symbol" in row}
    assert "BPF_STREAM_PARSER" in needed
    have = symbols("suite", "fast", "debug")
    assert {symbol for symbol in needed if have.get(symbol) != "y"} == set()


def test_fast_takes_nothing_away_that_is_needed() -> None:
    """No preset turns off a symbol of the suite's own fragment."""
    for names in build.PRESETS.values():
        assert symbols("suite").items() <= symbols(*names).items()
