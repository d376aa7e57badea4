# SPDX-License-Identifier: GPL-2.0-only
"""`conform defects`: list the known defects of kernels from the tables; boots nothing."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from common.errors import UsageError
from common.say import note, put
from common.words import counted
from conformance.expect.verified import newest_known, version_asked
from conformance.judge.catalogue import AffectedRange, Defect, catalogue, on
from conformance.model import MAINLINE
from conformance.report.style import Style
from kernels.resolve import resolve
from kernels.version import Version

_COMMIT = "https://git.kernel.org/linus"
_CVE = "https://www.cve.org/CVERecord?id="
_MARKS = re.compile(r"([\\`*_{}\[\]<>|#])")
"""Markdown's special characters."""


def list_defects(options: argparse.Namespace) -> int:
    """Print the known defects, open ones first."""
    version = _version(options)
    chosen = [each for each in (on(version) if version else catalogue()) if each.open or not options.open]
    if options.json:
        put(json.dumps([as_json(each, version) for each in chosen], indent=1).splitlines(), sys.stdout)
        return 0
    title = _title(chosen, version)
    lines = _markdown(chosen, version, title) if options.markdown else _text(chosen, version, title)
    put(lines, sys.stdout)
    return 0


def as_json(defect: Defect, version: Version | None) -> dict[str, Any]:
    """Return a defect with all its facts as fields."""
    return {
        "id": defect.id,
        "title": defect.title,
        "cause": defect.cause,
        "open": defect.open,
        "by_chance": defect.racy,
        "cve": list(defect.cves),
        "link": list(defect.links),
        "case": defect.case(version),
        "rows": list(defect.places),
        "kernels": [
            {
                "since": affected.since,
                "fixed_in": affected.until,
                "commit": affected.commit,
                "subject": affected.subject,
            }
            for affected in _ranges(defect, version)
        ],
    }


def _version(options: argparse.Namespace) -> Version | None:
    if options.kernel and options.version:
        raise UsageError("--kernel and --version both name a kernel", hint="give one of them")
    if options.kernel:
        return resolve(options.kernel, progress=note).version
    return version_asked(options.version) if options.version else None


def _title(chosen: Sequence[Defect], version: Version | None) -> str:
    where = f" on {version}" if version else ""
    still = sum(each.open for each in chosen)
    count = f"{counted(len(chosen), 'known defect')}{where}"
    return f"{count}, {still} of them still in {newest_known()}"


def _ranges(defect: Defect, version: Version | None) -> tuple[AffectedRange, ...]:
    """Return the ranges of a defect, or those that include one version."""
    if version is None:
        return defect.spans()
    return Defect(defect.id, tuple(way for way in defect.ways if way.rule.in_force(version))).spans()


def _text(chosen: Sequence[Defect], version: Version | None, title: str) -> Iterator[str]:
    style = Style.of(sys.stdout)
    yield style.paint(title, "strong")
    for defect in chosen:
        yield ""
        state = "open" if defect.open else "fixed"
        yield from style.wrap(f"{defect.title} ({', '.join([state, *defect.cves])})")
        if defect.cause != defect.title:
            yield from style.wrap(defect.cause, first="  cause   ", then=" " * 10)
        for affected in _ranges(defect, version):
            yield from style.wrap(_kernels(affected), first="  kernels ", then=" " * 10)
            if affected.commit:
                yield from style.wrap(_commit(affected), first="  commit  ", then=" " * 10)
        for link in defect.links:
            yield f"  link    {link}"
        chance = " (by chance)" if defect.racy else ""
        yield f"  case    {defect.case(version)}{chance}"
        yield from (f"  row     {place}" for place in defect.places)


def _markdown(chosen: Sequence[Defect], version: Version | None, title: str) -> Iterator[str]:
    yield f"# {title}"
    for defect in chosen:
        yield from ("", f"## {_plain(defect.title)}", "")
        numbers = ", ".join(f"[{cve}]({_CVE}{cve})" for cve in defect.cves)
        yield f"- {'open' if defect.open else 'fixed'}{': ' * bool(numbers)}{numbers}"
        if defect.cause != defect.title:
            yield f"- cause: {_plain(defect.cause)}"
        for affected in _ranges(defect, version):
            linked = (
                f"; [{affected.commit}]({_COMMIT}/{affected.commit}) {_plain(affected.subject)}"
                if affected.commit
                else ""
            )
            yield f"- kernels: {_kernels(affected)}{linked}"
        yield from (f"- report: <{link}>" for link in defect.links)
        yield f"- `./conform run --case {defect.case(version)}`{' (by chance)' * defect.racy}"
        yield from (f"- row `{place}`" for place in defect.places)


def _kernels(affected: AffectedRange) -> str:
    return f"since {_bound(affected.since)}; {f'fixed in {_bound(affected.until)}' if affected.until else 'not fixed'}"


def _commit(affected: AffectedRange) -> str:
    role = "the fix" if affected.fix else "since"
    return f'{affected.commit} "{affected.subject}" ({role})' if affected.subject else f"{affected.commit} ({role})"


def _bound(bound: Mapping[str, str]) -> str:
    branches = [first for branch, first in bound.items() if branch != MAINLINE]
    return ", ".join([bound[MAINLINE], *branches])


def _plain(text: str) -> str:
    return _MARKS.sub(r"\\\1", text)
