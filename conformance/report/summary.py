# SPDX-License-Identifier: GPL-2.0-only
"""summary.json: the run in one small object, for scripts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import outfile
from common.errors import HostError
from conformance.model import Verdict
from conformance.report.event_types import KernelEvent
from conformance.report.events import Run

SCHEMA = 1
NAME = "summary.json"


def summary(run: Run) -> dict[str, Any]:
    """Return the summary; every verdict has a count, and `seconds` is as `Run.seconds` says."""
    return {
        "schema": SCHEMA,
        "kernels": [_kernel(run, slug) for slug in run.slugs],
        "provenance": _provenance(run),
    }


def write_summary(run: Run, directory: Path) -> None:
    """Write `summary.json`, beside and renamed; HostError if it cannot be stored."""
    path = directory / NAME
    try:
        outfile.replace(path, json.dumps(summary(run), indent=2, default=dict).encode("ascii") + b"\n")
    except OSError as error:
        sentence = f"cannot write the summary {path}: {error.strerror}"
        raise HostError(sentence, hint="choose another directory with --results DIR") from error


def tools(run: Run) -> dict[str, str]:
    """Return the versions of the tools, those known from the start and those that a machine reported later."""
    known: dict[str, str] = {}
    for each in (run.start.tools, *(kernel.tools for kernel in run.kernels.values())):
        known.update(each)
    return known


def _kernel(run: Run, slug: str) -> dict[str, Any]:
    kernel, counts = run.kernel(slug), run.counts(slug)
    return {
        "spec": kernel.spec,
        "release": kernel.release,
        "counts": {str(verdict): counts[verdict] for verdict in Verdict},
        "unexpected": list(dict.fromkeys(case.id for case in run.unexpected(slug))),
        "seconds": round(run.seconds(slug), 3),
    }


def _provenance(run: Run) -> dict[str, Any]:
    start, versions = run.start, tools(run)
    return {
        "started": start.started,
        "command": list(start.command),
        "suite_commit": start.suite_commit,
        "bpf_objects": start.bpf_objects,
        "seed": start.seed,
        "qemu": versions.get("qemu", ""),
        "virtme_ng": versions.get("virtme-ng", ""),
        "host": {"kernel": start.host_kernel, "cpus": start.host_cpus, "memory": start.host_memory},
        "kernels": {slug: _identity(run.kernel(slug)) for slug in run.slugs},
    }


def _identity(kernel: KernelEvent) -> Mapping[str, Any]:
    return {
        "spec": kernel.spec,
        "release": kernel.release,
        "version": kernel.version,
        "banner": kernel.banner,
        "digest": kernel.digest,
        "config_sha256": kernel.config_sha256,
        "package": kernel.package,
        "machine": kernel.machine,
        "accelerator": kernel.accelerator,
        "why": kernel.why,
        "factor": kernel.factor,
        "boot_seconds": kernel.boot_seconds,
        "notes": list(kernel.notes),
        "error": kernel.error,
    }
