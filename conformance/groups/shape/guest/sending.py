# SPDX-License-Identifier: GPL-2.0-only
"""The ways a message gets into a socket: with which system calls, and in how many elements of its scatterlist.

sendmsg(2) copies what it is given into the page fragment of the thread, so that one element has all of a short message,
however many vectors it came in. A program that corks makes several: each send(2) adds one, unless its bytes follow
those of the last in the page fragment. Bytes sent on another socket in between keep them apart.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
from collections.abc import Callable, Sequence
from typing import Final

from conformance.groups.shape.guest.ends import LETTERS
from conformance.groups.shape.guest.program import UNCALLED, Turn
from conformance.guestlib import traffic
from conformance.guestlib.answers import outcome
from conformance.guestlib.fixture import Fixture

SHORT: Final = LETTERS[:12]
PIECE: Final = 4
FULL: Final = 17
"""Elements that a message has at most: MAX_MSG_FRAGS with pages of 4 KiB."""
LARGE: Final = random.Random(1).randbytes(1 << 16)
"""64 KiB, which is more than an element can have: a page fragment has 32 KiB. No eight bytes occur twice."""
Send = Callable[[bytes], str]


class Sending:
    """A socket to send on, another that separates what is sent, and files to send from."""

    def __init__(self, owned: Fixture, through: socket.socket) -> None:
        self._owned, self._through = owned, through
        self._other: socket.socket | None = None
        self._file = -1

    def form(self, name: str) -> tuple[bytes, list[str]]:
        """Send a message in one of `FORMS`; returns the message that the program has to change, and the answers."""
        return FORMS[name](self)

    def one(self, message: bytes = SHORT) -> tuple[bytes, list[str]]:
        """Send by one send(2)."""
        return message, [traffic.send(self._through, message)]

    def vector(self) -> tuple[bytes, list[str]]:
        """Send three vectors by one sendmsg(2)."""
        count = outcome(self._through.sendmsg, list(_pieces(SHORT)), [], socket.MSG_DONTWAIT)
        return SHORT, [_told(count, len(SHORT))]

    def apart(self) -> tuple[bytes, list[str]]:
        """Send three pieces, each an element, which the program corks."""
        return SHORT, self._separately(traffic.send, _pieces(SHORT))

    def file(self, way: str = "sendfile") -> tuple[bytes, list[str]]:
        """Send all of a file by sendfile(2), or by splice(2) through a pipe."""
        self._file = self._sealed(SHORT)
        if way == "sendfile":
            return SHORT, [self._from_file(0, len(SHORT))]
        return SHORT, [self._by_splice(len(SHORT))]

    def file_apart(self) -> tuple[bytes, list[str]]:
        """Send three parts of a file by sendfile(2), each an element, which the program corks."""
        self._file = self._sealed(SHORT)
        sent = []
        for offset in range(0, len(SHORT), PIECE):
            self._separate()
            sent.append(self._from_file(offset, PIECE))
        return SHORT, sent

    def full(self) -> tuple[bytes, list[str]]:
        """Send as many pieces as a message can have; the program corks until the last."""
        return LETTERS[:FULL], self.singly(FULL)

    def full_wide(self) -> tuple[bytes, list[str]]:
        """Do the same with four letters in the first piece."""
        first, rest = LETTERS[:PIECE], LETTERS[PIECE : PIECE + FULL - 1]
        return first + rest, self._separately(traffic.send, [first, *(bytes([letter]) for letter in rest)])

    def singly(self, count: int) -> list[str]:
        """Send so many letters by a send(2) each, and keep them apart."""
        return self._separately(traffic.send, [bytes([letter]) for letter in LETTERS[:count]])

    def large(self) -> tuple[bytes, list[str]]:
        """Send 64 KiB by one send(2)."""
        return self.one(LARGE)

    def file_now(self) -> bytes:
        """Return what the file holds now."""
        return os.pread(self._file, len(SHORT) + 1, 0)

    def _separately(self, send: Callable[[socket.socket, bytes], str], pieces: Sequence[bytes]) -> list[str]:
        sent = []
        for piece in pieces:
            self._separate()
            sent.append(send(self._through, piece))
        return sent

    def _separate(self) -> None:
        """Use some of the thread's page fragment."""
        if self._other is None:
            self._other = self._owned.pair("tcp4")[0]
        self._other.send(b".", socket.MSG_DONTWAIT)

    def _sealed(self, content: bytes) -> int:
        """Return a file that nobody may change."""
        descriptor = self._owned.keep(os.memfd_create("sealed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
        os.write(descriptor, content)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        return descriptor

    def _from_file(self, offset: int, count: int) -> str:
        return _told(outcome(os.sendfile, self._through.fileno(), self._file, offset, count), count)

    def _by_splice(self, count: int) -> str:
        reader, writer = os.pipe()
        self._owned.keep(reader)
        self._owned.keep(writer)
        os.splice(self._file, writer, count, 0)
        return _told(outcome(os.splice, reader, self._through.fileno(), count), count)


FORMS: Final[dict[str, Callable[[Sending], tuple[bytes, list[str]]]]] = {
    "one": Sending.one,
    "vector": Sending.vector,
    "apart": Sending.apart,
    "file": Sending.file,
    "file-apart": Sending.file_apart,
    "full": Sending.full,
    "full-wide": Sending.full_wide,
    "large": Sending.large,
}
CORKED: Final = {"apart": len(SHORT), "file-apart": len(SHORT), "full": FULL, "full-wide": PIECE + FULL - 1}
"""Bytes that the program corks so that what is sent becomes one message."""


def turns(form: str, wanted: int) -> tuple[Turn, ...]:
    """Return what the program does so that it changes all of a message at once, by so many operations.

    It takes back what it said about corking, which else also holds for what is left and for later messages.
    """
    corked = CORKED.get(form)
    change = Turn(operations=wanted, cork=UNCALLED if corked is None else 0)
    return (change, Turn()) if corked is None else (Turn(cork=corked), change)


def sent(answers: Sequence[str]) -> str:
    """Say what all calls answered: `"ok"` if each took all it was given."""
    return "ok" if set(answers) == {"ok"} else ", ".join(answers)


def _pieces(message: bytes) -> Sequence[bytes]:
    return [message[offset : offset + PIECE] for offset in range(0, len(message), PIECE)]


def _told(count: int | str, wanted: int) -> str:
    return count if isinstance(count, str) else "ok" if count == wanted else f"{count} of {wanted}"
