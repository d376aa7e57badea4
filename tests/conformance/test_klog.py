# SPDX-License-Identifier: GPL-2.0-only
"""A sick kernel's report is found in its log; a healthy kernel's chatter is not."""

from __future__ import annotations

import pytest

from conformance.klog import find_splat


@pytest.mark.parametrize(
    ("line", "title"),
    [
        (
            "WARNING: CPU: 1 PID: 812 at net/core/sock_map.c:1663 sock_map_close+0x17c/0x190",
            "WARNING: at net/core/sock_map.c: sock_map_close",
        ),
        ("BUG: kernel NULL pointer dereference, address: 0000000000000008", "BUG: kernel NULL pointer dereference"),
        ("[   12.345678] BUG: KASAN: slab-use-after-free in sk_psock_backlog+0x5d/0x3a0", "BUG: KASAN: slab-use-after"),
        ("watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [kworker/0:1:12]", "watchdog: BUG: soft lockup"),
        ("INFO: task python3:77 blocked for more than 120 seconds.", "INFO: task python"),
        ("refcount_t: underflow; use-after-free.", "refcount_t: underflow"),
        ("Kernel panic - not syncing: Fatal exception", "Kernel panic - not syncing: Fatal exception"),
    ],
)
def test_a_report_is_found(line: str, title: str) -> None:
    """The header of each family is recognised, without its numbers and addresses."""
    found = find_splat(["eth0: link up", line])

    assert found is not None
    assert found.startswith(title)


@pytest.mark.parametrize(
    "line",
    [
        "NET: Registered PF_VSOCK protocol family",
        "systemd[1]: Started debug shell, see WARNING: in manual",
        "x86/mm: Checking user space page tables",
        "python3[45]: segfault at 0 ip 0000 sp 0000 error 4",
        "TCP: request_sock_TCP: Possible SYN flooding on port 1. Sending cookies.",
    ],
)
def test_chatter_is_no_report(line: str) -> None:
    """A line that merely mentions trouble, or speaks of something else, is not one."""
    assert find_splat([line]) is None
