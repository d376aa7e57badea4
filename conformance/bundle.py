# SPDX-License-Identifier: GPL-2.0-only
"""The code that travels into the guest: scenarios, the BPF loader and the BPF programs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from bpf.build import programs_module
from common.errors import KernelError
from vm.machine import Bundle
from vm.machine import Fate
from vm.machine import Machine

_ROOT = Path(__file__).resolve().parent.parent
_SOURCES = ("conformance/__init__.py", "conformance/scenarios/*.py", "bpf/__init__.py", "bpf/guest/*.py")
_WARM_UP_DEADLINE = 5.0


@cache
def guest_bundle() -> Bundle:
    """Return every guest module by dotted name; builds the BPF programs if their cached build is out of date."""
    files = sorted(path for pattern in _SOURCES for path in _ROOT.glob(pattern))
    bundle = {_dotted(path): path.read_text() for path in files}
    bundle["bpf.guest.programs"] = programs_module()
    return bundle


def warm_up(machine: Machine) -> None:
    """Run one case of each family, so that a template saved afterwards has its code paged in.

    Raises KernelError where the kernel does not come through it.
    """
    reply = machine.call("conformance.scenarios.redirect:warmup", {}, deadline=_WARM_UP_DEADLINE)
    if reply.fate is not Fate.ANSWERED:
        witness = (reply.error or reply.console).strip().splitlines() or ["it gave no sign"]
        raise KernelError(
            f"the kernel did not come through the warm-up: {reply.fate}, {witness[-1]}",
            hint="boot it another way to see more: --machine cold",
        )


def _dotted(path: Path) -> str:
    return ".".join(path.relative_to(_ROOT).with_suffix("").parts)
