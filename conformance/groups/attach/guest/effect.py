# SPDX-License-Identifier: GPL-2.0-only
"""See which program a socket runs: the one its map held when it was put in, whatever the map holds now.

Each function is a scenario for one `kind` of socket; where this kernel cannot make one, `socket` is all there is.
Answers are `"ok"` or an errno; of data sent past the socket `first` or `second`, the program that ran, or `native` if
none did, and `nothing` if it did not arrive.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import ExitStack
from contextlib import suppress
from functools import wraps

from bpf.guest import links
from bpf.guest import syscall
from conformance.guestlib import kit
from conformance.guestlib import sockets
from conformance.guestlib.answers import attempt
from conformance.guestlib.answers import error_name
from conformance.guestlib.kit import Steps
from conformance.guestlib.kit import make_map
from conformance.guestlib.kit import program
from conformance.guestlib.quiesce import fences

SETS: dict[str, tuple[str, ...]] = {
    "none": (),
    "msg": ("sk_msg_verdict",),
    "parser": ("sk_skb_stream_parser",),
    "stream_verdict": ("sk_skb_stream_verdict",),
    "verdict": ("sk_skb_verdict",),
    "parser_stream_verdict": ("sk_skb_stream_parser", "sk_skb_stream_verdict"),
    "parser_verdict": ("sk_skb_stream_parser", "sk_skb_verdict"),
    "msg_verdict": ("sk_msg_verdict", "sk_skb_verdict"),
}
"""What a map may hold."""
_BESIDE = {"sk_skb_stream_parser": ("sk_skb_stream_verdict",)}
"""What must be held, too, for a program to run."""

_PATIENCE = 2.0
"""Seconds after which data will not come any more."""


class _CannotError(Exception):
    """A step that all others need did not succeed."""

    def __init__(self, step: str, error: OSError) -> None:
        super().__init__(step)
        self.steps = {step: error_name(error.errno or errno.ETIMEDOUT)}


def _scenario(function: Callable[[Mapping[str, str]], Steps]) -> Callable[[Mapping[str, str]], dict[str, Steps]]:
    @wraps(function)
    def run(params: Mapping[str, str]) -> dict[str, Steps]:
        try:
            steps = function(params)
            if params.get("attach") == "sk_skb_stream_parser":
                # What a kernel complains of here, it complains of when it destroys the psock.
                kit.reap()
            return {"steps": steps}
        except _CannotError as error:
            return {"steps": error.steps}

    return run


class _Socket:
    """A socket that may be in maps, and its peer."""

    def __init__(self, kind: str, keep: ExitStack) -> None:
        try:
            self.end, self.peer = sockets.pair(kind)
        except OSError as error:
            raise _CannotError("socket", error) from error
        for each in (self.end, self.peer):
            keep.enter_context(each)
            each.settimeout(_PATIENCE)
        self._sent = 0

    def insert(self, target: int, slot: int = 0) -> str:
        """Put it into a map."""
        return attempt(syscall.update, target, slot, self.end.fileno())

    def data(self, attach_type: str) -> str:
        """Send a message past the socket, out of it if it is about SK_MSG, else into it; say which programs ran."""
        sends = attach_type == "sk_msg_verdict"
        sender, receiver = (self.end, self.peer) if sends else (self.peer, self.end)
        named = [(which, program(attach_type, which)) for which in ("first", "second")]
        before = [loaded.runs() for _, loaded in named]
        self._sent += 1
        message = b"%d" % self._sent
        try:
            sender.send(message)
            got = receiver.recv(64)
        except OSError as error:
            return "nothing" if error.errno is None else error_name(error.errno)
        ran = [name for (name, loaded), runs in zip(named, before, strict=True) if loaded.runs() > runs]
        return f"{' and '.join(ran) or 'native'}{'' if got == message else ', other data'}"


@_scenario
def conflict(params: Mapping[str, str]) -> Steps:
    """Put a socket into a map that holds the programs `first`, then into a map that holds others.

    `maps` are the types of the two maps. Steps: `insert`; into the `same slot` and the `other slot` of the map; `then
    SET`, into a second map with these programs, a fresh socket each time; `then SET, then stream_verdict`, into a third
    where the second refused a kind of socket.
    """
    one, other = params["maps"].split("-")
    with ExitStack() as keep:
        source = _map(keep, one, SETS[params["first"]])
        inserted = _Socket(params["kind"], keep)
        steps = {"insert": inserted.insert(source)}
        if steps["insert"] == "ok":
            steps["same slot"] = inserted.insert(source)
            steps["other slot"] = inserted.insert(source, 1)
            for name, held in SETS.items():
                # A verdict is unknown before 5.13.
                with suppress(_CannotError):
                    steps |= _then(params["kind"], name, source, _map(keep, other, held))
        return steps


def _then(kind: str, name: str, source: int, target: int) -> Steps:
    with ExitStack() as keep:
        both = _Socket(kind, keep)
        both.insert(source, 2)
        steps = {f"then {name}": both.insert(target)}
        if steps[f"then {name}"] == "EOPNOTSUPP":
            steps[f"then {name}, then stream_verdict"] = both.insert(_map(keep, "sockmap", SETS["stream_verdict"]))
        return steps


@_scenario
def frozen(params: Mapping[str, str]) -> Steps:
    """Put a socket into a `map` that holds `first` as `attach`, then `change` what the map holds.

    Wherever the socket is put in again, its map holds `second` or nothing. A parser goes with a verdict that stays.
    """
    attach_type = params["attach"]
    with ExitStack() as keep:
        target = _map(keep, params["map"], _BESIDE.get(attach_type, ()))
        change = _hold_first(params["change"], attach_type, target, keep)
        it = _Socket(params["kind"], keep)
        steps = {"insert": it.insert(target)}
        if steps["insert"] != "ok":
            return steps
        steps["data"] = it.data(attach_type)
        steps["change"] = attempt(change)
        if steps["change"] != "ok":
            return steps
        steps["changed: data"] = it.data(attach_type)
        steps["same slot"] = it.insert(target)
        steps["same slot: data"] = it.data(attach_type)
        # The worker that delivered what passed may still hold the psock: then a deletion stops nothing yet.
        fences().backlog()
        steps["delete"] = attempt(syscall.delete, target, 0)
        steps["deleted: data"] = it.data(attach_type)
        steps["insert again"] = it.insert(target)
        steps["inserted again: data"] = it.data(attach_type)
        return steps


def _hold_first(change: str, attach_type: str, target: int, keep: ExitStack) -> Callable[[], None]:
    """Attach `first` as the change to come supposes, and return what makes the change."""
    number = kit.TYPES[attach_type]
    first, second = program(attach_type, "first").descriptor, program(attach_type, "second").descriptor
    link = -1
    try:
        if change.startswith("link"):
            link = links.create(target, first, number)
            keep.callback(os.close, link)
        elif change != "attach":
            links.attach(target, first, number)
    except OSError as error:
        raise _CannotError("attach", error) from error
    changes: dict[str, Callable[[], None]] = {
        "attach": lambda: links.attach(target, second, number),
        "replace": lambda: links.attach(target, second, number),
        "detach": lambda: links.detach(target, first, number),
        "link_update": lambda: links.update(link, second),
        "link_detach": lambda: links.detach_link(link),
    }
    return changes[change]


@_scenario
def leave(params: Mapping[str, str]) -> Steps:
    """Take a socket out of one of two maps: the `map` that holds a program as `attach`, or the one that holds none.

    `way`: `with` or `without` deletes it from that map; `detached` detaches before deleting from the map `with`.
    """
    attach_type, way = params["attach"], params["way"]
    with ExitStack() as keep:
        plain = make_map(keep, params["map"])
        source = _map(keep, params["map"], (*_BESIDE.get(attach_type, ()), attach_type))
        it = _Socket(params["kind"], keep)
        steps = {"insert": it.insert(source)}
        if steps["insert"] != "ok":
            return steps
        steps["insert without"] = it.insert(plain)
        steps["data"] = it.data(attach_type)
        if way == "detached":
            first = program(attach_type, "first").descriptor
            steps["detach"] = attempt(links.detach, source, first, kit.TYPES[attach_type])
        left, remaining = (plain, source) if way == "without" else (source, plain)
        steps["delete"] = attempt(syscall.delete, left, 0)
        steps["deleted: data"] = it.data(attach_type)
        steps["insert with another"] = it.insert(_map(keep, params["map"], (attach_type,), "second"))
        steps["inserted with another: data"] = it.data(attach_type)
        steps["delete from the last"] = attempt(syscall.delete, remaining, 0)
        steps["insert with another, then"] = it.insert(_map(keep, params["map"], (attach_type,), "second"))
        return steps


def _map(keep: ExitStack, kind: str, held: Sequence[str], which: str = "first") -> int:
    """Make a map that holds programs."""
    target = make_map(keep, kind)
    try:
        for attach_type in held:
            links.attach(target, program(attach_type, which).descriptor, kit.TYPES[attach_type])
    except OSError as error:
        raise _CannotError("attach", error) from error
    return target
