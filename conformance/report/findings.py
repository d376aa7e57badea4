# SPDX-License-Identifier: GPL-2.0-only
"""Sentences and groupings that all reports for people share."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from common.words import counted
from conformance.groups.redirect.outcomes import OTHER
from conformance.judge.klog import is_header
from conformance.model import TryEntry, Verdict
from conformance.report.event_types import CaseEvent, KernelEvent
from conformance.report.events import Run, interrupted
from conformance.report.summary import tools

_EXCERPT = 8
"""Lines of evidence worth showing; the event log has it in full."""
_LEAST_TEMPLATE_SECONDS = 0.1
"""Seconds of making templates that a report mentions."""
_SHARES = 4
"""Missing shares that a sentence names."""
_NAME = 40
"""Characters of a kernel's spec that a sentence has room for."""

_TOOLS = {"qemu": "QEMU"}
_ACCELERATORS = {"none": "no VM"}
_MACHINES = {"clone": "clones", "cold": "cold boots", "vng": "stock virtme-ng", "host": "this host"}


@dataclass(frozen=True, slots=True)
class Excerpt:
    """An excerpt of a log, from its first report on."""

    source: str
    lines: int
    """The number of lines in the whole log."""
    excerpt: tuple[str, ...]

    def __str__(self) -> str:
        return self.source + (f" (of {self.lines} lines)" if self.lines > _EXCERPT else "")


def verdict(run: Run) -> tuple[str, bool]:
    """Return the verdict of the run in one sentence, and whether it is good."""
    bad, infra = len(run.unexpected()), run.counts()[Verdict.INFRA]
    dead = [_short(run.kernel(slug).title) for slug in run.slugs if run.kernel(slug).error]
    stopped = "Interrupted: " if interrupted(run) else ""
    lost = f"{len(dead)} kernels" if len(dead) > 1 else "".join(dead) or counted(infra, "case")
    absent = _absent(run)
    if bad > infra:
        others = [f"{lost} could not be judged"] * bool(dead) + [absent] * bool(absent)
        return f"{stopped}{', '.join([f'{bad} UNEXPECTED', *others])}.", False
    if dead or infra:
        return f"{stopped}{lost} could not be judged.", False
    if stopped:
        return "Interrupted, nothing unexpected so far.", False
    if unseen := run.unseen():
        return f"{counted(unseen, 'case')} never ran.", False
    if not any(each is not Verdict.SKIP for each in run.counts()):
        return "Nothing was judged.", False
    if absent:
        return f"{absent[0].upper()}{absent[1:]}, nothing unexpected in the others.", False
    return f"Nothing unexpected{f' in shard {run.start.shard}' if run.start.shard else ''}.", True


def lacks(run: Run) -> list[str]:
    """Say what a run was to judge and did not, a sentence each; empty for a run that judged everything.

    History needs it: such a run may have no unexpected case, and says nothing good about the kernel all the same.
    """
    infra, unseen, absent = run.counts()[Verdict.INFRA], run.unseen(), _absent(run)
    found = ["the run has no end: it still runs, or was killed"] if run.finish is None else []
    found += ["the run was interrupted"] * (interrupted(run) and not found)
    found += [f"{kernel.title} was not judged: {kernel.error}" for kernel in map(run.kernel, run.slugs) if kernel.error]
    found += [f"{counted(infra, 'case')} could not be judged"] * bool(infra)
    found += [f"{counted(unseen, 'case')} never ran"] * bool(unseen)
    return found + [absent] * bool(absent)


def _absent(run: Run) -> str:
    """Name the missing shares of a merged run; empty if there are none."""
    shares = run.start.missing
    named = ", ".join(shares[:_SHARES]) + ("" if len(shares) <= _SHARES else ", ...")
    return f"shard{'s' * (len(shares) > 1)} {named} {'are' if len(shares) > 1 else 'is'} missing" if shares else ""


def tally(run: Run) -> tuple[str, list[str]]:
    """Return the number of cases, and of each verdict."""
    counts = run.counts()
    total = sum(counts.values())
    cases = f"{total} of {total + run.unseen()} cases:" if run.unseen() else f"{counted(total, 'case')}:"
    facts = [f"{counts[each]} {each}" for each in Verdict if counts[each]] or ["none judged"]
    return cases, facts + ([f"{run.finish.seconds:.1f} s"] if run.finish else [])


