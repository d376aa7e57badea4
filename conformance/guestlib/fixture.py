# SPDX-License-Identifier: GPL-2.0-only
"""What a case is made of: sockets, maps, programs and their orders, with one owner that closes them in the end."""

from __future__ import annotations

import errno
import fcntl
import importlib
import mmap
import os
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache, wraps
from types import TracebackType
from typing import Any

from bpf.guest import assemble as asm
from bpf.guest import hooks, links, maps, syscall
from bpf.guest.contexts import CONTEXTS, Context
from conformance.guestlib import sockets
from conformance.guestlib.answers import Steps, attempt, error_name, name_of, opens, outcome, wait_until

Scenario = Callable[[Mapping[str, str]], dict[str, Steps]]
WHEN_WRONG: list[Callable[[], object]] = []
"""Functions that discard what is kept from case to case: after a case that raised, its state is unknown."""
TYPES = syscall.ATTACH_TYPES
"""Number of each attach type."""
UNLIMITED = 1 << 62
_FREE = 900
"""Descriptors from here on are not in use."""

_STATE = struct.Struct("=IIq")
"""The part of `struct state` in bpf/programs/redirect.h that user space writes: key, flags, budget."""
_TALLIES = struct.Struct("=4Q")
"""The rest: runs and bytes with SK_PASS, runs and bytes with SK_DROP."""
_SK_PASS = 1
_FIELDS = ("cookie", "port", "remote", "family", "key", "flags", "spread", "wanted", "timeout", "callbacks", "refuse")
_ORDERS = struct.Struct("=Q10I")
_CALLBACKS = 32
_LENGTH = {"sk_msg": 68, "sk_skb": 0}
"""Offset of the data's length in the context of a program."""


class ImpossibleError(Exception):
    """The kernel lacks something that the case needs; the steps already say what."""


@contextmanager
def possible(steps: Steps, step: str = "available") -> Iterator[None]:
    """Do what all else needs, as to make sockets; ImpossibleError, and only this step, where it cannot be done."""
    try:
        yield
    except OSError as error:
        steps.clear()
        steps[step] = name_of(error)
        raise ImpossibleError from error


class Map(int):
    """The descriptor of a SOCKMAP or SOCKHASH with 4-byte keys and 8-byte values: only these tell cookies."""

    def insert(self, what: int | socket.socket, key: int = 0, flags: int = 0) -> str:
        """Insert a socket; `"ok"` or the errno."""
        descriptor = what if isinstance(what, int) else what.fileno()
        return attempt(syscall.update_wide, self, key, descriptor, flags)

    def delete(self, key: int = 0) -> str:
        """Delete an entry; `"ok"` or the errno."""
        return attempt(syscall.delete, self, key)

    def cookie(self, key: int = 0) -> bytes | str:
        """Return the cookie of the socket at a key, or the errno."""
        return outcome(syscall.lookup, self, key, 8)

    def following(self, key: int | None) -> int:
        """Return the key after one, or the first; OSError after the last."""
        found = maps.next_key(self, None if key is None else struct.pack("=I", key), 4)
        return int(struct.unpack("=I", found)[0])

    def __iter__(self) -> Iterator[int]:
        key = None
        with suppress(OSError):
            while True:
                key = self.following(key)
                yield key

    def whose(self, key: int | bytes, *ends: socket.socket | bytes) -> str:
        """Say whose cookie is at a key: `cookie`, of the only socket asked about, `cookie N`, or an errno."""
        found = outcome(maps.lookup, self, key, 8) if isinstance(key, bytes) else self.cookie(key)
        if isinstance(found, str):
            return found
        cookies = [end if isinstance(end, bytes) else sockets.cookie_of(end) for end in ends]
        if found not in cookies:
            return "another cookie"
        return f"cookie {cookies.index(found) + 1}" if len(ends) > 1 else "cookie"


