# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from bpf.guest import assemble as asm
from bpf.guest.contexts import CONTEXTS, Context
from tests.bpf.privilege import needs_bpf, needs_tracing

FILTER = CONTEXTS["socket_filter"]
KERNEL = Path("/sys/kernel/btf/vmlinux")


@pytest.mark.parametrize(
    ("code", "encoded"),
    [
        (asm.put(asm.R0, -1), "b7 00 0000 ffffffff"),
        (asm.move(asm.R6, asm.R1), "bf 16 0000 00000000"),
        (asm.load(asm.R3, asm.R6, 168), "79 63 a800 00000000"),
        (asm.store(asm.STACK, -8, 5), "7a 0a f8ff 05000000"),
        (asm.put_map(asm.R1, 7), "18 11 0000 07000000 00 00 0000 00000000"),
        (asm.call(86), "85 00 0000 56000000"),
        (
            asm.unless_zero(asm.R0, asm.call(1) + asm.EXIT),
            "15 00 0200 00000000 85 00 0000 01000000 95 00 0000 00000000",
        ),
        (asm.call_after(asm.EXIT), "85 10 0000 01000000"),
    ],
)
def test_instructions_are_encoded(code: bytes, encoded: str) -> None:
    """Opcode, registers, offset and immediate are where the kernel looks for them."""
    assert code == bytes.fromhex(encoded.replace(" ", ""))


def test_room_in_the_packet_is_asked_for_before_the_body() -> None:
    """The body is skipped if the packet is too short."""
    code = asm.if_room(b"", 1, asm.store_byte(asm.R2, 0))
    assert code[16:24] == bytes.fromhex("2d34010000000000")


@needs_bpf
def test_a_program_loads() -> None:
    """The smallest program passes the verifier, with an empty log, whatever the last program's log had."""
    smallest = asm.put(asm.R0, 0) + asm.EXIT

    os.close(asm.load_program(FILTER, smallest))

    asm.verify(FILTER, asm.EXIT)
    assert asm.verify(FILTER, smallest) == (0, "")


@needs_tracing
@pytest.mark.skipif(not KERNEL.exists(), reason="the running kernel has no BTF")
def test_an_iterator_loads() -> None:
    """The kernel takes the BTF id found for an iterator's function: any other is not an iterator's."""
    os.close(asm.load_program(CONTEXTS["iter_sockmap"], asm.put(asm.R0, 0) + asm.EXIT))


@needs_bpf
def test_the_verifier_is_quoted() -> None:
    """A program that leaves R0 unset is refused, and the verifier says why, but not how it found out."""
    with pytest.raises(PermissionError):
        asm.load_program(FILTER, asm.EXIT)

    number, minded = asm.verify(FILTER, asm.EXIT)
    assert number == errno.EACCES
    assert minded.splitlines()[0] == "R0 !read_ok"


@needs_bpf
def test_a_refusal_before_verification_has_no_log() -> None:
    """A program without instructions is refused before the verifier runs, and gets no log of another program."""
    asm.verify(FILTER, asm.EXIT)

    assert asm.verify(FILTER, b"") == (errno.E2BIG, "")


@needs_bpf
def test_a_program_for_a_function_that_is_not_there() -> None:
    """The error comes before the kernel is called."""
    with pytest.raises(LookupError, match="no_such_function"):
        asm.load_program(Context(26, 24, function="no_such_function"), asm.EXIT)


def test_no_two_contexts_are_equal() -> None:
    """No two names stand for the same kind of program."""
    assert len(set(CONTEXTS.values())) == len(CONTEXTS)