def quick(run: Run) -> list[str]:
    """Say what `--quick` left out of a run, and how to run all cases; empty without --quick."""
    sentences = []
    for slug, choice in run.start.quick.items():
        where = f" of {run.kernel(slug).title}" if len(run.start.quick) > 1 else ""
        sentences.append(f"{choice['chose']} of {choice['among']} cases check all {choice['rows']} table rows{where}")
    if not sentences:
        return []
    return [f"quick: {'; '.join(sentences)}; run all with: {shlex.join(_whole(run.start.command))}"]


def _whole(command: Sequence[str]) -> Iterator[str]:
    """Yield a command without --quick, and without its results folder, which a second run may not use."""
    skip = False
    for word in command:
        if not (skip or word == "--quick" or word.startswith("--results=")) and word != "--results":
            yield word
        skip = word == "--results"


def by_group(cases: Iterable[CaseEvent]) -> dict[str, list[CaseEvent]]:
    """Group cases by group, sorted by name: workers finish in any order, and reports are compared."""
    groups: dict[str, list[CaseEvent]] = {}
    for case in sorted(cases, key=lambda case: (case.group, case.name)):
        groups.setdefault(case.group, []).append(case)
    return groups


def alike(cases: Iterable[CaseEvent]) -> list[list[CaseEvent]]:
    """Group cases that differ only in their names."""
    groups: dict[tuple[str, ...], list[CaseEvent]] = {}
    for case in cases:
        key = (case.kernel, case.verdict, case.expected, case.observed, case.reason)
        groups.setdefault(key, []).append(case)
    return list(groups.values())


def skips(run: Run) -> list[tuple[str, int, list[str]]]:
    """Return each reason for skipping, with the number of cases and the specs of their kernels; sorted by reason."""
    found: dict[str, dict[str, int]] = {}
    for slug in run.slugs:
        for case in run.cases.get(slug, ()):
            if case.verdict is Verdict.SKIP:
                counts = found.setdefault(case.reason or "no reason given", {})
                spec = run.kernel(slug).title
                counts[spec] = counts.get(spec, 0) + 1
    return [(reason, sum(counts.values()), sorted(counts)) for reason, counts in sorted(found.items())]


def xfails(run: Run) -> list[CaseEvent]:
    """Return the cases that show a known defect."""
    return [case for slug in run.slugs for case in run.cases.get(slug, ()) if case.verdict is Verdict.XFAIL]


def evidence_sources(case: CaseEvent) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the name and the lines of each log of a case that is not empty."""
    sources: Mapping[str, Sequence[str]] = {
        "kernel log": [line["text"] for line in case.log],
        "console": case.console.splitlines(),
        # The traceback of a dead machine only repeats a line of its console.
        "traceback": [] if case.error.strip() in case.console else case.error.splitlines(),
    }
    return ((source, text) for source, text in sources.items() if text)


def evidence(case: CaseEvent) -> Iterator[Excerpt]:
    """Yield the part of each log that is worth showing."""
    for source, text in evidence_sources(case):
        last = max(0, len(text) - _EXCERPT)
        first = next((number for number, line in enumerate(text) if is_header(line)), last)
        yield Excerpt(source, len(text), tuple(text[first : first + _EXCERPT]))


def story(case: CaseEvent, kernel: KernelEvent) -> list[str]:
    """Return lines with the expectation and its reason, the observation, the logs, and the repeat command."""
    parts = [f"expected {case.expected}, observed {seen(case.observed)}"] if case.expected else []
    parts += [f"flaky: {tries(case)}"] if case.flaky else []
    confirmed = ", ".join(case.confirmed_by)
    parts += [f"not retried: two tries each of {confirmed} failed the same way"] if confirmed else []
    parts += [*case.differences, *([f"because {why(case)}"] if why(case) else []), *rows(case, kernel)]
    for each in evidence(case):
        parts += [f"{each}:", *(f"  {line}" for line in each.excerpt)]
    return parts + ([f"repeat: {case.repeat}"] if case.repeat else [])


def seen(observed: str) -> str:
    """Return what a case observed, in words where it has the name of no outcome."""
    return "something else" if observed == OTHER else observed


def why(case: CaseEvent) -> str:
    """Return the reason for the expectation; commit and version are left to the rows, if there are any."""
    if case.verdict is not Verdict.FAIL or not case.grounds:
        return case.reason
    return "; ".join(dict.fromkeys(ground.reason for ground in case.grounds))


def rows(case: CaseEvent, kernel: KernelEvent) -> list[str]:
    """Name the deciding rows of a case: file, id, first version on the kernel's branch, and commit."""
    return [ground.sentence(kernel.version) for ground in case.grounds]