class Fixture(ExitStack[bool | None]):
    """Owner of all that a case makes.

    Its sockets close in the order in which they were made: the peer of a socket that redirects would else send an end
    through the program, which puts the target into an error. Descriptors close last, so that freeing a map finds it
    empty.
    """

    def __init__(self) -> None:
        super().__init__()
        self._sockets: list[socket.socket] = []
        self._descriptors: list[int] = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        try:
            super().__exit__(kind, error, traceback)
        finally:
            for each in self._sockets:
                each.close()
            while self._descriptors:
                os.close(self._descriptors.pop())

    def own(self, one: socket.socket) -> socket.socket:
        """Have a socket closed in the end."""
        self._sockets.append(one)
        return one

    def keep(self, descriptor: int) -> int:
        """Have a descriptor closed in the end."""
        self._descriptors.append(descriptor)
        return descriptor

    def drop(self, descriptor: int) -> None:
        """Close a descriptor now."""
        self._descriptors.remove(descriptor)
        os.close(descriptor)

    def pair(self, kind: str) -> tuple[socket.socket, socket.socket]:
        """Return two sockets connected to each other."""
        ends = sockets.pair(kind)
        self._sockets += ends
        return ends

    def map(self, map_type: str, entries: int = 4) -> Map:
        """Create a SOCKMAP or SOCKHASH."""
        return Map(self.keep(syscall.create_map(syscall.MAP_TYPES[map_type], 4, 8, entries)))

    def pipe(self) -> int:
        """Return a descriptor that is neither a map nor a socket."""
        reader, writer = os.pipe()
        self.keep(writer)
        return self.keep(reader)

    def load(self, name: str, used: Mapping[str, int]) -> int:
        """Load one of `PROGRAMS` with these maps."""
        return self.keep(get_program(name).load(used))


def closed() -> int:
    """Return a number that is not a descriptor, nor soon will be."""
    descriptor: int = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, _FREE)
    os.close(descriptor)
    return descriptor


def scenario(fill_in: Callable[[Fixture, Mapping[str, str], Steps], None]) -> Scenario:
    """Make a scenario of a function that fills in the steps of a case; all that its fixture owns is closed then."""

    @wraps(fill_in)
    def run(params: Mapping[str, str]) -> dict[str, Steps]:
        steps: Steps = {}
        try:
            with suppress(ImpossibleError), Fixture() as fixture:
                fill_in(fixture, params, steps)
        except BaseException:
            for discard in WHEN_WRONG:
                discard()
            raise
        return {"steps": steps}

    return run


class State:
    """What the programs of bpf/programs/redirect.h read from a map as orders, and what they count."""

    def __init__(self, fixture: Fixture, *, key: int = 0, flags: int = 0, budget: int = UNLIMITED) -> None:
        self._fixture = fixture
        self.map = fixture.keep(syscall.create_map(*get_program("sk_skb_redirect_map").maps["state"]))
        self._memory = fixture.enter_context(mmap.mmap(self.map, mmap.PAGESIZE))
        self.order(key, flags, budget)

    def load(self, family: str, map_type: str, targets: int) -> int:
        """Load a program, `skb` or `msg`, that redirects to a map as this state says."""
        name = f"sk_{family}_redirect_{map_type.removeprefix('sock')}"
        return self._fixture.load(name, {"state": self.map, "targets": targets})

    def order(self, key: int, flags: int, budget: int) -> None:
        """Have so many bytes redirected to the socket at a key, and the others passed."""
        _STATE.pack_into(self._memory, 0, key, flags, budget)

    def allow(self, budget: int) -> None:
        """Let so many more bytes be redirected; the programs answer SK_PASS to the rest."""
        struct.pack_into("=q", self._memory, _STATE.size - 8, budget)

    def tallies(self) -> tuple[int, int, int, int]:
        """Return since the beginning: runs and bytes with SK_PASS, runs and bytes with SK_DROP."""
        pass_runs, pass_bytes, drop_runs, drop_bytes = _TALLIES.unpack_from(self._memory, _STATE.size)
        return pass_runs, pass_bytes, drop_runs, drop_bytes


class Orders:
    """One loaded program of bpf/programs/enrol.h and its orders, which a fixture owns.

    What it is attached to may hold it longer.
    """

    def __init__(self, fixture: Fixture, program: str, hook: str, used: Mapping[str, int]) -> None:
        """Load `program` for `hook`, a name from `CONTEXTS`; maps not `used` are made."""
        definition = _definitions()[program]
        shapes = {name: shape for name, shape in definition["maps"].items() if name not in used}
        made = {name: fixture.keep(syscall.create_map(*shape)) for name, shape in shapes.items()}
        self.program = fixture.keep(hooks.load(definition, CONTEXTS[hook], {**used, **made}))
        self._orders = fixture.enter_context(mmap.mmap(made["orders"], mmap.PAGESIZE))
        self._given = dict.fromkeys(_FIELDS, 0)

    def give(self, **fields: int) -> None:
        """Change orders; see `struct orders`."""
        self._given |= fields
        _ORDERS.pack_into(self._orders, 0, *self._given.values())

    def calls(self, callback: int = 0) -> int:
        """Return how often the program carried out its orders."""
        return int(struct.unpack_from("=I", self._orders, _ORDERS.size + 4 * callback)[0])

    def answer(self, callback: int = 0) -> str:
        """Return what the kernel last said to it, `"ok"` or errno; `"not called"` if it never came to that."""
        if not self.calls(callback):
            return "not called"
        value = struct.unpack_from("=i", self._orders, _ORDERS.size + 4 * (_CALLBACKS + callback))[0]
        return error_name(-value)


