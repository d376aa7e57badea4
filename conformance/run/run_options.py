# SPDX-License-Identifier: GPL-2.0-only
"""The options of a run, read once in each process."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.judge.lists import Lists
from conformance.run.deadline import seconds_of
from conformance.run.machine_pool import PRELOAD
from conformance.run.options import (
    by_slug,
    evidence_request_of,
    machine_options,
    repeat_command,
    repetition,
    specs_asked,
    wanted_of,
)
from conformance.run.retries import EvidenceRequest, Repetition
from conformance.run.selection import Wanted
from vm.machine import MachineOptions


@dataclass(frozen=True, slots=True)
class RunOptions:
    """A command line that session, plugin and controller share."""

    specs: Mapping[str, str]
    """Slug to spec of the kernels under test, in the order asked for."""
    machine: MachineOptions
    wanted: Wanted
    """The user's selection of cases."""
    quick: bool
    """Whether only as many of these run as decide every row."""
    repetition: Repetition
    """How often each case is tried."""
    evidence_request: EvidenceRequest | None
    """Evidence for which an unexpected case is run again."""
    deadline: float
    """Seconds that the run may take."""
    results: Path | None
    shard: str
    """`I/N` as it was given, empty for all cases."""
    repeat: str
    """The command that runs a case again, without kernel and case."""

    @property
    def lists(self) -> Lists:
        """The user's allow, deny and splat lists."""
        return self.wanted.lists


def read_options(namespace: Any, expression: str = "") -> RunOptions:
    """Read a parsed command line, whose -k is `expression`; UsageError names the first option that is wrong.

    A missing seed is chosen and put into the namespace: workers get the controller's.
    """
    if namespace.conform_seed is None:
        namespace.conform_seed = random.getrandbits(32)
    return RunOptions(
        deadline=seconds_of(namespace.conform_total_deadline),
        repetition=repetition(namespace),
        evidence_request=evidence_request_of(namespace),
        specs=by_slug(specs_asked(namespace)),
        machine=machine_options(namespace, PRELOAD),
        wanted=wanted_of(namespace, expression),
        quick=namespace.conform_quick,
        results=Path(namespace.conform_results) if namespace.conform_results else None,
        shard=namespace.conform_shard or "",
        repeat=repeat_command(namespace),
    )
