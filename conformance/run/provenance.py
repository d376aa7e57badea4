# SPDX-License-Identifier: GPL-2.0-only
"""Say what was judged, by what, and where: the events that open a run."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait
from dataclasses import replace
from datetime import UTC
from datetime import datetime
from pathlib import Path

from bpf.build import object_hashes
from common.errors import KernelError
from conformance.expect.verified import note
from conformance.report.events import KernelEvent
from conformance.report.events import RunEvent
from conformance.run.machine_pool import Workbench
from vm.machine import MachineInfo
from vm.machine import MachineKind
from vm.qemu import end_all

_ROOT = Path(__file__).resolve().parents[2]
_PAUSE = 0.05
"""Seconds between two looks at threads that are to end."""


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


def kernel_events(workbench: Workbench, slugs: Sequence[str], progress: Callable[[str], None]) -> list[KernelEvent]:
    """Make the kernels' machines ready, two at a time, and describe them; leaves nothing behind when interrupted."""
    if len(slugs) == 1:
        # A signal reaches this thread only: a boot that it does itself ends at once.
        return [kernel_event(workbench, slugs[0], progress)]
    pool = ThreadPoolExecutor(max_workers=2)
    futures = [pool.submit(kernel_event, workbench, slug, progress) for slug in slugs]
    try:
        return [future.result() for future in futures]
    finally:
        running = [future for future in futures if not future.cancel()]
        while wait(running, timeout=_PAUSE).not_done:
            end_all()
        pool.shutdown()


def kernel_event(workbench: Workbench, slug: str, progress: Callable[[str], None]) -> KernelEvent:
    """Make one kernel's machine ready and describe both; a kernel that cannot be judged says so in `error`."""
    started = time.monotonic()
    identity = _identity(workbench, slug)
    try:
        info = workbench.prepare(slug, progress)
    except KernelError as error:
        return replace(identity, error=str(error), hint=error.hint)
    return replace(
        identity,
        machine=str(info.kind),
        accelerator=info.accelerator,
        why=info.why,
        factor=round(info.factor, 2),
        boot_seconds=round(info.boot_seconds, 3),
        template=_template(info),
        template_seconds=round(time.monotonic() - started, 3),
        tools=dict(info.versions),
    )


def _identity(workbench: Workbench, slug: str) -> KernelEvent:
    kernel = workbench.kernels[slug]
    return KernelEvent(
        spec=kernel.spec,
        slug=slug,
        release=kernel.release,
        version=str(kernel.version),
        banner=kernel.banner,
        digest=kernel.digest,
        config_sha256=hashlib.sha256(json.dumps(dict(kernel.config), sort_keys=True).encode()).hexdigest(),
        package=dict(kernel.provenance),
        notes=_notes(workbench, slug),
    )


def suite_commit() -> str:
    """Return the checkout's commit, with `-dirty` where files differ; empty without git."""
    # fmt: off
    command = ["git", "-C", os.fspath(_ROOT), "describe",
               "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    # fmt: on
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _notes(workbench: Workbench, slug: str) -> tuple[str, ...]:
    sentence = note(workbench.kernels[slug].version)
    return (sentence,) if sentence else ()


def _template(info: MachineInfo) -> str:
    """Tell whether this run booted the kernel for its template."""
    if info.kind is not MachineKind.CLONE:
        return ""
    return "built" if info.built else "cached"
