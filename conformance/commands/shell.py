# SPDX-License-Identifier: GPL-2.0-only
"""`conform shell`: a shell, or one command, in a clone; with `--case`, after the case is set up."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from common.errors import UsageError
from common.say import hush, note
from conformance.groups import cases
from conformance.model import Case
from conformance.run import greeting
from conformance.run.bundle import guest_bundle
from conformance.run.consent import for_host
from conformance.run.machine_pool import MachinePool
from conformance.run.run_options import read_options
from conformance.run.selection import Wanted, checked, matcher
from kernels.kernel import Kernel
from kernels.resolve import resolve
from vm import shell as terminal
from vm.machine import Machine, MachineKind, Reply

_GREETING = "greeting"
_SETTING_UP = 60.0
"""Deadline in seconds for setting up a case."""


def shell(options: argparse.Namespace) -> int:
    """Run a shell or the command after `--` in a machine, with a case set up if one is named; returns its status."""
    case = _named(options.conform_case or ())
    asked = read_options(options)
    (slug, spec), *others = asked.specs.items()
    if others:
        raise UsageError("shell starts one machine, but several kernels are given", hint="give one --kernel")
    for_host([spec], yes=options.yes)
    progress = note if options.verbosity >= 0 else hush
    kernel = resolve(spec, progress=progress)
    pool = MachinePool({slug: kernel}, asked.machine)
    pool.prepare(slug, progress)
    with contextlib.closing(pool), contextlib.ExitStack() as stack:
        machine = pool.machine(slug)
        if case is not None:
            _say_state(case, _set_up(machine, case), progress)
        if options.verbosity > 0:
            _describe(machine, kernel)
        if machine.usable:
            if options.gdb:
                stack.enter_context(terminal.debugged(machine, kernel, note))
            keys = sys.stdin.fileno() if sys.stdin is not None else stack.enter_context(open(os.devnull)).fileno()
            sys.stdout.flush()
            return terminal.interact(machine, slug, keys, sys.stdout.fileno(), options.pytest_arguments)
    return 1


def _set_up(machine: Machine, case: Case) -> Reply:
    """Run a case up to its teardown, and leave the names of its sockets and maps in the guest for the greeting."""
    if machine.info.kind is MachineKind.HOST:  # the file with the greeting would be left behind
        return machine.call(case.scenario, case.params, deadline=_SETTING_UP, hold=True)
    machine.load({**guest_bundle(), _GREETING: Path(greeting.__file__).read_text(encoding="utf-8")})
    arguments = {"case": case.id, "scenario": case.scenario, "params": dict(case.params)}
    return machine.call(f"{_GREETING}:run", arguments, deadline=_SETTING_UP, hold=True)


def _named(patterns: Sequence[str]) -> Case | None:
    """Return the only case that patterns of `--case` name; None without any. UsageError where there are several."""
    if not patterns:
        return None
    names = matcher(checked(Wanted(tuple(patterns), stressed=True), cases()).globs, [case.id for case in cases()])
    found = [case for case in cases() if names(case.id)]
    if len(found) > 1:
        others = ", ".join(case.id for case in found[:3]) + ", ..." * (len(found) > 3)
        raise UsageError(
            f"shell sets up one case, but --case {' '.join(patterns)} matches {len(found)}",
            hint=f"choose one, e.g. of {others}",
        )
    return found[0]


def _describe(machine: Machine, kernel: Kernel) -> None:
    """Say what kernel and what machine somebody is in."""
    info = machine.info
    note(f"{kernel.spec}: {kernel.banner}")
    note(f"machine: {info.kind}, {info.accelerator} ({info.why}), speed factor {info.factor:.1f}")
    if info.template:
        made = "built now" if info.built else "cached"
        note(f"template: {made}, booted in {info.boot_seconds:.1f} s, {info.template}")


def _say_state(case: Case, reply: Reply, progress: Callable[[str], None]) -> None:
    """Say whether a case is set up, and what the kernel logged. A case that is not set up is reported even with -q."""
    standing = reply.value is None and not reply.error
    say = progress if standing and not reply.log else note
    say(f"{case.id}: {'is set up; paused before teardown' if standing else reply.status}")
    if not standing:
        note(reply.error or f"the case ended before its teardown: {reply.value}")
    for line in reply.log:
        note(f"  {line.text}")
