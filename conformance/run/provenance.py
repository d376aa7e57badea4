# SPDX-License-Identifier: GPL-2.0-only
"""The events that open a run: the suite, the host and the kernels."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from bpf.build import object_hashes
from conformance.expect.verified import note
from conformance.judge.catalogue import on
from conformance.report.event_types import KernelEvent, RunEvent
from kernels.kernel import Kernel

_ROOT = Path(__file__).resolve().parents[2]


def run_event(selected: Mapping[str, int]) -> RunEvent:
    """Describe the run that begins now; `selected` counts the cases of each kernel slug."""
    return RunEvent(
        started=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        command=("./conform", *sys.argv[1:]),
        selected=dict(selected),
        suite_commit=suite_commit(),
        bpf_objects=object_hashes(),
        host_kernel=os.uname().release,
        host_cpus=os.cpu_count() or 1,
        host_memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (1 << 20),
    )


def identity(slug: str, kernel: Kernel) -> KernelEvent:
    """Describe a kernel, without its machine."""
    return KernelEvent(
        spec=kernel.spec,
        slug=slug,
        release=kernel.release,
        version=str(kernel.version),
        banner=kernel.banner,
        digest=kernel.digest,
        config_sha256=hashlib.sha256(json.dumps(dict(kernel.config), sort_keys=True).encode()).hexdigest(),
        package=dict(kernel.provenance),
        notes=_notes(kernel),
        defects=tuple(defect.as_ground(kernel.version) for defect in on(kernel.version) if not defect.racy),
    )


def suite_commit() -> str:
    """Return the checkout's commit, with `-dirty` if files differ; empty without git."""
    # fmt: off
    command = ["git", "-C", os.fspath(_ROOT), "describe",
               "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    # fmt: on
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _notes(kernel: Kernel) -> tuple[str, ...]:
    sentence = note(kernel.version)
    return (sentence,) if sentence else ()
