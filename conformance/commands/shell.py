# SPDX-License-Identifier: GPL-2.0-only
"""`conform shell`: a shell in the clone that a case would get, or is standing in."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence

from common.errors import HostError
from common.errors import UsageError
from common.say import note
from conformance.groups import cases
from conformance.model import Case
from conformance.run.machine_pool import Workbench
from conformance.run.run_options import read_options
from conformance.run.selection import Wanted
from conformance.run.selection import checked
from conformance.run.selection import matcher
from kernels.resolve import resolve
from vm import shell as terminal
from vm.machine import Reply
from vm.session import Session

_SETTING_UP = 60.0
"""Deadline of a case that is looked at, not judged."""


def shell(options: argparse.Namespace) -> int:
    """Open a shell in a machine, with a case standing in it if one is named; returns the shell's status."""
    case = _named(options.conform_case or ())
    asked = read_options(options)
    (slug, spec), *others = asked.specs.items()
    if others:
        raise UsageError("a shell is in one machine", hint="give one --kernel")
    kernel = resolve(spec, progress=note)
    workbench = Workbench({slug: kernel}, asked.machine)
    workbench.prepare(slug, note)
    with contextlib.closing(workbench), contextlib.ExitStack() as stack:
        machine = workbench.machine(slug)
        if not isinstance(machine, Session):
            raise HostError("this machine has no shell", hint="use --machine=clone")
        if case is not None:
            _tell(case, machine.call(case.scenario, case.params, deadline=_SETTING_UP, hold=True))
        if machine.usable:
            if options.gdb:
                stack.enter_context(terminal.debugged(machine, kernel, note))
            return terminal.interact(machine, slug, sys.stdin.fileno(), sys.stdout.fileno())
    return 1


def _named(patterns: Sequence[str]) -> Case | None:
    """Return the only case that patterns of `--case` name; None without any. UsageError where there are several."""
    if not patterns:
        return None
    names = matcher(checked(Wanted(tuple(patterns), stressed=True), cases()).globs, [case.id for case in cases()])
    found = [case for case in cases() if names(case.id)]
    if len(found) > 1:
        others = ", ".join(case.id for case in found[:3]) + ", ..." * (len(found) > 3)
        raise UsageError(
            f"a shell holds one case, and --case {' '.join(patterns)} names {len(found)}", hint=f"choose of {others}"
        )
    return found[0]


def _tell(case: Case, reply: Reply) -> None:
    standing = reply.value is None and not reply.error
    note(f"{case.id}: {'stands, stopped before it would tear itself down' if standing else reply.fate}")
    if not standing:
        note(reply.error or f"it came to its end: {reply.value}")
    for line in reply.log:
        note(f"  {line.text}")
