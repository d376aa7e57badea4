# SPDX-License-Identifier: GPL-2.0-only
"""Find the BTF id of a kernel function, which the load of a tracing program or an iterator needs.

The type information of a kernel is some 5 MB, 100,000 records of different sizes, and an id is the number of a record.
So the records are walked once, which takes 0.4 s under emulation, and the offset of every `_STRIDE`-th one is kept. Do
this before the template of a machine is saved. A later look-up takes two byte searches and a short walk.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from functools import cache

_PATH = "/sys/kernel/btf/vmlinux"
_HEADER = struct.Struct("=HBBIIIII")
_MAGIC = 0xEB9F
_STRIDE = 512

_SOUGHT = (12 << 24, 12 << 24 | 1, 12 << 24 | 2, 8 << 24)
"""The info word of a function, static, global or extern, and of a typedef, which names a tracepoint."""

# Words in a record after name, info and size or type: a fixed number, and a number per member.
_FIXED = {1: 1, 3: 3, 14: 1, 17: 1}  # INT, ARRAY, VAR, DECL_TAG
_PER_MEMBER = {4: 3, 5: 3, 6: 2, 13: 2, 15: 3, 19: 3}  # STRUCT, UNION, ENUM, FUNC_PROTO, DATASEC, ENUM64
_EXTRA = [(3 + _FIXED.get(kind, 0), _PER_MEMBER.get(kind, 0)) for kind in range(32)]


class Btf:
    """The type information of one kernel."""

    def __init__(self, content: bytes) -> None:
        """Walk the records of a BTF blob; ValueError if it does not end where a record does."""
        magic, _, _, header, types, types_size, names, names_size = _HEADER.unpack_from(content)
        if magic != _MAGIC:
            raise ValueError(f"BTF begins with {magic:#x}")
        self._types = content[header + types : header + types + types_size]
        self._names = content[header + names : header + names + names_size]
        self._words = memoryview(self._types).cast("I")
        self._marks = array("I")
        """The offset, in words, of record 1 + n * _STRIDE."""
        if self._walk(0, len(self._words), self._marks)[0] != len(self._words):
            raise ValueError("a BTF record goes on beyond the end")

    def function(self, name: str) -> int:
        """Return the id of a function, or of a tracepoint as `btf_trace_NAME`; LookupError if there is none."""
        at = self._names.find(b"\0" + name.encode() + b"\0")
        for info in _SOUGHT if at >= 0 else ():
            position = self._types.find(struct.pack("=II", at + 1, info))
            if position >= 0 and not position % 4:
                return self._number(position // 4)
        raise LookupError(f"the BTF of this kernel has no function {name}")

    def _number(self, position: int) -> int:
        mark = bisect_right(self._marks, position) - 1
        reached, count = self._walk(self._marks[mark], position)
        if reached != position:
            raise LookupError("what looks like a function is inside another record")
        return 1 + mark * _STRIDE + count

    def _walk(self, begin: int, end: int, marks: array[int] | None = None) -> tuple[int, int]:
        """Walk the records; return the first offset at or beyond `end`, and the number of records passed."""
        words, extra, at, count = self._words, _EXTRA, begin, 0
        while at < end:
            if marks is not None and not count % _STRIDE:
                marks.append(at)
            info = words[at + 1]
            fixed, each = extra[info >> 24 & 31]
            at += fixed + each * (info & 0xFFFF) if each else fixed
            count += 1
        return at, count


_kernel: list[Btf] = []


@cache
def function_id(name: str) -> int:
    """Return the BTF id of a function of the running kernel; LookupError if it, or all BTF, is missing."""
    if not _kernel:
        try:
            with open(_PATH, "rb") as file:
                _kernel.append(Btf(file.read()))
        except FileNotFoundError:
            raise LookupError("this kernel has no BTF") from None
    return _kernel[0].function(name)
