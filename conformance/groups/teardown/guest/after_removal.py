# SPDX-License-Identifier: GPL-2.0-only
"""The questions of a case after its way out: to the map, to the socket and to its peer, and about the data."""

from __future__ import annotations

import select
import socket
import termios
from collections.abc import Mapping

from bpf.guest import maps
from conformance.groups.teardown.guest.setup import PATIENCE, SENTINEL, SOCKET, SPARE, TeardownSetup, carries_verdict
from conformance.guestlib import fixture, sockets, traffic
from conformance.guestlib.answers import outcome
from conformance.guestlib.waiters import WAITS, event_names

_GRACE = 0.02
"""Seconds to look for missing data although the kernel seems at rest."""
_GRACES = {"backlog": 0.15, "full": 0.15, "sender": 0.15}
"""The same where a buffer must be emptied first: the kernel retries a jiffy later, or when TCP asks for room."""
_LATE = 8.0
"""Seconds for TCP to send delayed data: it may have to ask for room, each time after twice the time of the last."""
_LOOKS = 32
"""The least number of looks in a grace: a machine that its host starves loses time, but no look."""
_PERIODS = 3
"""Destructions of a psock after which no more memory is freed."""


def look(case: TeardownSetup) -> None:
    """Ask all questions that still make sense."""
    steps = case.steps
    case.settle()
    for waiter in case.waiters.values():
        # A thread that returns takes the socket's error with it.
        waiter.rest()
    if case.home >= 0:
        _map(case)
    _queued(case)
    _traffic(case)
    if case.second >= 0:
        steps["second"] = case.found(case.second, SOCKET)
    if case.redirector:
        _redirect(case)
    if case.end.fileno() >= 0:
        steps["error"] = traffic.pending_error(case.end)
        steps["memory"] = _memory(case)
    if case.mapped and case.end.fileno() >= 0:
        steps["probe"] = carries_verdict(case.end)
        _again(case)


def _map(case: TeardownSetup) -> None:
    """Look up and iterate over the map, and insert another socket into the slot."""
    looked_up, contents = case.found(case.home, SOCKET), case.contents()
    entry = {"socket": "there", "another": "replaced", "ENOENT": "gone"}.get(looked_up, looked_up)
    wanted = {SENTINEL: "sentinel"} | ({} if looked_up == "ENOENT" else {SOCKET: looked_up})
    if contents != wanted:
        entry += f", iterated {contents}"
    case.steps["entry"] = entry
    if looked_up == "ENOENT":
        case.steps["slot"] = case.home.insert(case.stranger(), SOCKET, maps.NOEXIST)
        case.home.delete(SOCKET)


def _queued(case: TeardownSetup) -> None:
    """Find the data that was in flight, and the end or error that each reader gets."""
    steps = case.steps
    if case.end.fileno() >= 0:
        steps["poll"] = _ready(case.end)
        counted = outcome(traffic.count, case.end, termios.FIONREAD)
    _waiters(case, "")
    found = _collect(case, case.in_flight, _GRACES.get(case.data, _GRACE), arrived=True)
    steps |= {name: found.place(name) for name in case.in_flight}
    steps |= found.others()
    if case.end.fileno() >= 0:
        size = traffic.size_of(found.messages["socket"])
        wrong = counted if isinstance(counted, str) else f"{counted} for {size}"
        steps["count"] = "right" if counted == size else wrong


def _traffic(case: TeardownSetup) -> None:
    """Send in both directions, and see whether the program runs."""
    steps = case.steps
    before = case.runs()
    parts: dict[str, bytes] = {}
    for name, end in (("receive", case.peer), ("send", case.end)):
        if end.fileno() >= 0:
            data = traffic.payload()
            steps[name] = traffic.send(end, data)
            parts |= {name: data} if steps[name] == "ok" else {}
    found = _collect(case, parts)
    steps |= {name: found.place(name) for name in parts}
    steps |= {f"{name}-then": what for name, what in found.others().items()}
    if case.programs:
        steps["runs"] = "yes" if case.runs() > before else "no"
    _waiters(case, "-then")
    if case.waiters and case.home >= 0 and case.end.fileno() < 0:
        steps["entry-then"] = case.found(case.home, SOCKET)


