# SPDX-License-Identifier: GPL-2.0-only
"""The report as plain text of 80 columns: for a terminal in colour, for a mailing list without."""

from __future__ import annotations

import itertools
import shlex
from collections import Counter
from collections.abc import Iterator
from collections.abc import Sequence

from conformance.klog import is_header
from conformance.model import Verdict
from conformance.report import grid
from conformance.report.events import CaseEvent
from conformance.report.events import KernelEvent
from conformance.report.events import Run
from conformance.report.events import interrupted
from conformance.report.style import WIDTH
from conformance.report.style import Style
from conformance.report.summary import tools

_PLAIN = Style()
_LOG_LINES = 8
_WORTH_TELLING = 0.1
"""Seconds."""
_TOOLS = {"qemu": "QEMU"}
_ACCELERATORS = {"none": "no VM"}
_MACHINES = {"clone": "clones", "cold": "cold boots", "vng": "stock virtme-ng", "host": "this host"}


def report_lines(run: Run, style: Style = _PLAIN) -> list[str]:
    """Return the whole report; the last line is the verdict."""
    lines = [*head(run, style), ""]
    for slug in run.slugs:
        lines += [*kernel_section(run, slug, style), ""]
    for section in (unexpected_section, known_section, skipped_section, unseen_section):
        if found := section(run, style):
            lines += [*found, ""]
    return [*lines, *verdict_lines(run, style)]


def head(run: Run, style: Style = _PLAIN) -> list[str]:
    """Say what was judged, by what, and how it went: a row for each kernel."""
    start, versions = run.start, tools(run)
    suite = f"suite {start.suite_commit}" if start.suite_commit else "suite of no known commit"
    facts = [suite, *(f"{_TOOLS.get(tool, tool)} {version}" for tool, version in sorted(versions.items()))]
    lines = style.wrap(", ".join(facts), first="SOCKMAP conformance: ", then="  ")
    for accelerator, kernels in _accelerators(run):
        lines += style.wrap(f"{accelerator} ({kernels})" if kernels else accelerator, then="  ")
    return [*lines, "", *_table(run, style)]


def kernel_section(run: Run, slug: str, style: Style = _PLAIN) -> list[str]:
    """Return one kernel's identity, machine and grids."""
    kernel, cases = run.kernel(slug), run.cases.get(slug, [])
    lines = [rule(kernel.spec, kernel.release, style)]
    for facts in (_build(kernel), _package(kernel), _machine(kernel)):
        lines += style.wrap(facts, then="  ") if facts else []
    for note in kernel.notes:
        lines += style.wrap(note, first="Note: ")
    if kernel.error:
        lines += [style.paint(line, "bad") for line in style.wrap(kernel.error, first="NOT JUDGED: ")]
        lines += style.wrap(kernel.hint, first="hint: ") if kernel.hint else []
    shown, marks = grid.grids(cases), grid.marks(cases)
    if shown:
        lines += ["", *grid.lines(shown, marks, style), *grid.legend(marks, shown, style)]
    listed = list(_groups(cases, style))
    return [*lines, "", *listed] if listed else lines


def unexpected_section(run: Run, style: Style = _PLAIN) -> list[str]:
    """List every unexpected case; those that differ in nothing but their name share one explanation."""
    cases = run.unexpected()
    if not cases:
        return []
    lines = [rule(f"UNEXPECTED: {len(cases)}", "", style, "bad")]
    groups: dict[tuple[str, ...], list[CaseEvent]] = {}
    for case in cases:
        groups.setdefault((case.kernel, case.verdict, case.expected, case.observed, case.reason), []).append(case)
    for number, group in enumerate(groups.values(), start=1):
        lines += ["", *_unexpected(run, number, group, style)]
    return lines


def known_section(run: Run, style: Style = _PLAIN) -> list[str]:
    """List the known deviations, those with the same reason together."""
    return _by_reason("Known deviations, as expected", run, Verdict.XFAIL, style)


def skipped_section(run: Run, style: Style = _PLAIN) -> list[str]:
    """Count the skipped cases by reason."""
    return _by_reason("Skipped", run, Verdict.SKIP, style)


def unseen_section(run: Run, style: Style = _PLAIN) -> list[str]:
    """Say how many selected cases never came to a verdict."""
    missing = [(slug, run.unseen(slug)) for slug in run.slugs if run.unseen(slug)]
    if not missing:
        return []
    rows = [f"{count:6}  {run.kernel(slug).spec}" for slug, count in missing]
    return [rule(f"Never run: {run.unseen()}", "", style), *(style.cut(row, WIDTH) for row in rows)]


