# SPDX-License-Identifier: GPL-2.0-only
"""Taint flags: those that report a fault of the kernel, and harmless ones."""

from __future__ import annotations

HARMLESS = {
    0: "a proprietary module was loaded",
    1: "a module was loaded by force",
    2: "a processor, or its use, is out of specification",
    3: "a module was unloaded by force",
    6: "user space asked for it",
    8: "an ACPI table was overridden",
    10: "a staging driver was loaded",
    11: "a workaround for a bug in the firmware is in use",
    12: "an out-of-tree module was loaded",
    13: "an unsigned module was loaded",
    15: "the kernel was live-patched",
    16: "the distribution's own flag",
    17: "the kernel was built with the struct randomization plugin",
    18: "an in-kernel test ran",
    19: "firmware was reached past its driver",
}
"""Bits that a module, a command or a build sets; see Documentation/admin-guide/tainted-kernels.rst."""

SICK = {
    4: "a processor reported a machine check exception",
    5: "a bad page was referenced or had unexpected flags",
    7: "the kernel died: OOPS or BUG",
    9: "the kernel warned",
    14: "a soft lockup occurred",
}
"""Bits that the kernel sets for a fault."""


def alarming(taint: int) -> int:
    """Return the bits that report a fault, unknown bits included."""
    return taint & ~sum(1 << bit for bit in HARMLESS)


def meaning(taint: int) -> str:
    """Describe the bits of a taint word."""
    known = HARMLESS | SICK
    return ", ".join(known.get(bit, f"flag {bit}") for bit in range(taint.bit_length()) if taint >> bit & 1)
