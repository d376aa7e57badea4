# SPDX-License-Identifier: GPL-2.0-only
"""Plant a fault into guests, for benchmarks and tests: the kernel loses every seventh redirected message.

    python -m conformance.lossy run --kernel debian:6.12 ...

does what `./conform run` does, on such a kernel. It has its own templates, by an option of the kernel command line.
pytest's workers load this module as a plugin, and so plant the same fault.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bpf
from bpf import build
from conformance.run import bundle

FAULTS = Path(bpf.__file__).with_name("faults")
OPTION = "conform.fault=lossy"
"""No option of the kernel; it gives the faulty kernel its own templates."""

_REDIRECT = "conformance.groups.redirect.guest.scenario"
_SENDING = """

# An SK_MSG program cannot lose data that it accepts, so data that was sent this way is lost before the reader gets it.
_look_at_all = _Flow._look


def _look_lossy(self):
    held = {name: len(found) for name, found in self._received.items()}
    _look_at_all(self)
    if self._setup.sends:
        for name, found in self._received.items():
            found[held[name] :] = [each for each in found[held[name] :] if isinstance(each, str) or random.randrange(7)]


_Flow._look = _look_lossy
"""


def plant() -> None:
    """Make every guest that this process loads from now on lose messages."""
    sound: dict[str, Any] = {}
    faulty: dict[str, Any] = {}
    exec(build.programs_module(), sound)  # noqa: S102 - made by our own build
    exec(build.programs_module(FAULTS), faulty)  # noqa: S102 - the same
    bundle.plant(
        {
            build.MODULE: f"PROGRAMS = {sound['PROGRAMS'] | faulty['PROGRAMS']!r}\n",
            _REDIRECT: bundle.guest_bundle()[_REDIRECT] + _SENDING,
        }
    )


def main(arguments: Sequence[str]) -> int:
    """Do what `./conform` does with `arguments`, which name the command `run`."""
    from conformance.cli import main as conform

    importlib.import_module("conformance.lossy")  # plants it, under the name that pytest finds it by
    own, separator, rest = _split(arguments)
    return conform([*own, f"--append={OPTION}", separator, "-p", "conformance.lossy", *rest])


def _split(arguments: Sequence[str]) -> tuple[Sequence[str], str, Sequence[str]]:
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], "--", arguments[at + 1 :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
else:
    plant()
