# SPDX-License-Identifier: GPL-2.0-only
"""See which program a socket runs: the one that its map held at insertion, whatever the map holds now.

Each function is a scenario for one `kind` of socket; where this kernel cannot make one, `socket` is all there is.
Answers are `"ok"` or an errno; of data sent past the socket `first` or `second`, the program that ran, or `native` if
none did, and `nothing` if it did not arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from bpf.guest import links
from conformance.guestlib.answers import Steps, attempt, name_of
from conformance.guestlib.fixture import TYPES, Fixture, ImpossibleError, Map, counting, possible, reap, scenario
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
"""Sets of programs that a map may hold."""
_BESIDE = {"sk_skb_stream_parser": ("sk_skb_stream_verdict",)}
"""Programs that the map must also hold for a program to run."""

_PATIENCE = 2.0
"""Seconds after which data will not come any more."""


class _Socket:
    """A socket that may be in maps, and its peer."""

    def __init__(self, kind: str, fixture: Fixture, steps: Steps) -> None:
        with possible(steps, "socket"):
            self.end, self.peer = fixture.pair(kind)
        for each in (self.end, self.peer):
            each.settimeout(_PATIENCE)
        self._sent = 0

    def data(self, attach_type: str) -> str:
        """Send a message out of the socket for SK_MSG, else into it; return which programs ran."""
        sends = attach_type == "sk_msg_verdict"
        sender, receiver = (self.end, self.peer) if sends else (self.peer, self.end)
        named = [(which, counting(attach_type, which)) for which in ("first", "second")]
        before = [loaded.runs() for _, loaded in named]
        self._sent += 1
        message = b"%d" % self._sent
        try:
            sender.send(message)
            got = receiver.recv(64)
        except OSError as error:
            return "nothing" if error.errno is None else name_of(error)
        ran = [name for (name, loaded), runs in zip(named, before, strict=True) if loaded.runs() > runs]
        return f"{' and '.join(ran) or 'native'}{'' if got == message else ', other data'}"


@scenario
def conflict(fixture: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Put a socket into a map that holds the programs `first`, then into a map that holds others.

    `maps` are the types of the two maps. Steps: `insert`; into the `same slot` and the `other slot` of the map; `then
    SET`, into a second map with these programs, a fresh socket each time; `then SET, then stream_verdict`, into a third
    where the second refused a kind of socket.
    """
    one, other = params["maps"].split("-")
    source = _map(fixture, steps, one, SETS[params["first"]])
    inserted = _Socket(params["kind"], fixture, steps).end
    steps["insert"] = source.insert(inserted)
    if steps["insert"] == "ok":
        steps["same slot"] = source.insert(inserted)
        steps["other slot"] = source.insert(inserted, 1)
        for name, held in SETS.items():
            # A verdict is unknown before 5.13.
            with suppress(ImpossibleError):
                steps |= _then(params["kind"], name, source, _map(fixture, {}, other, held))


def _then(kind: str, name: str, source: Map, target: Map) -> Steps:
    with Fixture() as fixture:
        both = fixture.pair(kind)[0]
        source.insert(both, 2)
        steps = {f"then {name}": target.insert(both)}
        if steps[f"then {name}"] == "EOPNOTSUPP":
            third = _map(fixture, {}, "sockmap", SETS["stream_verdict"])
            steps[f"then {name}, then stream_verdict"] = third.insert(both)
        return steps


@scenario
def frozen(fixture: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Put a socket into a `map` that holds `first` as `attach`, then `change` what the map holds.

    When the socket is inserted again, its map holds `second` or nothing. A parser goes with a verdict that stays.
    """
    attach_type = params["attach"]
    _reap_parser(attach_type, fixture)
    target = _map(fixture, steps, params["map"], _BESIDE.get(attach_type, ()))
    with possible(steps, "attach"):
        change = _hold_first(params["change"], attach_type, target, fixture)
    it = _Socket(params["kind"], fixture, steps)
    steps["insert"] = target.insert(it.end)
    if steps["insert"] != "ok":
        return
    steps["data"] = it.data(attach_type)
    steps["change"] = attempt(change)
    if steps["change"] != "ok":
        return
    steps["changed: data"] = it.data(attach_type)
    steps["same slot"] = target.insert(it.end)
    steps["same slot: data"] = it.data(attach_type)
    # The worker that delivered passed data may still hold the psock: then a deletion does not stop the verdict yet.
    fences().backlog()
    steps["delete"] = target.delete()
    steps["deleted: data"] = it.data(attach_type)
    steps["insert again"] = target.insert(it.end)
    steps["inserted again: data"] = it.data(attach_type)


def _hold_first(change: str, attach_type: str, target: Map, fixture: Fixture) -> Callable[[], None]:
    """Attach `first` as the later change needs it, and return the function that makes the change."""
    number = TYPES[attach_type]
    first, second = (counting(attach_type, which).descriptor for which in ("first", "second"))
    link = fixture.keep(links.create(target, first, number)) if change.startswith("link") else -1
    if change in ("replace", "detach"):
        links.attach(target, first, number)
    return {
        "attach": partial(links.attach, target, second, number),
        "replace": partial(links.attach, target, second, number),
        "detach": partial(links.detach, target, first, number),
        "link_update": partial(links.update, link, second),
        "link_detach": partial(links.detach_link, link),
    }[change]


@scenario
def leave(fixture: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Take a socket out of one of two maps: the `map` that holds a program as `attach`, or the one that holds none.

    `way`: `with` or `without` deletes it from that map; `detached` detaches before deleting from the map `with`.
    """
    attach_type, way = params["attach"], params["way"]
    _reap_parser(attach_type, fixture)
    plain = fixture.map(params["map"])
    source = _map(fixture, steps, params["map"], (*_BESIDE.get(attach_type, ()), attach_type))
    it = _Socket(params["kind"], fixture, steps)
    steps["insert"] = source.insert(it.end)
    if steps["insert"] != "ok":
        return
    steps["insert without"] = plain.insert(it.end)
    steps["data"] = it.data(attach_type)
    if way == "detached":
        first = counting(attach_type, "first").descriptor
        steps["detach"] = attempt(links.detach, source, first, TYPES[attach_type])
    left, remaining = (plain, source) if way == "without" else (source, plain)
    steps["delete"] = left.delete()
    steps["deleted: data"] = it.data(attach_type)
    steps["insert with another"] = _map(fixture, steps, params["map"], (attach_type,), "second").insert(it.end)
    steps["inserted with another: data"] = it.data(attach_type)
    steps["delete from the last"] = remaining.delete()
    steps["insert with another, then"] = _map(fixture, steps, params["map"], (attach_type,), "second").insert(it.end)


def _reap_parser(attach_type: str, fixture: Fixture) -> None:
    """Destroy psocks before the case ends: the kernel warns of a running parser then."""
    if attach_type == "sk_skb_stream_parser":
        fixture.callback(reap)


def _map(fixture: Fixture, steps: Steps, map_type: str, held: Sequence[str], which: str = "first") -> Map:
    """Make a map that holds programs."""
    target = fixture.map(map_type)
    with possible(steps, "attach"):
        for attach_type in held:
            links.attach(target, counting(attach_type, which).descriptor, TYPES[attach_type])
    return target
