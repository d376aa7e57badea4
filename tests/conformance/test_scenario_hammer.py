# SPDX-License-Identifier: GPL-2.0-only
"""The hammer's threads, on sockets that are in no map: the running kernel must not be stressed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bpf.privilege import needs_bpf
from tests.conformance.scenario_host import ask, open_host
from vm.session import Session

pytestmark = needs_bpf

CODE = """
import ctypes
import errno
import fcntl
import mmap
import os
import random
import socket
import struct
import threading
import time

from conformance.groups.hammer.guest import scenario as hammer
from conformance.guestlib import map_pair
from conformance.guestlib import sockets
from conformance.guestlib import ways_out

hammer._PATIENCE = 0.3

class Setup:
    kind = "unix_dgram"

    def __init__(self):
        self.ends = [*sockets.pair("unix_dgram"), *sockets.pair("unix_dgram")]
        self.maps = self

    def order(self, *arguments):
        pass

def draw(seed, number):
    rng = random.Random(f"{seed} {number}")
    rng.choice([0])
    return rng.random()

def hang(turn, reader):
    with turn:
        os.read(reader, 1)

class Reused(socket.socket):
    def fileno(self):
        return self.number

def duplicate(arguments):
    # As if another thread had closed the socket and opened something else.
    with Reused() as one:
        one.number, other = os.pipe()
        before = os.listdir("/proc/self/fd")
        try:
            ways_out.duplicate(one)
        except OSError as error:
            return [errno.errorcode[error.errno], os.listdir("/proc/self/fd") == before]
        finally:
            os.close(one.number)
            os.close(other)

LIBC = ctypes.CDLL(None)
USERFAULTFD = 323 if os.uname().machine == "x86_64" else 282
UFFDIO_API, UFFDIO_REGISTER, UFFD_API, MISSING = 0xC018AA3F, 0xC020AA00, 0xAA, 1

def hold(one):
    # A send holds its socket while it copies: from a page that only the closing of the descriptor fills.
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    faults = LIBC.syscall(USERFAULTFD, os.O_CLOEXEC)
    fcntl.ioctl(faults, UFFDIO_API, struct.pack("=QQQ", UFFD_API, 0, 0))
    fcntl.ioctl(faults, UFFDIO_REGISTER, struct.pack("=QQQQ", address, mmap.PAGESIZE, MISSING, 0))
    return memory, faults, start(LIBC.send, one.fileno(), ctypes.c_void_p(address), 100, 0)

def start(*action):
    thread = threading.Thread(target=action[0], args=action[1:])
    thread.start()
    return thread

def wait_until(what):
    end = time.monotonic() + 30
    while not what():
        assert time.monotonic() < end
        time.sleep(0.001)

def held(arguments):
    ours, peer = sockets.pair("tcp4")
    memory, faults, sender = hold(peer)
    wait_until(lambda: hammer._whereabouts(sender) == "stuck in handle_userfault")
    ways_out.duplicate(peer).close()
    resetter = start(ways_out.WAYS["peer_reset"], map_pair.Member(Setup(), ours, peer))
    wait_until(lambda: hammer._whereabouts(resetter) == "stuck in __lock_sock")
    os.close(faults)
    sender.join()
    resetter.join()
    try:
        return [len(ours.recv(200)), ours.recv(200).decode()]
    except OSError as error:
        return errno.errorcode[error.errno]

def culprits(arguments):
    return hammer._culprits(arguments["stuck"])

def run(arguments):
    draws, seed = [], arguments["seed"]
    stress = hammer.Stress([Setup()], seed)
    reader, writer = os.pipe()
    actions = {
        "": lambda setup, rng: (draws.append(rng.random()), time.sleep(0.001)),
        "raise": lambda setup, rng: 1 / 0,
        "hang": lambda setup, rng: os.read(reader, 1),
        "hang in turn": lambda setup, rng: hang(stress._turn, reader),
        "close": lambda setup, rng: (setup.ends[0].close(), time.sleep(0.001)),
    }
    stress._break = actions[arguments["action"]]
    came = stress.run(0.2)
    os.write(writer, b"xxxx")
    return [came, stress.received > 0, [draw(seed, number) in draws for number in (0, 1, 7)]]
"""


@pytest.fixture(scope="module")
def host() -> Iterator[Session]:
    """The host with the hammer loaded."""
    with open_host(CODE) as session:
        yield session


@pytest.mark.parametrize(
    ("action", "came", "received"),
    [("", "ended", True), ("close", "ended", False), ("raise", "raised ZeroDivisionError('division by zero')", True)],
)
def test_the_end_of_each_thread_is_reported(host: Session, action: str, came: str, *, received: bool) -> None:
    """A thread may find its sockets closed by others; any other error of a thread is reported."""
    answer, flowed, _ = ask(host, "run", action=action, seed="3")

    assert answer == came
    assert flowed or not received


def test_a_thread_that_is_stuck_is_named_by_where(host: Session) -> None:
    """A thread that does not end is reported with its kernel stack."""
    assert "stuck" in ask(host, "run", action="hang", seed="3")[0]


def test_a_thread_that_waits_for_a_stuck_one_is_not_named(host: Session) -> None:
    """Two threads are stuck, one of them only waits for its turn: the other is reported."""
    answer = ask(host, "run", action="hang in turn", seed="3")[0]

    assert answer.count("stuck") == 1
    assert "futex" not in answer


@pytest.mark.parametrize(
    ("stuck", "named"),
    [
        (["stuck running", "stuck in __lock_sock"], ["stuck running"]),
        (["stuck in __lock_sock", "stuck in futex_do_wait"], ["stuck in __lock_sock"]),
        (["stuck in futex_do_wait"], ["stuck in futex_do_wait"]),
        ([], []),
    ],
)
def test_a_thread_that_blocks_the_others_is_named_alone(host: Session, stuck: list[str], named: list[str]) -> None:
    """A thread that never blocks may hold what the others wait for."""
    assert ask(host, "culprits", stuck=stuck) == named


def test_a_number_that_is_no_socket_any_more_is_not_kept(host: Session) -> None:
    """What another thread opened under a socket's number is not left behind as a duplicate, as dup() would."""
    assert ask(host, "duplicate") == ["ENOTSOCK", True]


def test_a_thread_that_waits_for_a_socket_lets_the_others_run(host: Session) -> None:
    """A thread waits outside of Python's lock for a socket that another thread uses in the kernel."""
    assert ask(host, "held") == "ECONNRESET"


def test_each_thread_draws_by_the_seed(host: Session) -> None:
    """The same seed gives the same choices, different ones for each thread."""
    assert ask(host, "run", action="", seed="12")[2] == [True, True, False]
