# SPDX-License-Identifier: GPL-2.0-only
"""Guest code that makes a kernel fail, one function for each way; see test_sick_kernels.py."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import select
import socket
import struct
import threading
from pathlib import Path
from typing import Any

from bpf.guest import assemble as asm
from bpf.guest import syscall
from bpf.guest.contexts import CONTEXTS
from conformance.groups.attach.guest import effect as attach_effect

PROG_TEST_RUN = 10
LOOKUP, UPDATE, CLOCK = 1, 2, 5
"""Helpers: bpf_map_lookup_elem, bpf_map_update_elem, bpf_ktime_get_ns."""

COPY = 2 << 20
COPIES = 2
ROUNDS = 8000
"""A bound for the verifier, which follows at most 8192 jumps; the clock ends the loop."""

FLOOD = 12000
LINE = 800
"""Bytes of a line; with the number of lines, twice the size of `log_buf_len=4M`."""

SYS_USERFAULTFD = 323
SYS_PIDFD_GETFD = 438
UFFDIO_API = 0xC018AA3F
UFFDIO_REGISTER = 0xC020AA00
UFFD_API = 0xAA
MISSING = 1
PAGE = mmap.PAGESIZE


def address_of(arguments: dict[str, Any]) -> int:
    """Return the address of a symbol of the kernel."""
    for line in Path("/proc/kallsyms").read_text().splitlines():
        address, _, name = line.split()[:3]
        if name == arguments["name"]:
            return int(address, 16)
    raise LookupError(arguments["name"])


def taint(arguments: dict[str, Any]) -> None:
    """Set a flag in the taint word."""
    Path("/proc/sys/kernel/tainted").write_text(arguments["word"])


def lock_up(arguments: dict[str, Any]) -> None:
    """Loop in a BPF program, which is not preempted, for longer than the watchdog allows."""
    Path("/proc/sys/kernel/watchdog_thresh").write_text("1")  # a soft lockup is twice that
    array = syscall.create_map(syscall.MAP_TYPES["array"], 4, COPY, 2)
    key = asm.move(asm.R2, asm.STACK) + asm.add(asm.R2, -8)
    copy = asm.put_map(asm.R1, array) + key + asm.move(asm.R3, asm.R7) + asm.put(asm.R4, 0) + asm.call(UPDATE)
    again = copy * COPIES
    # Until 2**30 ns have passed five times since R8, or ROUNDS are over: the watchdog looks every 0.4 s, and counts in
    # whole units of 2**30 ns, so that three times are not always enough for more than two.
    again += asm.call(CLOCK) + _op(0x1F, asm.R0, asm.R8) + _op(0x77, asm.R0, immediate=30)
    again += _op(0x25, asm.R0, offset=2, immediate=4) + asm.add(asm.R6, -1)
    again += _op(0x55, asm.R6, offset=-(len(again) // 8 + 1))
    body = asm.move(asm.R7, asm.R0) + asm.call(CLOCK) + asm.move(asm.R8, asm.R0) + asm.put(asm.R6, ROUNDS)
    body += asm.store(asm.STACK, -8, 1) + again
    code = asm.store(asm.STACK, -8, 0) + asm.put_map(asm.R1, array) + key + asm.call(LOOKUP)
    code += asm.unless_zero(asm.R0, body) + asm.put(asm.R0, 0) + asm.EXIT
    program = asm.load_program(CONTEXTS["socket_filter"], code)
    packet = ctypes.create_string_buffer(64)
    run = struct.pack("=IIIIQQ40x", program, 0, len(packet), 0, ctypes.addressof(packet), 0)
    syscall.call(PROG_TEST_RUN, bytearray(run))


def warn(arguments: dict[str, Any]) -> None:
    """Run a combination that makes the kernel warn later (KERNEL_WARNS, groups/attach/cases.py)."""
    attach_effect.leave({"attach": "sk_skb_stream_parser", "kind": "tcp4", "map": "sockmap", "way": "detached"})
    _await(b"WARNING: ")


def block(arguments: dict[str, Any]) -> None:
    """Insert a socket whose lock is held by a sender that waits for a page fault that is never served."""
    Path("/proc/sys/kernel/hung_task_timeout_secs").write_text("1")
    page = mmap.mmap(-1, PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    faults = _withhold(page)
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    sender = threading.Thread(target=client.send, args=(page,))
    sender.start()
    select.select([faults], [], [])  # now the sender waits, with the socket locked
    rescuer = threading.Thread(target=_let_go, args=(faults,))
    rescuer.start()
    sockmap = syscall.create_map(syscall.MAP_TYPES["sockmap"], 4, 4, 1)
    syscall.update(sockmap, 0, client.fileno())
    sender.join()
    rescuer.join()


def flood(arguments: dict[str, Any]) -> None:
    """Log more than fits in the kernel's buffer."""
    with Path("/dev/kmsg").open("w", buffering=1) as log:
        log.writelines(f"<6>{'x' * LINE}\n" for _ in range(FLOOD))


def send_garbage(arguments: dict[str, Any]) -> None:
    """Send bytes on the agent's channel that are not frames."""
    agent = os.getppid()
    links = {number: os.readlink(f"/proc/{agent}/fd/{number}") for number in os.listdir(f"/proc/{agent}/fd")}
    port = next(int(number) for number, link in links.items() if "vport" in link)
    stolen = ctypes.CDLL(None).syscall(SYS_PIDFD_GETFD, os.pidfd_open(agent), port, 0)
    noise = memoryview(os.urandom(arguments["bytes"]))
    while noise:
        noise = noise[os.write(stolen, noise) :]


def _withhold(page: mmap.mmap) -> int:
    """Block page faults on this page until the returned descriptor is closed."""
    faults = ctypes.CDLL(None).syscall(SYS_USERFAULTFD, os.O_CLOEXEC)
    fcntl.ioctl(faults, UFFDIO_API, struct.pack("=QQQ", UFFD_API, 0, 0))
    start = ctypes.addressof(ctypes.c_char.from_buffer(page))
    fcntl.ioctl(faults, UFFDIO_REGISTER, struct.pack("=QQQQ", start, PAGE, MISSING, 0))
    return int(faults)


def _let_go(faults: int) -> None:
    """End the wait once the kernel has reported it."""
    _await(b"blocked for more than")
    os.close(faults)


def _await(words: bytes) -> None:
    with open("/dev/kmsg", "rb", buffering=0) as log:
        while words not in log.read(8192):
            pass


def _op(code: int, to: int, source: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("=BBhi", code, source << 4 | to, offset, immediate)
