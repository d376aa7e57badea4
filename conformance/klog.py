# SPDX-License-Identifier: GPL-2.0-only
"""Find the report of a sick kernel in a window of its log."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Headers the kernel prints at the start of a report, by family. Anchored after the optional CPU/task prefix so that
# a message which merely quotes one of them does not count.
_HEADERS = re.compile(
    r"^(?:\[[ 0-9.]+\]\s*)?(?:\[[ CT]\d+\]\s*)?"
    r"(BUG: .+|WARNING: .+|Oops: .+|Oops\b.*|general protection fault.*|KASAN: .+|UBSAN: .+"
    r"|INFO: task .+ blocked for more than.*|INFO: rcu\w* .*(?:stall|detected).*|rcu: INFO: .*stall.*"
    r"|watchdog: BUG: .+|NMI watchdog: .+|INFO: possible (?:recursive|circular|irq) .+"
    r"|refcount_t: .+|list_(?:add|del) corruption.*|kernel BUG at .+|Kernel panic.*"
    r"|IPv[46]: Attempt to release .+|unregister_netdevice: waiting for .+|kmemleak: \d+ new .+"
    r"|ref_tracker: .+|divide error.*|invalid opcode.*|stack segment.*|double fault.*)$"
)
_NOISE = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{8,}\b|\+0x\w+/0x\w+|\b(?:CPU|PID):? ?#?\d+|\bat \d+s!?|\b\d+\b")


def find_splat(lines: Iterable[str]) -> str | None:
    """Return the first report's title, with addresses and numbers stripped, or None for a healthy log."""
    for line in lines:
        match = _HEADERS.match(line.strip())
        if match:
            return re.sub(r"\s+", " ", _NOISE.sub("", match.group(1))).strip()
    return None