def verdict_lines(run: Run, style: Style = _PLAIN) -> list[str]:
    """Return the verdict sentence with its counts and seconds; one line wherever it fits."""
    sentence, colour = _verdict(run, style)
    total = sum(run.counts().values())
    cases = f"{total} of {total + run.unseen()} cases:" if run.unseen() else f"{total} case{'s' * (total != 1)}:"
    facts = _counted(run.counts()) or ["none judged"]
    facts += [f"{run.finish.seconds:.1f} s"] if run.finish else []
    entries = [(sentence, colour, cases), *(("", "", f"{fact},") for fact in facts[:-1])]
    return style.flow([*entries, ("", "", facts[-1])], gap=1)


def case_lines(run: Run, case: CaseEvent, style: Style = _PLAIN) -> list[str]:
    """Announce one unexpected case while the run goes on."""
    title = f"{case.verdict.upper()} {run.kernel(case.kernel).spec} {case.id}"
    first, *rest = style.wrap(title, then="  ")
    verdict = style.paint(case.verdict.upper(), "bad")
    words = f"expected {case.expected}, observed {case.observed}" if case.expected else "; ".join(case.differences)
    return [verdict + first.removeprefix(case.verdict.upper()), *rest, *style.wrap(words, first="  ")]


def _accelerators(run: Run) -> Iterator[tuple[str, str]]:
    """Yield each accelerator with its reason, and the kernels it is about unless it is about all."""
    kernels = [run.kernel(slug) for slug in run.slugs]
    said = {(each.accelerator, each.why): "" for each in kernels if each.accelerator}
    for accelerator, why in said:
        about = [each.spec for each in kernels if (each.accelerator, each.why) == (accelerator, why)]
        name = _ACCELERATORS.get(accelerator, accelerator.upper())
        yield (
            why if why.upper().startswith(name.upper()) else f"{name}: {why}".removesuffix(": "),
            "" if len(about) == len(kernels) else ", ".join(about),
        )


def _table(run: Run, style: Style) -> list[str]:
    """Return a row of counts for each kernel."""
    rows = [_row(run, slug, style) for slug in run.slugs]
    specs = [style.cut(spec, 18) for spec, _, _ in rows]
    wide = max(map(len, ("kernel", *specs)))
    numbers = " cases  pass xfail skip UNEXPECTED   time"
    releases = [style.cut(release, WIDTH - wide - len(numbers) - 2) for _, release, _ in rows]
    broad = max(map(len, ("release", *releases)))
    lines = [style.paint(f"{'kernel':{wide}}  {'release':{broad}}{numbers}", "faint")]
    for spec, release, (_, _, counts) in zip(specs, releases, rows, strict=True):
        lines.append(f"{spec:{wide}}  {release:{broad}}{counts}")
    return lines


def _row(run: Run, slug: str, style: Style) -> tuple[str, str, str]:
    """Return a kernel's spec, release and counts."""
    kernel, counts, bad = run.kernel(slug), run.counts(slug), len(run.unexpected(slug))
    seconds = run.seconds(slug)
    time = f"{seconds:.1f}s" if seconds < 1000 else f"{seconds:.0f}s"
    passed, known, skipped = (counts[each] or "-" for each in (Verdict.PASS, Verdict.XFAIL, Verdict.SKIP))
    told = f"{'not judged' if kernel.error else bad or '-':>10}"
    told = style.paint(told, "bad" if bad or kernel.error else "good")
    numbers = f" {sum(counts.values()) or '-':>5} {passed:>5} {known:>5} {skipped:>4} {told} {time:>6}"
    return kernel.spec, kernel.release, numbers


def rule(left: str, right: str, style: Style, colour: str = "strong") -> str:
    """Return a heading that spans the page, its left part in colour."""
    line = style.show("─")
    left = style.cut(left, WIDTH - 8)
    right = style.cut(right, WIDTH - 12 - len(left)) if len(left) < WIDTH - 16 else ""
    end = f" {right} {line * 2}" if right else ""
    fill = line * (WIDTH - len(left) - len(end) - 4)
    return f"{line * 2} {style.paint(left, colour)} {fill}{end}"


def _groups(cases: Sequence[CaseEvent], style: Style) -> Iterator[str]:
    """Yield a row of counts for each group that has no grid."""
    groups = list(dict.fromkeys(case.group for case in cases if case.group != "redirect"))
    wide = max(map(len, ("group", *groups)))
    if groups:
        yield style.paint(f"{'group':{wide}} cases  pass xfail skip UNEXPECTED", "faint")
    for group in groups:
        verdicts = [case.verdict for case in cases if case.group == group]
        counts, bad = Counter(verdicts), sum(not verdict.expected for verdict in verdicts)
        passed, known, skipped = (counts[each] or "-" for each in (Verdict.PASS, Verdict.XFAIL, Verdict.SKIP))
        told = style.paint(f"{bad or '-':>10}", "bad" if bad else "good")
        yield f"{group:{wide}} {len(verdicts):>5} {passed:>5} {known:>5} {skipped:>4} {told}"


