# SPDX-License-Identifier: GPL-2.0-only
"""The forms of a message: the system calls that send it, and the number of its scatterlist elements.

sendmsg(2) copies its buffers into the page fragment of the thread, so a short message is one element, whatever the
number of buffers. To get several elements the program corks, and the sender calls send(2) several times. Two send(2)
calls in a row would still fill one element, because their bytes are adjacent in the page fragment. So the sender also
sends a byte on another socket between them.
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
"""The most elements of a message: MAX_MSG_FRAGS with pages of 4 KiB."""
LARGE: Final = random.Random(1).randbytes(1 << 16)
"""64 KiB, more than one element can hold: a page fragment has 32 KiB. No sequence of eight bytes occurs twice."""
Send = Callable[[bytes], str]


class Sending:
    """The socket to send on, a second socket that keeps elements apart, and files to send from."""

    def __init__(self, owned: Fixture, through: socket.socket) -> None:
        self._owned, self._through = owned, through
        self._other: socket.socket | None = None
        self._file = -1

    def form(self, name: str) -> tuple[bytes, list[str]]:
        """Send a message in one of `FORMS`; return the message that the program changes, and the calls' answers."""
        return FORMS[name](self)

    def one(self, message: bytes = SHORT) -> tuple[bytes, list[str]]:
        """Send by one send(2) call."""
        return message, [traffic.send(self._through, message)]

    def vector(self) -> tuple[bytes, list[str]]:
        """Send three buffers by one sendmsg(2) call."""
        count = outcome(self._through.sendmsg, list(_pieces(SHORT)), [], socket.MSG_DONTWAIT)
        return SHORT, [_amount(count, len(SHORT))]

    def apart(self) -> tuple[bytes, list[str]]:
        """Send three pieces by a send(2) each. The program corks them into a message of three elements."""
        return SHORT, self._separately(traffic.send, _pieces(SHORT))

    def file(self, way: str = "sendfile") -> tuple[bytes, list[str]]:
        """Send a file by sendfile(2), or by splice(2) through a pipe."""
        self._file = self._sealed(SHORT)
        if way == "sendfile":
            return SHORT, [self._from_file(0, len(SHORT))]
        return SHORT, [self._by_splice(len(SHORT))]

    def file_apart(self) -> tuple[bytes, list[str]]:
        """Send three parts of a file by a sendfile(2) each. The program corks them into a message of three elements."""
        self._file = self._sealed(SHORT)
        sent = []
        for offset in range(0, len(SHORT), PIECE):
            self._separate()
            sent.append(self._from_file(offset, PIECE))
        return SHORT, sent

    def full(self) -> tuple[bytes, list[str]]:
        """Send as many pieces as a message can hold. The program corks them until the last one."""
        return LETTERS[:FULL], self.singly(FULL)

    def full_wide(self) -> tuple[bytes, list[str]]:
        """Do the same, with four bytes in the first piece."""
        first, rest = LETTERS[:PIECE], LETTERS[PIECE : PIECE + FULL - 1]
        return first + rest, self._separately(traffic.send, [first, *(bytes([letter]) for letter in rest)])

    def singly(self, count: int) -> list[str]:
        """Send `count` letters by a send(2) each, as separate elements."""
        return self._separately(traffic.send, [bytes([letter]) for letter in LETTERS[:count]])

    def large(self) -> tuple[bytes, list[str]]:
        """Send 64 KiB by one send(2) call."""
        return self.one(LARGE)

    def file_now(self) -> bytes:
        """Read the file."""
        return os.pread(self._file, len(SHORT) + 1, 0)

    def _separately(self, send: Callable[[socket.socket, bytes], str], pieces: Sequence[bytes]) -> list[str]:
        sent = []
        for piece in pieces:
            self._separate()
            sent.append(send(self._through, piece))
        return sent

    def _separate(self) -> None:
        """Use up some bytes of the thread's page fragment."""
        if self._other is None:
            self._other = self._owned.pair("tcp4")[0]
        self._other.send(b".", socket.MSG_DONTWAIT)

    def _sealed(self, content: bytes) -> int:
        """Return a file whose seals forbid every change."""
        descriptor = self._owned.keep(os.memfd_create("sealed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
        os.write(descriptor, content)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        return descriptor

    def _from_file(self, offset: int, count: int) -> str:
        return _amount(outcome(os.sendfile, self._through.fileno(), self._file, offset, count), count)

    def _by_splice(self, count: int) -> str:
        reader, writer = os.pipe()
        self._owned.keep(reader)
        self._owned.keep(writer)
        os.splice(self._file, writer, count, 0)
        return _amount(outcome(os.splice, reader, self._through.fileno(), count), count)


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
"""How many bytes the program corks, so that all calls of a form send one message."""


def turns(form: str, wanted: int) -> tuple[Turn, ...]:
    """Return the turns of a program that carries out `wanted` operations on the whole message.

    In the run that changes the message, the program resets its cork bytes to 0. Otherwise they would also hold for the
    rest of the message and for later messages.
    """
    corked = CORKED.get(form)
    change = Turn(operations=wanted, cork=UNCALLED if corked is None else 0)
    return (change, Turn()) if corked is None else (Turn(cork=corked), change)


def sent(answers: Sequence[str]) -> str:
    """Join the answers of all calls; `"ok"` if each call sent every byte."""
    return "ok" if set(answers) == {"ok"} else ", ".join(answers)


def _pieces(message: bytes) -> Sequence[bytes]:
    return [message[offset : offset + PIECE] for offset in range(0, len(message), PIECE)]


def _amount(count: int | str, wanted: int) -> str:
    return count if isinstance(count, str) else "ok" if count == wanted else f"{count} of {wanted}"