def provenance(run: Run) -> str:
    """Name the suite and the tools that judged."""
    commit = run.start.suite_commit
    suite = f"suite {commit}" if commit else "suite of an unknown commit"
    return ", ".join([suite, *(f"{_TOOLS.get(tool, tool)} {version}" for tool, version in sorted(tools(run).items()))])


def accelerators(run: Run) -> Iterator[str]:
    """Yield each accelerator with its reason, and its kernels if they are not all."""
    kernels = [run.kernel(slug) for slug in run.slugs]
    for accelerator, why in dict.fromkeys((each.accelerator, each.why) for each in kernels if each.accelerator):
        about = [each.title for each in kernels if (each.accelerator, each.why) == (accelerator, why)]
        name = _ACCELERATORS.get(accelerator, accelerator.upper())
        sentence = why if why.upper().startswith(name.upper()) else f"{name}: {why}".removesuffix(": ")
        yield sentence if len(about) == len(kernels) else f"{sentence} ({', '.join(about)})"


def tries(case: CaseEvent) -> str:
    """Return the results of all tries of a case."""
    return ", then ".join(map(_words, case.tries))


def _words(each: TryEntry) -> str:
    verdict, observed, times = each["verdict"], each["observed"], each["times"]
    outcome = verdict if observed == verdict else f"{verdict} ({seen(observed)})"
    return outcome + (f" {times} times" if times > 1 else "") + (" in a fresh clone" if each["fresh"] else "")


def flaky(run: Run) -> list[CaseEvent]:
    """Return the cases whose tries disagree."""
    return [case for slug in run.slugs for case in run.cases.get(slug, ()) if case.flaky]


def spared(cases: Sequence[CaseEvent]) -> str:
    """Say how many cases were not tried again, and why; empty if there are none."""
    believed = [case for case in cases if case.confirmed_by]
    if not believed:
        return ""
    confirming = dict.fromkeys(each for case in believed for each in case.confirmed_by)
    hasty = sum(case.hasty for case in believed)
    short = f", {hasty} of them with a short grace" if hasty else ""
    confirmed = f"{len(confirming)} cases had confirmed it in a fresh clone, e.g. {next(iter(confirming))}"
    return f"{len(believed)} of {len(cases)} cases with this failure got only one try{short}: {confirmed}"


def identity(kernel: KernelEvent) -> list[str]:
    """Return up to three sentences about a kernel: its build, its origin, and its machine."""
    return [facts for facts in (_build(kernel), _package(kernel), _machine(kernel)) if facts]


def _build(kernel: KernelEvent) -> str:
    """Return the build: the banner from its build number on, and hashes."""
    facts = [kernel.banner[max(0, kernel.banner.find("#")) :]]
    facts += [f"digest {kernel.digest[:12]}"] if kernel.digest else []
    facts += [f"config {kernel.config_sha256[:12]}"] if kernel.config_sha256 else []
    return ", ".join(filter(None, facts))


def _package(kernel: KernelEvent) -> str:
    return ", ".join(f"{name} {value}" for name, value in kernel.package.items() if value and len(value) <= 60)


def _machine(kernel: KernelEvent) -> str:
    if not kernel.machine:
        return ""
    facts = [_MACHINES.get(kernel.machine, kernel.machine)]
    if kernel.template_seconds >= _LEAST_TEMPLATE_SECONDS:
        facts.append(f"template {kernel.template} in {kernel.template_seconds:.1f} s".replace("  ", " "))
    elif kernel.template:
        facts.append(f"template {kernel.template}")
    if kernel.boot_seconds:
        facts.append(f"boot {kernel.boot_seconds:.1f} s")
    if kernel.factor:
        facts.append(f"deadlines x{kernel.factor:.1f}")
    return f"{_ACCELERATORS.get(kernel.accelerator, kernel.accelerator.upper())}: {', '.join(facts)}"


def _short(spec: str) -> str:
    return spec if len(spec) <= _NAME else f"{spec[: _NAME - 1]}…"