def attach(target: int, program: int, attach_type: str = "sk_skb_verdict") -> str:
    """Attach a program by the name this kernel has for it, and return that name."""
    try:
        syscall.attach(target, program, attach_type)
    except OSError:
        if attach_type != "sk_skb_verdict":
            raise
        # a7ba4558e69a ("sock_map: Introduce BPF_SK_SKB_VERDICT"), 5.13: before, it goes by the other name.
        attach_type = "sk_skb_stream_verdict"
        syscall.attach(target, program, attach_type)
    return attach_type


@cache
def get_program(name: str) -> syscall.Program:
    """Return one of `PROGRAMS`, read once in a process."""
    return syscall.Program(_definitions()[name])


def _definitions() -> Any:
    # In the guest only: tests without one read the tables of scenarios that come here.
    from bpf.guest.programs import PROGRAMS

    return PROGRAMS


@dataclass(frozen=True)
class Counting:
    """A loaded program that counts its runs, and lets everything pass: whether data arrives does not depend on it."""

    descriptor: int
    id: int
    _counter: int

    def runs(self) -> int:
        """Return how often it has run."""
        return int(struct.unpack("=Q", syscall.lookup(self._counter, 0, 8))[0])


@cache
def counting(
    attach_type: str, which: str, *, declared: bool = False, before: bytes = b"", answer: int = _SK_PASS
) -> Counting:
    """Return the program of an attach type that is called `which`, loaded once in a process.

    `declared`: it is loaded for the attach type and nothing else. `before` is code for it to run first, with its
    context in R6. `answer` is SK_PASS or SK_DROP.
    """
    kind = family(attach_type)
    counter = syscall.create_map(syscall.MAP_TYPES["array"], 4, 8, 1)
    count = asm.put_map_value(asm.R2, counter) + asm.put(asm.R1, 1) + asm.count(asm.R2, 0)
    # A parser returns the length of the message: all there is.
    parses = attach_type == "sk_skb_stream_parser"
    verdict = asm.load_word(asm.R0, asm.R6, _LENGTH[kind]) if parses else asm.put(asm.R0, answer)
    context = Context(CONTEXTS[kind].type, TYPES[attach_type] if declared else 0)
    descriptor = asm.load_program(context, asm.move(asm.R6, asm.R1) + count + before + verdict + asm.EXIT)
    return Counting(descriptor, links.program_id(descriptor), counter)


def family(attach_type: str) -> str:
    """Return the kind of program, by name in `CONTEXTS`, that goes with an attach type."""
    return attach_type[: len("sk_msg")]


def reap(seconds: float = 4.0) -> None:
    """Wait until every psock dropped so far has been destroyed; OSError ETIMEDOUT when that does not come to pass.

    Destruction comes after a grace period, from a work queue, in order: a psock dropped now goes last, and the only
    program it holds goes with it.
    """
    with Fixture() as fixture:
        last = fixture.keep(asm.load_program(CONTEXTS["sk_msg"], asm.put(asm.R0, _SK_PASS) + asm.EXIT))
        target = fixture.map("sockmap", 1)
        syscall.attach(target, last, "sk_msg_verdict")
        target.insert(fixture.pair("tcp4")[0])
        syscall.detach(target, last, "sk_msg_verdict")
        identity = links.program_id(last)
    if not wait_until(lambda: opens(links.program_by_id, identity) == "ENOENT", seconds):
        raise OSError(errno.ETIMEDOUT, "a psock is not destroyed")


def warm_up(arguments: Mapping[str, Any]) -> dict[str, int]:
    """Carry out `cases`, each a scenario and its parameters, so that what they use is at hand; tells how many could be.

    Without any, load every program there is here and look up what is loaded by BTF id.
    """
    done = 0
    for place, params in arguments["cases"]:
        module, _, name = place.partition(":")
        # What this kernel lacks, the cases will tell.
        with suppress(Exception):
            getattr(importlib.import_module(module), name)(params)
            done += 1
    for context in () if arguments["cases"] else CONTEXTS.values():
        with suppress(LookupError, OSError):
            os.close(asm.load_program(context, asm.put(asm.R0, context.answer) + asm.EXIT))
            done += 1
    for attach_type in TYPES:
        for which in ("first", "second"):
            counting(attach_type, which)
    return {"done": done}
