# SPDX-License-Identifier: GPL-2.0-only
"""The code that is sent into the guest: scenarios, the BPF loader and the BPF programs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from bpf.build import programs_module
from conformance.groups import GROUPS
from conformance.judge.conclude import trouble_of
from vm.launch import UnfitError
from vm.machine import Bundle, Machine

_ROOT = Path(__file__).resolve().parents[2]
_SOURCES = (
    "conformance/__init__.py",
    "conformance/guestlib/*.py",
    "conformance/groups/*/guest/*.py",
    "bpf/__init__.py",
    "bpf/guest/*.py",
)
_WARM_UP = "conformance.guestlib.fixture:warm_up"
_WARM_UP_DEADLINE = 5.0

_planted: dict[str, str] = {}
"""Modules that replace modules of the suite; see plant()."""


@cache
def guest_bundle() -> Bundle:
    """Return every guest module by dotted name; builds the BPF programs if their cached build is out of date."""
    files = sorted(path for pattern in _SOURCES for path in _ROOT.glob(pattern))
    bundle = {_dotted(path): path.read_text() for path in files}
    bundle["bpf.guest.programs"] = programs_module()
    return bundle | _planted


def plant(modules: Bundle) -> None:
    """Make this process load `modules` into guests in place of the suite's own: for faults, never for a verdict."""
    _planted.update(modules)
    guest_bundle.cache_clear()


def warm_up(machine: Machine) -> None:
    """Run some cases of each group, so that a template saved afterwards has paged in and kept what most cases use.

    Raises UnfitError if the kernel is not healthy afterwards: the cases must find the reason.
    """
    calls = [(_WARM_UP, {"cases": cases}) for cases in _warm_up_cases()]
    # The last call does nothing; its log has the kernel's late lines.
    for function, arguments in (*calls, ("builtins:len", {})):
        if trouble := trouble_of(machine.call(function, arguments, deadline=_WARM_UP_DEADLINE)):
            raise UnfitError(trouble[1])


@cache
def _warm_up_cases() -> tuple[list[tuple[str, dict[str, str]]], ...]:
    """List the cases to run of each group; programs without a group need none."""
    chosen = ([case for case in group.cases() if case.name in group.warm_up] for group in GROUPS.values())
    return (*([(case.scenario, dict(case.params)) for case in cases] for cases in chosen if cases), [])


def _dotted(path: Path) -> str:
    return ".".join(path.relative_to(_ROOT).with_suffix("").parts)
