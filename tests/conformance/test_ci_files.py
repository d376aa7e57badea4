# SPDX-License-Identifier: GPL-2.0-only
"""The commands in the files for CI systems are valid."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from conformance import cli
from tests.conformance.conform import ROOT

FILES = (".github/workflows/nightly.yml", "plans/nightly.fmf")
COMMAND = re.compile(r"\./conform .*")
_SHELL = re.compile(r">>?|&&|\|\||;")


def commands(path: Path) -> list[list[str]]:
    """Return the arguments of every ./conform in a file, as the shell would pass them."""
    found = []
    for line in COMMAND.findall(path.read_text(encoding="utf-8")):
        text = re.sub(r"\$\{\{.*?\}\}|\$\{?\w+\}?", "1", _SHELL.split(line)[0])
        found.append(shlex.split(text)[1:])
    return found


@pytest.mark.parametrize("name", FILES)
def test_every_command_is_one(name: str) -> None:
    """Options that were renamed, and shares of a wrong form, are found here and not at night."""
    called = commands(ROOT / name)

    assert {arguments[0] for arguments in called} >= {"merge", "matrix"}
    for arguments in called:
        options = cli.parse(arguments)
        assert getattr(options, "shard", None) in (None, "1/4")
