# SPDX-License-Identifier: GPL-2.0-only
# The compiled programs; bpf/build.py writes the module itself, which exists in the guest only.

from collections.abc import Mapping
from typing import TypedDict

class Definition(TypedDict):
    # What `bpf.guest.syscall.Program` is made from; fields as in `bpf.object.Program`.

    section: str
    licence: str
    instructions: bytes
    relocations: tuple[tuple[int, str], ...]
    maps: dict[str, tuple[int, int, int, int, int]]
    sha256: str

PROGRAMS: Mapping[str, Definition]
