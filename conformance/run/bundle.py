# SPDX-License-Identifier: GPL-2.0-only
"""The code that travels into the guest: scenarios, the BPF loader and the BPF programs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from bpf.build import programs_module
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
_WARM_UPS = (
    "groups.redirect.guest.scenario:warmup",
    "guestlib.fixture:warm_up",
    "groups.enrol.guest.scenario:warm_up",
    "groups.teardown.guest.scenario:warm_up",
)
_WARM_UP_DEADLINE = 5.0

_planted: dict[str, str] = {}
"""Modules that stand in for those of this suite; see plant()."""


@cache
def guest_bundle() -> Bundle:
    """Return every guest module by dotted name; builds the BPF programs if their cached build is out of date."""
    files = sorted(path for pattern in _SOURCES for path in _ROOT.glob(pattern))
    bundle = {_dotted(path): path.read_text() for path in files}
    bundle["bpf.guest.programs"] = programs_module()
    return bundle | _planted


def plant(modules: Bundle) -> None:
    """Have this process load `modules` into guests in place of the suite's own: for faults, never for a verdict."""
    _planted.update(modules)
    guest_bundle.cache_clear()


def warm_up(machine: Machine) -> None:
    """Run one case of each family, so that a template saved afterwards has its code paged in.

    Raises UnfitError where the kernel does not come through it in good health: that is for the cases to find.
    """
    # The last call does nothing; its log is what the kernel said late.
    for function in (*(f"conformance.{name}" for name in _WARM_UPS), "builtins:len"):
        if trouble := trouble_of(machine.call(function, {}, deadline=_WARM_UP_DEADLINE)):
            raise UnfitError(trouble[1])


def _dotted(path: Path) -> str:
    return ".".join(path.relative_to(_ROOT).with_suffix("").parts)
