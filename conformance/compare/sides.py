# SPDX-License-Identifier: GPL-2.0-only
"""Where the two sides of a comparison come from: a spec is judged now, a folder of results was judged before."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import INTERRUPTIONS, ConformError, ExitCode, HostError, KernelError, UsageError
from conformance.report.event_types import CaseEvent, KernelEvent
from conformance.report.events import NAME, Run, interrupted, is_comparison, read
from conformance.report.live import Reporter
from conformance.run.deadline import seconds_of
from conformance.run.options import specs_asked
from conformance.run.recorder import RunRecorder
from conformance.run.session import hold
from kernels.kernel import Kernel
from kernels.resolve import parse, resolve

Progress = Callable[[str], None]


class StoppedError(ConformError):
    """The run over one side was interrupted; its exit code is that of the whole comparison."""

    def __init__(self, code: ExitCode) -> None:
        super().__init__("interrupted before both kernels were judged")
        self.exit_code = code


@dataclass(frozen=True, slots=True)
class Subject:
    """One kernel and its results; the kernel itself only if it is available on this host."""

    run: Run
    slug: str
    kernel: Kernel | None

    @property
    def event(self) -> KernelEvent:
        """The run's event about the kernel."""
        return self.run.kernel(self.slug)

    @property
    def suite(self) -> str:
        """The commit of the suite that judged it."""
        return f"suite {self.run.start.suite_commit or 'of an unknown commit'}"

    @property
    def cases(self) -> dict[str, CaseEvent]:
        """The run's event about each case, by its id."""
        return {case.id: case for case in self.run.cases.get(self.slug, ())}


def is_folder(text: str) -> bool:
    """Whether a side is a folder of results, not a kernel; its log may still be unreadable."""
    path = Path(text)
    return path.name == NAME or os.path.lexists(path / NAME) or is_comparison(path)


def options_for(spec: str, name: str, options: argparse.Namespace) -> argparse.Namespace:
    """Return the options of the run over one side: patches and fragments are for head only; may raise UsageError."""
    changes: dict[str, Any] = {"conform_kernel": [spec], "conform_results": None}
    if name == "base":
        changes |= {"conform_patch": None, "conform_config": None}
        changes |= {} if parse(spec).builds else {"conform_preset": None}
    found = argparse.Namespace(**{**vars(options), **changes})
    specs_asked(found)
    return found


def judged_now(spec: str, options: argparse.Namespace, results: Path | None, reporter: Reporter) -> list[Subject]:
    """Judge a kernel; KernelError where it cannot be, UsageError where no case was selected."""
    options.conform_results = os.fspath(results) if results is not None else None
    recorder = RunRecorder(reporter=reporter, results=results, deadline=seconds_of(options.conform_total_deadline))
    code = hold(options, recorder)
    if code in INTERRUPTIONS:
        raise StoppedError(code)
    if recorder.run is None or recorder.pool is None:
        raise KernelError(f"{spec} could not be judged", hint=f"see more with: ./conform run --kernel {spec}")
    return list(_alive(Subject(recorder.run, slug, kernel) for slug, kernel in recorder.pool.kernels.items()))


def judged_before(text: str, progress: Progress, warn: Progress) -> list[Subject]:
    """Read the results of a run; a kernel is available if its spec still names the same build.

    `progress` is called with a line about each slow step, `warn` with doubts about the comparison.
    """
    run = read(Path(text))
    if interrupted(run):
        warn(f"{text}: this run was interrupted; what it did not judge counts as absent")
    return list(_alive(Subject(run, slug, _at_hand(run.kernel(slug), progress, warn)) for slug in run.slugs))


def pairs(base: list[Subject], head: list[Subject]) -> list[tuple[Subject, Subject]]:
    """Pair the kernels of two sides: one with one, or by name if there are several."""
    if len(base) == len(head) == 1:
        return [(base[0], head[0])]
    by_slug = {subject.slug: subject for subject in head}
    found = [(subject, by_slug[subject.slug]) for subject in base if subject.slug in by_slug]
    if not found:
        names = (", ".join(subject.slug for subject in side) or "none" for side in (base, head))
        raise UsageError(
            "the two sides have no kernel in common: base has {}, head {}".format(*names),
            hint="compare folders that hold one kernel each, or the same kernels",
        )
    return found


def require_common(base: Subject, head: Subject, old: Collection[str], new: Collection[str]) -> None:
    """Raise UsageError if the two sides have no case in common."""
    if not set(old) & set(new):
        examples = (
            f"{name} {side.event.title} has {f'{len(ids)}, e.g. {next(iter(ids))}' if ids else 'none'}"
            for name, side, ids in (("base", base, old), ("head", head, new))
        )
        suites = f" ({base.suite}; {head.suite})" if base.suite != head.suite else ""
        raise UsageError(
            f"the two sides have no case in common: {', '.join(examples)}{suites}",
            hint="compare runs of the same cases, or the kernels themselves",
        )


def _alive(subjects: Iterator[Subject]) -> Iterator[Subject]:
    for subject in subjects:
        if subject.event.error:
            kind = HostError if subject.event.host else KernelError
            raise kind(subject.event.error, hint=subject.event.hint)
        yield subject


def _at_hand(event: KernelEvent, progress: Progress, warn: Progress) -> Kernel | None:
    """Resolve the kernel of an old run; None unless it is the same build."""
    try:
        kernel = resolve(event.spec, progress=progress)
    except ConformError as error:
        warn(f"{event.spec} is not available: {error}")
        return None
    if kernel.digest != event.digest:
        warn(f"{event.spec} now names a different kernel than the one that was judged")
        return None
    return kernel
