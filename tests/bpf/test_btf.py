# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import struct
from pathlib import Path

import pytest

from bpf.guest.btf import Btf

KERNEL = Path("/sys/kernel/btf/vmlinux")

INT, STRUCT, ENUM64, FUNC, FUNC_PROTO, TYPEDEF = 1, 4, 19, 12, 13, 8


class Blob:
    """A builder of BTF."""

    def __init__(self) -> None:
        self.types = b""
        self.names = b"\0"
        self.count = 0

    def add(self, kind: int, name: str = "", *, members: int = 0, extra: int = 0) -> int:
        """Add a record and return its id; `extra` is how many words follow the first three."""
        at = len(self.names) if name else 0
        self.names += f"{name}\0".encode() if name else b""
        # The extra words look like the beginning of a record: the search for a function must not take them for one.
        self.types += struct.pack("=III", at, kind << 24 | members, 0) + struct.pack("=I", at) * extra
        self.count += 1
        return self.count

    def read(self) -> Btf:
        """Return the BTF as the kernel would."""
        return Btf(self.bytes())

    def bytes(self) -> bytes:
        """Return the blob with its header."""
        types, names = len(self.types), len(self.names)
        return struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, types, types, names) + self.types + self.names


def test_a_function_is_found_among_records_of_every_size() -> None:
    """Ids count records of all sizes, also far behind the first mark."""
    blob = Blob()
    wanted = {}
    for number in range(1500):
        blob.add(INT, f"int{number}", extra=1)
        blob.add(STRUCT, f"struct{number}", members=number % 5, extra=number % 5 * 3)
        blob.add(ENUM64, members=2, extra=6)
        blob.add(FUNC_PROTO, members=1, extra=2)
        wanted[f"function{number}"] = blob.add(FUNC, f"function{number}", members=number % 3)

    btf = blob.read()

    some = {name: number for name, number in wanted.items() if name.endswith("49")}
    assert {name: btf.function(name) for name in some} == some


def test_a_tracepoint_is_found_by_its_typedef() -> None:
    """A tp_btf program is loaded for `btf_trace_NAME`, which is not a function."""
    blob = Blob()
    blob.add(INT, "int", extra=1)
    wanted = blob.add(TYPEDEF, "btf_trace_x")

    assert blob.read().function("btf_trace_x") == wanted


@pytest.mark.parametrize("name", ["absent", "unction", "functio", "structure"])
def test_what_is_no_function_is_not_found(name: str) -> None:
    """Neither a part of a name nor the name of another object is found."""
    blob = Blob()
    blob.add(STRUCT, "structure")
    blob.add(FUNC, "function")

    with pytest.raises(LookupError, match=name):
        blob.read().function(name)


def test_a_function_inside_another_record_is_not_taken_for_one() -> None:
    """Bytes that look like a function but are members are refused, not numbered."""
    blob = Blob()
    blob.names += b"fake\0"
    lookalike = struct.pack("=III", 1, FUNC << 24, 0)
    blob.types += struct.pack("=III", 0, STRUCT << 24 | 1, 0) + lookalike
    with pytest.raises(LookupError, match="inside another record"):
        blob.read().function("fake")


def test_records_that_go_on_beyond_the_end_are_refused() -> None:
    """BTF of a kind this reader does not know must not yield wrong ids."""
    blob = Blob()
    blob.add(STRUCT, "cut", members=7, extra=3)
    with pytest.raises(ValueError, match="beyond the end"):
        blob.read()


def test_what_is_no_btf_is_refused() -> None:
    """A wrong magic number is refused."""
    with pytest.raises(ValueError, match="BTF begins with 0x0"):
        Btf(bytes(64))


@pytest.mark.skipif(not KERNEL.exists(), reason="the running kernel has no BTF")
def test_the_running_kernel_is_understood() -> None:
    """Real BTF is walked to its end, and functions have ids of their own."""
    btf = Btf(KERNEL.read_bytes())

    assert len({btf.function(name) for name in ("tcp_close", "bpf_iter_sockmap", "btf_trace_tcp_destroy_sock")}) == 3
