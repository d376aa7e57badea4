# SPDX-License-Identifier: GPL-2.0-only
"""The kernels of a run: found, booted for their templates, and described."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace

from common.errors import ConformError, DeadlinePassed, KernelError
from common.words import counted
from conformance.judge.needs import disabled
from conformance.model import Case
from conformance.report.event_types import KernelEvent
from conformance.run import resume
from conformance.run.deadline import alarm, too_late
from conformance.run.machine_pool import MachinePool, facts_of
from conformance.run.provenance import identity
from conformance.run.recorder import RunRecorder
from conformance.run.selection import Chosen
from kernels.kernel import Kernel
from kernels.resolve import resolve
from vm.machine import MachineInfo, MachineKind, MachineOptions
from vm.qemu import end_all

_PAUSE = 0.05
"""Seconds between two checks whether threads have ended."""


def make_ready(
    recorder: RunRecorder,
    specs: Mapping[str, str],
    options: MachineOptions,
    *,
    chosen: Chosen | None = None,
    start_ahead: bool = False,
) -> None:
    """Resolve the kernels of a run and make their templates; raises ConformError if the run cannot go on.

    What the chosen cases miss in a kernel's configuration is said before it boots. With `start_ahead` this process
    will ask the cases itself: the machine of a single kernel starts at once.
    """
    try:
        with alarm(recorder.expires):
            recorder.phase(f"preparing {', '.join(specs.values())}")
            kernels, missing = _resolved(recorder, specs)
            if recorder.before is not None:
                resume.check_kernels(recorder.before, kernels)
            for slug, kernel in kernels.items():
                _say_what_is_missing(recorder, specs[slug], kernel, (chosen or {}).get(slug, {}).values())
            # A machine dies with the thread that started it, so this thread must start it.
            alone = start_ahead and len(kernels) == 1
            pool = MachinePool(kernels, options, recorder.expires, eager=alone)
            recorder.kernels = [*kernel_events(pool, list(kernels), recorder.note), *missing]
    except DeadlinePassed:
        raise too_late(recorder.deadline) from None
    recorder.pool = pool


def _say_what_is_missing(recorder: RunRecorder, spec: str, kernel: Kernel, asked: Iterable[Case]) -> None:
    for reason, number in disabled(asked, facts_of(kernel)).items():
        recorder.note(f"{spec}: {reason}: {counted(number, 'case')} will be skipped")


def _resolved(recorder: RunRecorder, specs: Mapping[str, str]) -> tuple[dict[str, Kernel], list[KernelEvent]]:
    """Resolve each spec; a spec without a kernel costs only itself, unless it is the only one."""
    kernels: dict[str, Kernel] = {}
    errors: dict[str, ConformError] = {}
    for slug, spec in specs.items():
        try:
            kernels[slug] = resolve(spec, progress=recorder.note)
        except ConformError as error:
            errors[slug] = error
    if not (kernels or recorder.forgiving):
        raise next(iter(errors.values()))
    return kernels, [_missing(slug, specs[slug], error) for slug, error in errors.items()]


def _missing(slug: str, spec: str, error: ConformError) -> KernelEvent:
    host = not isinstance(error, KernelError)
    return KernelEvent(spec=spec, slug=slug, error=str(error), hint=error.hint, host=host)


def kernel_events(pool: MachinePool, slugs: Sequence[str], progress: Callable[[str], None]) -> list[KernelEvent]:
    """Make the kernels' machines ready, two at a time, and describe them; leaves nothing behind when interrupted."""
    if len(slugs) == 1:
        # A signal reaches this thread only: a boot that it does itself ends at once.
        return [kernel_event(pool, slugs[0], progress)]
    threads = ThreadPoolExecutor(max_workers=2)
    futures = [threads.submit(kernel_event, pool, slug, progress) for slug in slugs]
    try:
        return [future.result() for future in futures]
    finally:
        running = [future for future in futures if not future.cancel()]
        while wait(running, timeout=_PAUSE).not_done:
            end_all()
        threads.shutdown()


def kernel_event(pool: MachinePool, slug: str, progress: Callable[[str], None]) -> KernelEvent:
    """Make one kernel's machine ready and describe both; a kernel that cannot be judged says so in `error`."""
    started = time.monotonic()
    try:
        info = pool.prepare(slug, progress)
    except KernelError as error:
        return replace(identity(slug, pool.kernels[slug]), error=str(error), hint=error.hint)
    return replace(
        identity(slug, pool.kernels[slug]),
        machine=str(info.kind),
        accelerator=info.accelerator,
        why=info.why,
        factor=round(info.factor, 2),
        boot_seconds=round(info.boot_seconds, 3),
        template=_template(info),
        template_seconds=round(time.monotonic() - started, 3),
        tools=dict(info.versions),
    )


def _template(info: MachineInfo) -> str:
    """Return whether this run booted the kernel for its template."""
    if info.kind is not MachineKind.CLONE:
        return ""
    return "built" if info.built else "cached"
