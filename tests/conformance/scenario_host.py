# SPDX-License-Identifier: GPL-2.0-only
"""This host as a machine for the tests of scenarios: real sockets, real maps, the running kernel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bpf import build
from conformance.run.bundle import guest_bundle
from vm.host import LocalAgent
from vm.machine import CallStatus, MachineInfo, MachineKind
from vm.session import Session

FAULTS = Path(__file__).parents[1] / "bpf" / "faults"
_INFO = MachineInfo(MachineKind.HOST, "none", "", factor=1.0, boot_seconds=0.0)
_LIBRARY = """
import os
from conformance.guestlib import quiesce
from conformance.guestlib import traffic
from conformance.groups.redirect.guest import scenario as redirect
from conformance.guestlib import sockets

def many(arguments):
    return [redirect.run(case) for case in arguments["cases"]]

def descriptors(arguments):
    return sorted(os.listdir("/proc/self/fd"))

"""


@contextmanager
def open_host(code: str = "", programs: Mapping[str, str] | None = None) -> Iterator[Session]:
    """Yield the host; `code` extends the guest module `tests_in_guest`, `programs` names a fault for a program."""
    bundle = {**guest_bundle(), "tests_in_guest": _LIBRARY + code}
    if programs:
        bundle[build.MODULE] = _with_faults(programs)
    session = Session(LocalAgent(), _INFO)
    try:
        session.greet(10.0)
        session.load(bundle)
        yield session
    finally:
        session.close()


def ask(session: Session, function: str, **arguments: Any) -> Any:
    """Call a function of the guest module `tests_in_guest` and return what it returns."""
    reply = session.call(f"tests_in_guest:{function}", arguments, deadline=60.0)
    assert reply.status is CallStatus.ANSWERED, reply.error
    return reply.value


def observe(session: Session, **params: str) -> Any:
    """Run one redirect case; the defaults are sockmap, ingress-to-egress, unix_stream, plain."""
    case = {
        "map": "sockmap",
        "mode": "ingress-to-egress",
        "in": "unix_stream",
        "out": params.get("in", "unix_stream"),
        "layout": "plain",
    }
    return ask(session, "many", cases=[case | params])[0]


def _with_faults(programs: Mapping[str, str]) -> str:
    sound: dict[str, Any] = {}
    faulty: dict[str, Any] = {}
    exec(build.programs_module(), sound)  # noqa: S102
    exec(build.programs_module(FAULTS), faulty)  # noqa: S102
    planted = {name: faulty["PROGRAMS"][fault] for name, fault in programs.items()}
    return f"PROGRAMS = {sound['PROGRAMS'] | planted!r}\n"