def _build(kernel: KernelEvent) -> str:
    """Say which build it is: the banner from its build number on, for the compiler hides the rest, and hashes."""
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
    if kernel.template_seconds >= _WORTH_TELLING:
        facts.append(f"template {kernel.template} in {kernel.template_seconds:.1f} s".replace("  ", " "))
    elif kernel.template:
        facts.append(f"template {kernel.template}")
    if kernel.boot_seconds:
        facts.append(f"boot {kernel.boot_seconds:.1f} s")
    if kernel.factor:
        facts.append(f"speed factor {kernel.factor:.1f}")
    return f"{_ACCELERATORS.get(kernel.accelerator, kernel.accelerator.upper())}: {', '.join(facts)}"


def _unexpected(run: Run, number: int, group: Sequence[CaseEvent], style: Style) -> list[str]:
    case, *others = group
    spec = style.cut(run.kernel(case.kernel).spec, 40)
    name = f"{number}. {style.paint(case.verdict.upper(), 'bad')} on {spec}"
    lines = [name, *style.wrap(case.id, first="   ")]

    def say(label: str, text: str) -> None:
        if text:
            lines.extend(style.wrap(text, first=f"   {label:9} "))

    say("expected", case.expected)
    say("because", case.reason)
    say("observed", case.observed)
    for difference in case.differences:
        say("", difference)
    lines += _evidence(case, style)
    lines += _command(case.repeat, style)
    if others:
        lines.append(f"   the same for {len(others)} more:")
        lines += [line for other in others for line in style.wrap(other.id, first="     ")]
    return lines


def _evidence(case: CaseEvent, style: Style) -> Iterator[str]:
    """Yield what the kernel said, from the first sign of trouble on; the event log has it in full."""
    sources = {
        "kernel log": [str(line.get("text", "")) for line in case.log],
        "console": case.console.splitlines(),
        "traceback": case.error.splitlines(),
    }
    for source, text in sources.items():
        last = max(0, len(text) - _LOG_LINES)
        first = next((number for number, line in enumerate(text) if is_header(line)), last)
        if text:
            yield f"   {source}" + (f" (of {len(text)} lines)" if last else "")
            yield from (style.cut(f"     {line}", WIDTH) for line in text[first : first + _LOG_LINES])


def _command(command: str, style: Style) -> list[str]:
    """Fold a shell command at its words, so that it can still be pasted."""
    if not command:
        return []
    try:
        words = [shlex.quote(word) for word in shlex.split(command)]
    except ValueError:
        words = [command]
    lines = ["   repeat   "]
    for word, following in itertools.zip_longest(words, words[1:], fillvalue=""):
        together = f"{word} {following}" if word.startswith("-") and not following.startswith("-") else word
        if len(lines[-1]) + len(together) + 3 > WIDTH and lines[-1].strip() != "repeat":
            lines[-1] += " \\"
            lines.append("              ")
        lines[-1] += f" {word}"
    return [style.show(line) for line in lines]


def _by_reason(title: str, run: Run, verdict: Verdict, style: Style) -> list[str]:
    cases = [case for slug in run.slugs for case in run.cases.get(slug, ()) if case.verdict is verdict]
    if not cases:
        return []
    reasons: dict[tuple[str, str], int] = {}
    for case in cases:
        key = (case.reason or "no reason given", run.kernel(case.kernel).spec)
        reasons[key] = reasons.get(key, 0) + 1
    lines = [rule(f"{title}: {len(cases)}", "", style)]
    for reason, entries in itertools.groupby(sorted(reasons), key=lambda key: key[0]):
        specs = [spec for _, spec in entries]
        count = sum(reasons[reason, spec] for spec in specs)
        lines += style.wrap(f"{reason} ({', '.join(specs)})", first=f"{count:6}  ")
    return lines


def _verdict(run: Run, style: Style) -> tuple[str, str]:
    """Return the verdict sentence and its colour."""
    bad, infra = len(run.unexpected()), run.counts()[Verdict.INFRA]
    dead = [style.cut(run.kernel(slug).spec, 40) for slug in run.slugs if run.kernel(slug).error]
    stopped = "Interrupted: " if interrupted(run) else ""
    lost = f"{len(dead)} kernels" if len(dead) > 1 else "".join(dead) or f"{infra} case{'s' * (infra != 1)}"
    if bad > infra:
        return f"{stopped}{bad} UNEXPECTED" + (f", {lost} could not be judged." if dead else "."), "bad"
    if dead or infra:
        return f"{stopped}{lost} could not be judged.", "bad"
    if stopped:
        return "Interrupted, nothing unexpected so far.", "bad"
    if unseen := run.unseen():
        return f"{unseen} case{'s' * (unseen != 1)} never ran.", "bad"
    judged = any(verdict is not Verdict.SKIP for verdict in run.counts())
    return ("Nothing unexpected.", "good") if judged else ("Nothing was judged.", "bad")


def _counted(counts: Counter[Verdict]) -> list[str]:
    return [f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict]]
