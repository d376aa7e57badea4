# SPDX-License-Identifier: GPL-2.0-only
"""comparison.json: a comparison for scripts, a list with one object for each pair of kernels."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common import outfile
from common.errors import HostError
from conformance.compare.model import Change, Comparison, Side
from conformance.report.event_types import KernelEvent

NAME = "comparison.json"
SCHEMA = 1


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return all counts, and every case that differs or is wrong."""
    counts = comparison.counts()
    return {
        "schema": SCHEMA,
        "base": _kernel(comparison.base),
        "head": _kernel(comparison.head),
        "suites": dict(zip(("base", "head"), comparison.suites, strict=True)),
        "unlike": list(comparison.unlike),
        "notes": list(comparison.notes),
        "tries": comparison.tries,
        "counts": {str(change): counts[change] for change in Change},
        "cases": [
            {"id": each.id, "change": str(each.change), "base": _side(each.base), "head": _side(each.head)}
            for each in comparison.differences
            if each.change is not Change.SAME
        ],
    }


def store(found: Iterable[Comparison], folder: Path) -> None:
    """Write the comparisons, beside and renamed; HostError if they cannot be stored."""
    path = folder / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        outfile.replace(path, json.dumps([as_json(each) for each in found], indent=1).encode("ascii") + b"\n")
    except OSError as error:
        sentence = f"cannot write the comparison {path}: {error.strerror}"
        raise HostError(sentence, hint="choose another directory with --results DIR") from error


def _kernel(kernel: KernelEvent) -> dict[str, str]:
    return {"spec": kernel.spec, "release": kernel.release, "version": kernel.version, "digest": kernel.digest}


def _side(side: Side) -> dict[str, Any]:
    every = [("first", side.first)] if side.first is not None else []
    return {
        "repeat": side.repeat,
        "tries": [
            {"try": name, "opinion": str(symptom.opinion), "answers": dict(symptom.answers), "reason": symptom.reason}
            for name, symptom in (*every, *((str(number), each) for number, each in enumerate(side.tries, start=1)))
        ],
    }
