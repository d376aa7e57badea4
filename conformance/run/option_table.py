# SPDX-License-Identifier: GPL-2.0-only
"""The options that `conform run`, other commands and pytest share, as data: how each is read, and its help."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from common.values import Bounds
from conformance.groups.leaks.cases import FEWEST_ROUNDS, ROUNDS
from conformance.run.deadline import DEFAULT
from kernels.spec import Preset
from vm.machine import MachineKind

DEFAULT_KERNEL: Final = "debian:6.12"
CPUS: Final = Bounds(1, 255)
"""A PC of QEMU has no more without an interrupt remapper."""
MEMORY: Final = Bounds(256, 1 << 20)
"""MiB; the lower bound is what Debian's largest kernel, the root image and the cases need."""
STRESS: Final = Bounds(0, 24 * 60 * 60, fraction=True)
"""Seconds."""
_TRIES: Final = Bounds(1, 1_000_000)
REPEATABLE: Final = "; repeatable"
"""The end of the help of an option that may be given several times."""


class Heading(StrEnum):
    """The headings of `--help`."""

    KERNELS = "kernels"
    CASES = "cases"
    MACHINES = "machines"
    TRIES = "tries and deadlines"
    RESULTS = "results"


@dataclass(frozen=True, slots=True)
class Option:
    """One option."""

    name: str
    group: Heading
    settings: Mapping[str, Any]
    """Keyword arguments of argparse's `add_argument`."""

    @property
    def destination(self) -> str:
        """The name of its attribute in a parsed command line."""
        return f"conform_{self.name[2:].replace('-', '_')}"

    @property
    def default(self) -> Any:
        """Its default value."""
        return self.settings.get("default", False if self.settings.get("action") == "store_true" else None)


def _flag(name: str, group: Heading, text: str) -> Option:
    return Option(name, group, {"action": "store_true", "help": text})


def _files(name: str, group: Heading, metavar: str, text: str) -> Option:
    return Option(name, group, {"action": "append", "metavar": metavar, "help": f"{text}{REPEATABLE}"})


def _value(name: str, group: Heading, metavar: str, text: str, **more: Any) -> Option:
    return Option(name, group, {"metavar": metavar, "help": text, **more})


OPTIONS: Final = (
    _value(
        "--kernel", Heading.KERNELS, "SPEC",
        f"debian:6.12, source:7.3, tree:PATH@REV, a built tree, an image, installed:RELEASE or host{REPEATABLE}"
        f" (default: {DEFAULT_KERNEL})",
        action="append",
    ),
    _files("--patch", Heading.KERNELS, "FILE",
           "apply a diff or mbox to each kernel that is built from source; with `compare`, to HEAD only"),
    _files("--config", Heading.KERNELS, "FRAGMENT",
           "merge a .config fragment into each kernel that is built from source; with `compare`, into HEAD only"),
    Option("--preset", Heading.KERNELS, {
        "choices": [str(preset) for preset in Preset],
        "help": f"the configuration of each kernel that is built from source (default: {Preset.FAST})",
    }),
    _files("--case", Heading.CASES, "GLOB",
           "run only the cases whose id, GROUP/NAME, matches; GROUP or NAME alone is enough"),
    _files("--allowlist", Heading.CASES, "FILE", "run only the cases that FILE lists; see conformance/judge/lists.py"),
    _files("--denylist", Heading.CASES, "FILE", "skip the cases that FILE lists, with its reasons"),
    _files("--splatlist", Heading.CASES, "FILE", "treat the kernel warnings that FILE lists as xfail"),
    _flag("--quick", Heading.CASES,
          "run as few cases as possible that check every promise and known defect; takes seconds"),
    _value("--shard", Heading.CASES, "I/N",
           "run only share I of N equal shares of the cases; `merge` makes one run of all shares"),
    _value("--rounds", Heading.CASES, "N",
           "sockets to remove from a map in each way before checking for leaks"
           f" (default: {ROUNDS}; 1000 is thorough)", type=Bounds(FEWEST_ROUNDS, 1_000_000), default=ROUNDS),
    _value("--stress", Heading.CASES, "SECONDS",
           "stress each pair of socket kinds from several threads for SECONDS, best with --cpus 2 (default: 0, off)",
           type=STRESS, default=0.0),
    _value("--seed", Heading.CASES, "N", "random seed for --stress (default: random, printed)",
           type=Bounds(0, (1 << 63) - 1)),
    Option("--machine", Heading.MACHINES, {
        "choices": [str(kind) for kind in MachineKind],
        "default": "clone",
        "help": "clone (restored from a saved boot), cold (booted each time), vng (booted by stock virtme-ng) or host"
        " (this machine, the only choice for the kernel `host`) (default: clone)",
    }),
    Option("--accel", Heading.MACHINES, {
        "choices": ["auto", "kvm", "tcg"],
        "default": "auto",
        "help": "accelerator; auto (default): KVM if a probe boot succeeds, else TCG",
    }),
    _value("--append", Heading.MACHINES, "STRING", "add STRING to the kernel command line", default=""),
    _value("--cpus", Heading.MACHINES, "N", "virtual CPUs of a machine (default: 1)", type=CPUS, default=1),
    _value("--memory", Heading.MACHINES, "MIB", "memory of a machine in MiB (default: 512)", type=MEMORY, default=512),
    Option("--isolation", Heading.MACHINES, {
        "choices": ["case", "shard"],
        "default": "shard",
        "help": "use a fresh clone for each case, or one for each worker's share of the cases (default: shard)",
    }),
    _value("--tries", Heading.TRIES, "N",
           "retry an unexpected case in fresh clones, up to N tries in all; stop when a try differs (flaky)"
           " (default: 2, or 1 after three cases have confirmed the same failure)", type=_TRIES),
    _value("--repeat", Heading.TRIES, "N", "try each case N times; its worst verdict stands (default: 1)",
           type=_TRIES),
    _flag("--until-fail", Heading.TRIES, "repeat cases until one fails or --total-deadline is used up"),
    _value("--total-deadline", Heading.TRIES, "DURATION",
           "stop the run after DURATION, e.g. 90s, 10m, 1h30m; unfinished cases get the verdict `infra`"
           f" (default: {DEFAULT})", default=DEFAULT),
    _value("--results", Heading.RESULTS, "DIR",
           "write the event log, a summary and the evidence of unexpected cases to DIR, which must hold no results yet"
           " (default: a new folder, conform-results/DATE-TIME)"),
    _flag("--trace", Heading.RESULTS, "run each unexpected case again under ftrace (function_graph)"),
    _flag("--dump", Heading.RESULTS, "run each unexpected case again and dump the guest's memory"),
)  # fmt: skip
