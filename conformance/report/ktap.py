# SPDX-License-Identifier: GPL-2.0-only
"""The report as KTAP version 1 (Documentation/dev-tools/ktap.rst): kernels, in them groups, in them cases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from common import foreign
from conformance.model import Verdict
from conformance.report.event_types import CaseEvent, KernelEvent
from conformance.report.events import Run
from conformance.report.findings import by_group, identity, provenance, story

_DIRECTIVES = {
    Verdict.SKIP: "SKIP",
    Verdict.XFAIL: "XFAIL",
    Verdict.HANG: "TIMEOUT",
    Verdict.LOST: "ERROR",
    Verdict.INFRA: "ERROR",
}


@dataclass(frozen=True, slots=True)
class _Result:
    """One result line, its nested results, and the diagnostics above it."""

    name: str
    passed: bool
    directive: str = ""
    diagnostics: Sequence[str] = ()
    nested: Sequence[_Result] = ()


def render(run: Run) -> str:
    """Return the report."""
    lines = _level([_kernel(run, slug) for slug in run.slugs], [f"SOCKMAP conformance: {provenance(run)}"])
    return "".join(f"{line}\n" for line in lines)


def _kernel(run: Run, slug: str) -> _Result:
    kernel, unseen = run.kernel(slug), run.unseen(slug)
    said = [f"{kernel.spec} {kernel.release}", *identity(kernel), *kernel.notes]
    said += [f"{unseen} of the selected cases never ran"] if unseen else []
    groups = [_group(kernel, *each) for each in by_group(run.cases.get(slug, ())).items()]
    passed = all(group.passed for group in groups) and not kernel.error and not unseen
    return _Result(slug, passed, f"ERROR {kernel.error}" if kernel.error else "", said, groups)


def _group(kernel: KernelEvent, name: str, cases: Iterable[CaseEvent]) -> _Result:
    results = [_case(kernel, case) for case in cases]
    return _Result(name, all(result.passed for result in results), nested=results)


def _case(kernel: KernelEvent, case: CaseEvent) -> _Result:
    bad = not case.verdict.expected
    directive = _DIRECTIVES.get(case.verdict, "")
    if directive and not bad:
        directive += f" {case.reason}"
    return _Result(case.name, not bad, directive, [str(case.verdict), *story(case, kernel)] if bad else ())


def _level(results: Sequence[_Result], about: Iterable[str] = ()) -> Iterator[str]:
    """Yield one level of nesting; nested levels are indented by two blanks."""
    yield "KTAP version 1"
    yield from _diagnostics(about)
    yield f"1..{len(results)}"
    for number, result in enumerate(results, start=1):
        if result.nested:
            yield from (f"  {line}" for line in _level(result.nested))
        yield from _diagnostics(result.diagnostics)
        directive = f" # {_shown(result.directive)}" if result.directive else ""
        yield f"{'ok' if result.passed else 'not ok'} {number} {foreign.ktap(result.name)}{directive}"


def _diagnostics(lines: Iterable[str]) -> Iterator[str]:
    # A second blank, so that no console can forge a `# Subtest:`.
    return (f"#  {_shown(line)}" for line in lines if line)


def _shown(text: str) -> str:
    return foreign.line(text).rstrip()
