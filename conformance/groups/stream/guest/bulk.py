# SPDX-License-Identifier: GPL-2.0-only
"""Send hundreds of KiB through small buffers to a reader that reads 8 KiB at a time."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Mapping
from typing import Final

from conformance.groups.stream.guest.messages import message
from conformance.groups.stream.guest.setup import TARGET, Say, StreamSetup
from conformance.guestlib import sockets
from conformance.guestlib.answers import outcome

_CHUNK: Final = 1 << 14
"""Bytes of a send(2)."""
_READ: Final = 1 << 13
"""Bytes of a recv(2)."""
_BUFFER: Final = 1 << 14
"""Bytes of SO_SNDBUF and SO_RCVBUF, which the kernel doubles."""
_TCP_BUFFER: Final = 1 << 17
"""The same for TCP: with room for less than one segment of the loopback, TCP sends only when its timers expire."""
_STUCK: Final = 2.0
"""Seconds without a sent or received byte after which the transfer has stopped; TCP's timers have run by then.

Each byte restarts them, and complete data ends the wait. Only a kernel that stalls waits for all of them: that no byte
moves within this time is then the answer.
"""
_WAIT: Final = 5
"""Milliseconds that poll(2) waits for the reader before the sender tries again."""


def bulk(case: StreamSetup, params: Mapping[str, str]) -> None:
    """Send all data while a slow reader reads."""
    redirects = params["layout"] != "pass"
    if redirects:
        case.pair("target", params["target"])
    for one in case.ends.values():
        size = _TCP_BUFFER if one.family in (socket.AF_INET, socket.AF_INET6) else _BUFFER
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            one.setsockopt(socket.SOL_SOCKET, option, size)
    case.make_maps()
    if redirects and not case.insert_targets({"target": TARGET}):
        return
    if not case.insert_sources("source"):
        return
    case.say(Say.HELPER if redirects else Say.PASS, mode=params["mode"])
    reader = case.receives if not redirects else "target" if params["mode"] == "local" else "target_peer"
    data = message(int(params["size"]) << 10)
    received = _Transfer(case, data, reader).run()
    case.steps["received"] = _compared(data, received)
    case.steps["error"] = _errors(case)


class _Transfer:
    """One transfer: the data, the sender and the reader."""

    def __init__(self, case: StreamSetup, data: bytes, reader: str) -> None:
        self._case, self._data = case, memoryview(data)
        self._through, self._reader = case.ends[case.sends], case.ends[reader]
        self._sent, self._received = 0, bytearray()
        self._holds = reader == "target"

    def run(self) -> bytes:
        """Send and receive until all data has arrived or the transfer has stopped; return the received bytes."""
        ready = select.poll()
        ready.register(self._reader, select.POLLIN)
        moved = time.monotonic()
        self._send()
        self._case.settle()
        if self._holds:
            # On a busy host a fence may return before the kernel's worker has queued the first message.
            ready.poll(_STUCK * 1e3)
            counted = sockets.memory_of(self._reader)[0] > 0
            self._case.steps["rmem"] = "yes" if counted else "no"
        while len(self._received) < len(self._data):
            if self._receive() + self._send():
                moved = time.monotonic()
            elif time.monotonic() - moved > _STUCK:
                break
            else:
                ready.poll(_WAIT)
        return bytes(self._received)

    def _send(self) -> int:
        """Send until send(2) would block; return the number of sent bytes."""
        before = self._sent
        while self._sent < len(self._data):
            chunk = self._data[self._sent : self._sent + _CHUNK]
            taken = outcome(self._through.send, chunk, socket.MSG_DONTWAIT)
            if isinstance(taken, str):
                if taken != "EAGAIN":
                    self._case.steps["send"] = taken
                break
            self._sent += taken
        return self._sent - before

    def _receive(self) -> int:
        """Call recv(2) once; return the number of received bytes."""
        found = outcome(self._reader.recv, _READ, socket.MSG_DONTWAIT)
        if isinstance(found, str):
            if found != "EAGAIN":
                self._case.steps["read"] = found
            return 0
        self._received += found
        return len(found)


def _compared(data: bytes, received: bytes) -> str:
    """Say whether all data was received, once and in order."""
    if received == data:
        return "whole"
    if data.startswith(received):
        return "the beginning" if received else "nothing"
    return "something else"


def _errors(case: StreamSetup) -> str:
    found = {one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) for one in case.ends.values()}
    return "ok" if found == {0} else "pending"