def _waiters(case: TeardownSetup, suffix: str) -> None:
    """Find the threads that still wait, and the results of the others."""
    answers = {name: waiter.answer() for name, waiter in case.waiters.items()}
    if "poll" in answers:
        answers = {"pollers": _agreed(answers)}
    case.steps |= {f"{name}{suffix}": answer for name, answer in answers.items()}


def _redirect(case: TeardownSetup) -> None:
    """Redirect data to the socket, and find where it arrives."""
    steps = case.steps
    assert case.redirector
    before = case.redirector.dropped()
    place = _sent(case, case.redirector.far)
    steps["redirect"] = "dropped" if place == "nowhere" and case.redirector.dropped() > before else place


def _sent(case: TeardownSetup, through: socket.socket) -> str:
    """Send data and say where it came out, or the errno."""
    data = traffic.payload()
    answer = traffic.send(through, data)
    return _collect(case, {"data": data}).place("data") if answer == "ok" else answer


def _memory(case: TeardownSetup) -> str:
    """See whether receive memory is charged to the socket; a psock's charge goes with the psock."""
    for _ in range(_PERIODS):
        if not sockets.memory_of(case.end)[0]:
            return "none"
        fixture.reap()
    return "held"


def _again(case: TeardownSetup) -> None:
    """Insert the socket into a map like its first one, and see whether the program runs."""
    steps = case.steps
    target = case.home if case.home >= 0 else case.map_like_own()
    answer = target.insert(case.end, SPARE)
    if answer == "ok" and case.programs and case.peer.fileno() >= 0:
        before = case.runs()
        place = _sent(case, case.end if case.program == "msg" else case.peer)
        answer = f"{'runs' if case.runs() > before else 'does not run'}, {place}"
    steps["again"] = answer


def _collect(
    case: TeardownSetup, parts: Mapping[str, bytes], grace: float = _GRACE, *, arrived: bool = False
) -> traffic.Parts:
    """Read every socket until all parts are there, or nothing moves any more; all may have `arrived` before."""
    found = traffic.Parts(parts, case.drains())

    def look() -> None:
        for waiter in case.waiters.values():
            waiter.rest()
        for name, drain in case.drains().items():
            traffic.add(found.messages[name], drain())

    late = case.data in _GRACES and sockets.is_tcp(case.kind)
    looks = _LOOKS if grace > _GRACE else 0
    # A thread that comes back from waiting may close the socket with that, so there is one more look.
    for _ in range(2 if case.waiters else 1):
        rest = traffic.settle(
            look,
            found.missing,
            lambda: grace,
            _LATE if late else PATIENCE,
            vsock=sockets.is_vsock(case.kind),
            # What TCP sends between a look and the question is there at the next look.
            busy=lambda: late and _sending(case, found),
            looks=looks,
            arrived=arrived,
        )
        if not rest.arrived:
            case.give_up()
        if rest.waited or not rest.settled:
            break
        arrived = False
    return found


def _sending(case: TeardownSetup, found: traffic.Parts) -> bool:
    """Whether TCP still has to send delayed data, which it may do much later.

    A socket that is closed sends what it has, and then the end; the peer may meet an error instead.
    """
    if case.peer.fileno() < 0:
        return False
    if case.end.fileno() < 0:
        return not any(isinstance(each, str) for each in found.messages["peer"])
    return traffic.count(case.end, termios.TIOCOUTQ) > 0


def _agreed(answers: dict[str, str]) -> str:
    """Return the result of all polling calls, if they agree: select(2) only knows that there is something to read."""
    if answers["select"] == "in" and answers["poll"] != WAITS:
        answers = {name: answer for name, answer in answers.items() if name != "select"}
    if len(set(answers.values())) == 1:
        return answers["poll"]
    return ", ".join(f"{name} {answer}" for name, answer in answers.items())


def _ready(one: socket.socket) -> str:
    poll = select.poll()
    poll.register(one, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
    return event_names(sum(mask for _, mask in poll.poll(0)))
