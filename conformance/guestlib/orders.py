# SPDX-License-Identifier: GPL-2.0-only
"""Tell the programs of bpf/programs/enrol.h what to do, and ask them what came of it."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Mapping

from bpf.guest import hooks, syscall
from bpf.guest.contexts import CONTEXTS
from conformance.guestlib.answers import error_name

_FIELDS = ("cookie", "port", "remote", "family", "key", "flags", "spread", "wanted", "timeout", "callbacks", "refuse")
_ORDERS = struct.Struct("=Q10I")
_CALLBACKS = 32


class Orders:
    """One loaded program and its orders; close it when done."""

    def __init__(self, program: str, hook: str, maps: Mapping[str, int]) -> None:
        """Load `program` for `hook`, a name from `CONTEXTS`; maps not given are made."""
        # In the guest only: tests without one read the tables of scenarios that come here.
        from bpf.guest.programs import PROGRAMS

        definition = PROGRAMS[program]
        made = {name: syscall.create_map(*shape) for name, shape in definition["maps"].items() if name not in maps}
        try:
            self.program = hooks.load(definition, CONTEXTS[hook], {**maps, **made})
            self._orders = mmap.mmap(made["orders"], mmap.PAGESIZE)
        finally:
            for descriptor in made.values():
                os.close(descriptor)
        self._given = dict.fromkeys(_FIELDS, 0)

    def give(self, **fields: int) -> None:
        """Change orders; see `struct orders`."""
        self._given |= fields
        _ORDERS.pack_into(self._orders, 0, *self._given.values())

    def calls(self, callback: int = 0) -> int:
        """Return how often the program came to do what it was told."""
        return int(struct.unpack_from("=I", self._orders, _ORDERS.size + 4 * callback)[0])

    def answer(self, callback: int = 0) -> str:
        """Return what the kernel last said to it, `"ok"` or errno; `"not called"` if it never came to that."""
        if not self.calls(callback):
            return "not called"
        value = struct.unpack_from("=i", self._orders, _ORDERS.size + 4 * (_CALLBACKS + callback))[0]
        return error_name(-value)

    def close(self) -> None:
        """Let the program go; what it is attached to may still hold it."""
        os.close(self.program)
        self._orders.close()
