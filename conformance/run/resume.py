# SPDX-License-Identifier: GPL-2.0-only
"""Resume an interrupted run: find its finished cases, and check that the rest would be judged alike."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bpf.build import object_hashes
from common.errors import UsageError
from conformance.model import Verdict
from conformance.report.events import Run, read
from conformance.run.provenance import suite_commit
from conformance.run.results import RESUMABLE, resume_command
from kernels.kernel import Kernel

_LOOKS = ("color", "verbosity", "yes", "no_install")
"""Options that change no verdict."""
_NEW_RUN_HINT = "start a new run, with another --results DIR"


def recall(
    folder: str, parse: Callable[[Sequence[str]], argparse.Namespace], command: str = "run"
) -> tuple[argparse.Namespace, Run]:
    """Return the options of the run in a results folder, as `parse` reads them, and its results so far.

    UsageError where the run was not made by `command`, which is run or matrix, or was made by another suite.
    """
    run = read(Path(folder))
    program, *words = run.start.command
    made_by = words[0] if words and Path(program).name == "conform" else ""
    if made_by != command:
        hint = resume_command(Path(folder)) if made_by in RESUMABLE else _NEW_RUN_HINT
        raise UsageError(f"the run in {folder} was not made by ./conform {command}", hint=hint)
    if (run.start.suite_commit, run.start.bpf_objects) != (suite_commit(), object_hashes()):
        was, now = run.start.suite_commit or "of an unknown commit", suite_commit() or "of an unknown commit"
        differs = f"with suite {was}, this is {now}" if was != now else "with other BPF programs"
        raise UsageError(
            f"the run in {folder} was started {differs}",
            hint=f"check out that version of the suite, or {_NEW_RUN_HINT}",
        )
    return parse(words), run


def done(run: Run) -> frozenset[str]:
    """Return the node ids of the cases that need not be judged again: `infra` is not a judgement."""
    return frozenset(case.nodeid for cases in run.cases.values() for case in cases if case.verdict is not Verdict.INFRA)


def is_complete(run: Run) -> bool:
    """Tell whether nothing is left to judge."""
    dead = any(kernel.error for kernel in run.kernels.values())
    return not (dead or run.unseen() or run.counts()[Verdict.INFRA])


def seconds_of(run: Run) -> float:
    """Return the seconds that a run has taken so far, by its log."""
    last = max((case.at for cases in run.cases.values() for case in cases), default=0.0)
    return max(last, run.finish.seconds if run.finish is not None else 0.0)


def check_alone(options: argparse.Namespace, alone: argparse.Namespace, command: str) -> None:
    """Raise UsageError if `options` has more than `alone`, the options of a command line with --resume only."""
    if any(value != getattr(alone, name) for name, value in vars(options).items() if name not in _LOOKS):
        raise UsageError(
            "--resume continues a run with the options it was started with, and takes no others",
            hint=f"./conform {command} --resume {options.resume}",
        )


def check_specs(run: Run, specs: Mapping[str, str], source: str) -> None:
    """Raise UsageError unless `specs`, which `source` names now, are those with which the run was started."""
    was = {*run.start.selected, *run.kernels}
    if not was <= set(specs):
        raise UsageError(f"{source} no longer names the kernels of the interrupted run", hint=_NEW_RUN_HINT)


def check_kernels(run: Run, kernels: Mapping[str, Kernel]) -> None:
    """Raise UsageError unless each kernel judged before is unchanged."""
    for slug, event in run.kernels.items():
        if not event.digest:
            continue
        if slug not in kernels:
            raise UsageError(f"{event.spec}, which the interrupted run judged, no longer exists", hint=_NEW_RUN_HINT)
        if kernels[slug].digest != event.digest:
            sentence = (
                f"{event.spec} is {kernels[slug].digest[:12]} now, and was {event.digest[:12]} when it was judged"
            )
            raise UsageError(sentence, hint=_NEW_RUN_HINT)
