# SPDX-License-Identifier: GPL-2.0-only
"""Merge several logs to one run: shards of a kernel, kernels of several jobs, or repeated cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from common.errors import ExitCode
from conformance.report.event_types import CaseEvent, FinishEvent, KernelEvent, RunEvent
from conformance.report.events import Run

_GRAVEST = (
    ExitCode.INTERRUPTED,
    ExitCode.TERMINATED,
    ExitCode.HUNG_UP,
    ExitCode.BROKEN,
    ExitCode.UNEXPECTED,
    ExitCode.CANNOT_JUDGE,
    ExitCode.OK,
)


def merged(runs: Sequence[Run]) -> Run:
    """Merge runs to one; there must be at least one.

    A kernel in several logs is one kernel if its digest is the same in all of them, else they are separate, and the
    later ones get a number after their slug. A case that several logs judge counts once: an unexpected verdict
    outranks an expected one, and of two equal ones the later log's counts.
    """
    first, *others = runs
    if not others:
        return first
    whole = Run(_start(runs))
    selected: dict[str, int] = {}
    cases: dict[str, dict[str, CaseEvent]] = {}
    for run in runs:
        for slug in run.slugs:
            kernel = run.kernel(slug)
            name = _place(whole, kernel)
            known = whole.kernels.get(name)
            if known is None or known.error or not kernel.error:
                whole.kernels[name] = replace(kernel, slug=name)
            found = cases.setdefault(name, {})
            for case in run.cases.get(slug, ()):
                if case.id not in found or found[case.id].verdict.expected or not case.verdict.expected:
                    found[case.id] = replace(case, kernel=name)
            selected[name] = selected.get(name, 0) + run.unseen(slug)
    whole.cases = {slug: list(found.values()) for slug, found in cases.items()}
    counts = {slug: unseen + len(cases[slug]) for slug, unseen in selected.items()}
    whole.start = replace(whole.start, selected=counts)
    whole.finish = _finish(runs)
    return whole


def _place(whole: Run, kernel: KernelEvent) -> str:
    """Return the slug for a kernel in the merged run."""
    slug, number = kernel.slug, 1
    while slug in whole.kernels and _differ(whole.kernels[slug], kernel):
        number += 1
        slug = f"{kernel.slug}.{number}"
    return slug


def _differ(one: KernelEvent, other: KernelEvent) -> bool:
    return bool(one.digest and other.digest and one.digest != other.digest)


def _start(runs: Sequence[Run]) -> RunEvent:
    starts = [run.start for run in runs]
    first = min(starts, key=lambda start: start.started)

    def joined(what: Callable[[RunEvent], str]) -> str:
        return ", ".join(dict.fromkeys(filter(None, map(what, starts))))

    return replace(
        first,
        suite_commit=joined(lambda start: start.suite_commit),
        host_kernel=joined(lambda start: start.host_kernel),
        quick={slug: choice for start in starts for slug, choice in start.quick.items()},
        tools={name: version for start in starts for name, version in start.tools.items()},
        bpf_objects={name: digest for start in starts for name, digest in start.bpf_objects.items()},
    )


def _finish(runs: Sequence[Run]) -> FinishEvent | None:
    """Merge the ends of the runs; a killed run leaves the merged run without an end."""
    ends = [run.finish for run in runs if run.finish is not None]
    if len(ends) < len(runs):
        return None
    codes = [end.exit_code for end in ends]
    return FinishEvent(
        exit_code=next((int(code) for code in _GRAVEST if code in codes), max(codes)),
        seconds=round(sum(end.seconds for end in ends), 3),
        interrupted=any(end.interrupted for end in ends),
    )
