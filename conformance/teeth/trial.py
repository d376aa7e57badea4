# SPDX-License-Identifier: GPL-2.0-only
"""Run the suite on a kernel with one fault, until the first case with an unexpected verdict."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from common.errors import ExitCode, HostError
from conformance.groups import GROUPS
from conformance.model import Verdict
from conformance.report.event_types import CaseEvent, Event, KernelEvent
from conformance.report.events import NAME, decode
from conformance.teeth import planted
from conformance.teeth.faults import NONE, Fault

_LOOK: Final = 0.5
"""Seconds between two looks at the event log."""
_NO_KILL: Final = frozenset({Verdict.XPASS, Verdict.INFRA})
"""A defect that does not show, or a machine that could not be had, finds no fault."""
_STRESS: Final = ("--stress", "5", "--case", "hammer/*")

Ends = Callable[[CaseEvent], bool]
"""Whether a case ends the run."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one fault."""

    number: int
    killed_by: str = ""
    """The id of the case; empty if the fault survived."""
    verdict: str = ""
    said: str = ""
    """The first difference from what was expected."""
    seconds: float = 0.0
    cases: int = 0
    """Cases that were judged on the way."""
    stages: int = 0
    """How many of its stages were run."""
    unexpected: tuple[str, ...] = ()
    """Every case that was unexpected; only of the kernel without a fault."""
    error: str = ""
    """Why the kernel could not be judged; empty if it was."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What all trials have in common."""

    spec: str
    """The kernel that has the faults."""
    folder: Path
    """Where the results go."""
    workers: int
    stress: bool = False
    """Whether the hammer is tried on every fault, and not only on those that name it."""


class Tail:
    """The lines that are added to an event log, each once."""

    def __init__(self, folder: Path) -> None:
        """Begin with the first line of the log in a results folder, which need not be there yet."""
        self._path = folder / NAME
        self._at = 0

    def __iter__(self) -> Iterator[Event]:
        """Yield what came since the last time; a line that is being written is left for later."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                data = file.read()
        except OSError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._at += len(whole)
        for line in whole.splitlines():
            yield decode(line)


def stages(fault: Fault, *, stress: bool) -> Iterator[tuple[str, ...]]:
    """Yield the options of the runs to make, one after the other: first the likely cases, of those the quick ones."""
    likely = tuple(word for group in fault.groups if not GROUPS[group].stress for word in ("--case", f"{group}/*"))
    if likely:
        yield ("--quick", *likely)
    yield ("--quick",)
    if likely:
        yield likely
    yield ()
    if stress or any(GROUPS[group].stress for group in fault.groups):
        yield _STRESS


def attempt(fault: Fault, bench: Bench, known: Collection[str], before: Outcome | None = None) -> Outcome:
    """Run the next stage of a fault and return what is known after it; `before` is what was known until then.

    `known` are cases that are unexpected without any fault.
    """
    before = before or Outcome(fault.number)
    begun, number = time.monotonic(), before.stages
    options = list(stages(fault, stress=bench.stress))[number]
    results = bench.folder / f"fault-{fault.number:03}" / f"stage-{number}"
    shutil.rmtree(results, ignore_errors=True)  # left by a sitting that was interrupted
    found = run(fault, bench, results, options, lambda case: kills(case, known))
    judged = [event for event in found if isinstance(event, CaseEvent) and event.verdict is not Verdict.INFRA]
    after = replace(
        before,
        stages=number + 1,
        seconds=before.seconds + time.monotonic() - begun,
        cases=before.cases + len(judged),
        error="" if judged or before.cases else _why(found),
    )
    killer = next((case for case in judged if kills(case, known)), None)
    if killer is None:
        return after
    return replace(after, killed_by=killer.id, verdict=str(killer.verdict), said="; ".join(killer.differences[:1]))


def unsettled(fault: Fault, bench: Bench, outcome: Outcome | None) -> bool:
    """Whether there is a stage left that may find a fault which none has found yet."""
    if outcome is None:
        return True
    return not (outcome.killed_by or outcome.error) and outcome.stages < len(list(stages(fault, stress=bench.stress)))


def baseline(bench: Bench) -> Outcome:
    """Ask the kernel without a fault every case once, and return what is unexpected there."""
    begun, folder = time.monotonic(), bench.folder / "without-fault"
    shutil.rmtree(folder, ignore_errors=True)
    found = run(NONE, bench, folder, (), lambda case: False)
    cases = [event for event in found if isinstance(event, CaseEvent)]
    if not cases:
        raise HostError("the kernel without a fault could not be judged", hint=_why(found))
    wrong = tuple(case.id for case in cases if not case.verdict.expected)
    return Outcome(0, seconds=time.monotonic() - begun, cases=len(cases), unexpected=wrong)


def run(fault: Fault, bench: Bench, results: Path, options: Sequence[str], ends: Ends) -> list[Event]:
    """Run the suite on a kernel with a fault, end it with the first case that `ends` it, and return its event log."""
    # fmt: off
    command = [
        sys.executable, "-P", "-m", "conformance", "run",
        "--kernel", bench.spec,
        "--results", os.fspath(results),
        "-n", str(bench.workers),
        *options,
        "--", "-p", planted.__name__,
    ]
    # fmt: on
    results.parent.mkdir(parents=True, exist_ok=True)
    tail, seen = Tail(results), list[Event]()
    with (
        results.with_suffix(".log").open("wb") as output,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, planted.VARIABLE: str(fault.number)},
        ) as process,
    ):
        try:
            while _goes_on(process):
                news = list(tail)
                seen += news
                if any(isinstance(event, CaseEvent) and ends(event) for event in news):
                    break
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait()
    if process.returncode == ExitCode.BROKEN:
        raise HostError(
            "the suite cannot run here", hint=results.with_suffix(".log").read_text(errors="replace")[-500:]
        )
    return [*seen, *tail]


def kills(case: CaseEvent, known: Collection[str]) -> bool:
    """Whether a case finds a fault: it is unexpected, each time it was asked, and not without the fault."""
    return not (case.verdict.expected or case.verdict in _NO_KILL or case.id in known or case.flaky)


def save(folder: Path, outcome: Outcome) -> None:
    """Keep an outcome, written beside and renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    path = _kept(folder, outcome.number)
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(asdict(outcome), indent=1), encoding="utf-8")
    beside.rename(path)


def recall(folder: Path, number: int) -> Outcome | None:
    """Return an outcome that was kept; None if there is none."""
    try:
        data = json.loads(_kept(folder, number).read_text(encoding="utf-8"))
        return Outcome(**{**data, "unexpected": tuple(data["unexpected"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _kept(folder: Path, number: int) -> Path:
    return folder / f"fault-{number:03}.json"


def _goes_on(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(_LOOK)
    except subprocess.TimeoutExpired:
        return True
    return False


def _why(found: Sequence[Event]) -> str:
    errors = (event.error for event in found if isinstance(event, KernelEvent) and event.error)
    return next(errors, "the run ended without a verdict")
