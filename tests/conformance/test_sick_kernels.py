# SPDX-License-Identifier: GPL-2.0-only
"""Real kernels that really fail: each case gets the right verdict and title, and the next one a healthy machine.

The faults come from a kernel feature, a known bug, or some bytes of its memory written through gdb's stub.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from conformance.groups.redirect.cases import redirect_cases
from conformance.model import Case, Verdict
from conformance.run import machine_pool
from conformance.run.bundle import guest_bundle
from conformance.run.machine_pool import PRELOAD, MachinePool
from conformance.run.try_case import examine
from kernels.resolve import resolve
from vm.machine import MachineOptions
from vm.session import Session

pytestmark = pytest.mark.vm

SPEC = "debian:6.12"
TESTS = Path(__file__).parents[1]
SICKNESS = {"sick": TESTS / "vm/sick.py", "sick_kernel": TESTS / "conformance/sick_kernel.py"}
VSOCK_HASH_SIZE = 251
"""net/vmw_vsock/af_vsock.c: the last list of `vsock_bind_table`, after this many, is that of unbound sockets."""


def _case(name: str) -> Case:
    return next(case for case in redirect_cases() if case.name == name)


SOUND = _case("sockmap-ingress-to-egress-tcp4-unix_stream")


@pytest.fixture(name="pool", scope="module")
def _pool() -> Iterator[MachinePool]:
    """The suite's own pool, with guests that can break themselves."""
    with closing(MachinePool({"sick": resolve(SPEC)}, MachineOptions(preload=PRELOAD))) as pool:
        pool.prepare("sick", lambda text: None)
        bundle = {**guest_bundle(), **{name: path.read_text() for name, path in SICKNESS.items()}}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(machine_pool, "guest_bundle", lambda: bundle)
            yield pool


@pytest.fixture(name="next_is_sound", autouse=True)
def _next_is_sound(pool: MachinePool) -> Iterator[None]:
    """A failing kernel costs one case: the next one passes, on another machine."""
    patient = pool.machine("sick")
    yield
    assert examine(pool, "sick", SOUND)[0].verdict is Verdict.PASS
    assert pool.machine("sick") is not patient


def _sick(function: str, deadline: float = 3.0, **arguments: str) -> Case:
    """Return a case that the judge cannot judge."""
    params = {**SOUND.params, **arguments}
    return Case(group="redirect", name=function, scenario=function, params=params, deadline=deadline)


def _judged(pool: MachinePool, case: Case, verdict: Verdict, title: str) -> None:
    judgement, record = examine(pool, "sick", case)
    assert (judgement.verdict, record["verdict"]) == (verdict, str(verdict)), judgement
    assert re.search(title, judgement.differences[0]), judgement.differences


@pytest.mark.parametrize(
    ("case", "verdict", "title"),
    [
        (_sick("sick:warn_and_crash"), Verdict.PANIC, "the kernel died: Kernel panic - not syncing: sysrq triggered"),
        (_sick("sick_kernel:warn"), Verdict.SPLAT, r"WARNING: at net/strparser/strparser\.c strp_done \(strp_done < "),
        (_sick("sick_kernel:lock_up"), Verdict.SPLAT, r"BUG: soft lockup in \w+ .*< array_map_update_elem"),
        (
            _sick("sick_kernel:block"),
            Verdict.SPLAT,
            "INFO: task blocked for too long in __lock_sock .*< sock_map_update_elem",
        ),
        (_sick("sick:fill_memory", 20.0), Verdict.INFRA, "the guest ran out of memory; .*: oom-killer invoked"),
        (
            _sick("sick_kernel:flood", 20.0),
            Verdict.SPLAT,
            r"the kernel logged \d+ lines, of which the first \d+ were kept",
        ),
    ],
    ids=["panic", "warning", "soft-lockup", "hung-task", "out-of-memory", "log-overflow"],
)
def test_each_failure_has_its_verdict_and_title(pool: MachinePool, case: Case, verdict: Verdict, title: str) -> None:
    """Each failure has its verdict, and the title of the kernel's own report."""
    _judged(pool, case, verdict, title)


def test_a_taint_counts_if_it_means_trouble(pool: MachinePool) -> None:
    """A taint bit set by a warning is a splat even without its text; a bit set by a module is not."""
    harmless, sick = (_sick("sick_kernel:taint", word=str(1 << bit)) for bit in (12, 9))
    assert examine(pool, "sick", harmless)[0].verdict is not Verdict.SPLAT
    _judged(pool, sick, Verdict.SPLAT, "the kernel became tainted, for the kernel warned")


def test_a_corrupt_list_is_what_the_case_died_of(pool: MachinePool, tmp_path: Path) -> None:
    """With one pointer of a list wrong, the next case that adds to it panics, and the panic is called by its cause."""
    session = cast("Session", pool.machine("sick"))
    table = session.call("sick_kernel:address_of", {"name": "vsock_bind_table"}, deadline=5.0).value
    unbound = table + 16 * VSOCK_HASH_SIZE
    _write(session, tmp_path / "gdb", unbound, (unbound - 16).to_bytes(8, "little"))
    case = _case("sockmap-ingress-to-egress-vsock_stream-tcp4")
    _judged(pool, case, Verdict.PANIC, "list_add corruption next->prev should be prev in vsock_create")


def _write(session: Session, path: Path, address: int, data: bytes) -> None:
    """Write to the memory of a stopped kernel as gdb would, and let it go."""
    session.debug(path)
    with socket.socket(socket.AF_UNIX) as stub:
        stub.connect(str(path))
        for command in (f"M{address:x},{len(data):x}:{data.hex()}", "D"):
            stub.sendall(f"+${command}#{sum(command.encode()) & 0xFF:02x}".encode())
            answer = b""
            while not answer.endswith(b"$OK#9a"):
                answer += stub.recv(4096)
