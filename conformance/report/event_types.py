# SPDX-License-Identifier: GPL-2.0-only
"""The four kinds of events of a run, as `events.py` writes them to the log and reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from conformance.model import Ground, LogEntry, TryEntry, Verdict

SCHEMA = 1
"""The version of the log's format."""

_FOLDER = re.compile(r"(,(?:patch|config)=)[^,]*/")
"""The file name in a spec with build options, and the path to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """The beginning of a run: command, host and suite."""

    started: str
    """UTC, ISO 8601, e.g. `2026-11-22T20:29:00Z`."""
    command: tuple[str, ...]
    """The command line, word by word."""
    selected: Mapping[str, int] = field(default_factory=dict)
    """Cases selected for each kernel slug, so that a case that never ran is missed."""
    suite_commit: str = ""
    """The suite's commit, with `-dirty` if the checkout had changes."""
    tools: Mapping[str, str] = field(default_factory=dict)
    """Versions known from the start: `{"qemu": "7.2.22", "virtme-ng": "1.42"}`."""
    bpf_objects: Mapping[str, str] = field(default_factory=dict)
    """Object name to SHA-256."""
    host_kernel: str = ""
    host_cpus: int = 0
    host_memory: int = 0
    """MiB."""
    seed: int = 0
    deadline: float = 0.0
    """Seconds after which the run ends, also with cases left; 0 for none."""
    shard: str = ""
    """`I/N` if this run judges only share I of N of the cases."""
    missing: tuple[str, ...] = ()
    """The shares, `I/N`, that a merged run lacks."""
    quick: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """With `--quick`, by slug: `chose` cases out of `among` decide all `rows`."""
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelEvent:
    """A kernel and its machine, or why it could not be judged."""

    spec: str
    slug: str
    release: str = ""
    version: str = ""
    banner: str = ""
    digest: str = ""
    config_sha256: str = ""
    package: Mapping[str, str] = field(default_factory=dict)
    """Where it came from: `Kernel.provenance`."""
    machine: str = ""  # a `MachineKind`
    accelerator: str = ""
    why: str = ""
    """Why this accelerator, and why this machine if not the one asked for."""
    factor: float = 0.0
    """How many times slower than the reference the machine is; each deadline is multiplied by it."""
    boot_seconds: float = 0.0
    template: str = ""
    """`cached` or `built`; empty for a machine without a template. The seconds for it:"""
    template_seconds: float = 0.0
    tools: Mapping[str, str] = field(default_factory=dict)  # versions learnt from the machine
    notes: tuple[str, ...] = ()
    """Sentences the reader must see, e.g. that the kernel is newer than the table's newest row."""
    defects: tuple[Ground, ...] = ()
    """The known defects that a kernel of this version should show, save those that show by chance."""
    error: str = ""
    """Why this kernel could not be judged, one sentence; empty if it could."""
    hint: str = ""
    """What the user can do about `error`."""
    host: bool = False
    """Whether the host or the command line is to blame for `error`, not the kernel."""

    @property
    def title(self) -> str:
        """The spec for readers: without the folders of the files that it names."""
        return _FOLDER.sub(r"\1", self.spec)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseEvent:
    """The verdict of one case on one kernel."""

    kernel: str
    """The kernel's slug."""
    group: str
    name: str
    id: str
    """`group/name`."""
    verdict: Verdict
    nodeid: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    expected: str = ""
    observed: str = ""
    reason: str = ""
    differences: tuple[str, ...] = ()
    deviation: str = ""
    """The known defects an `xfail` shows, or an `xpass` does not show any more: names, separated by blanks."""
    grounds: tuple[Ground, ...] = ()
    """The rows that decided the verdict; empty in an older log. Fields of a row that are empty may be left out."""
    observation: Mapping[str, Any] | None = None
    """The scenario's observation; None if it did not answer."""
    error: str = ""
    """The guest's traceback; only if the scenario raised."""
    log: tuple[LogEntry, ...] = ()
    """Kernel log of the case."""
    console: str = ""
    """The tail of the serial console; only if the machine died."""
    seconds: float = 0.0
    """From its request to its answer."""
    at: float = 0.0
    """The time of the verdict, in seconds since the run began; 0 if unknown."""
    repeat: str = ""
    """The shell command that repeats just this case."""
    tries: tuple[TryEntry, ...] = ()
    """The tries of a case that was tried more than once."""
    evidence: str = ""
    """The folder with its evidence, below the log's own; only of unexpected cases."""
    flaky: bool = False
    """Whether the tries disagree. The verdict is still that of the worst unconditional try."""
    hasty: bool = False
    """Whether the deciding try looked for missing data only briefly, because other cases had confirmed the symptom."""
    host: bool = False
    """Whether the host is to blame for an `infra`: it killed QEMU or a worker, or changed a template in use."""
    confirmed_by: tuple[str, ...] = ()
    """The cases that showed the same twice, in a fresh clone, too; so this case was not tried again."""
    may_show: tuple[str, ...] = ()
    """The ids of the known defects that the case should show on such a kernel, save those that show by chance.

    Empty where the case was not asked, and in an older log.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishEvent:
    """The end of the run."""

    exit_code: int
    seconds: float
    interrupted: bool = False


Event = RunEvent | KernelEvent | CaseEvent | FinishEvent
