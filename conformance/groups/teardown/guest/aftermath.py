# SPDX-License-Identifier: GPL-2.0-only
"""The questions asked when a socket has left its map, or has not: of the map, the data, the socket and its peer."""

from __future__ import annotations

import ctypes
import fcntl
import select
import socket
import struct
import termios
import time
from collections.abc import Iterable
from collections.abc import Mapping

from bpf.guest import maps
from bpf.guest import syscall
from conformance.groups.teardown.guest.scene import PATIENCE
from conformance.groups.teardown.guest.scene import SOCKET
from conformance.groups.teardown.guest.scene import SPARE
from conformance.groups.teardown.guest.scene import WITNESS
from conformance.groups.teardown.guest.scene import Scene
from conformance.groups.teardown.guest.scene import attach
from conformance.groups.teardown.guest.scene import carries_verdict
from conformance.groups.teardown.guest.waiters import WAITS
from conformance.groups.teardown.guest.waiters import events
from conformance.guestlib import kit
from conformance.guestlib import sockets
from conformance.guestlib.answers import attempt
from conformance.guestlib.answers import error_name
from conformance.guestlib.kit import Steps
from conformance.guestlib.servant import Messages
from conformance.guestlib.servant import send

_GRACE = 0.02
"""Seconds to look for missing data although the kernel seems at rest."""
_GRACES = {"backlog": 0.15, "full": 0.15, "sender": 0.15}
"""The same where room must be made first: who would send tries again a jiffy later, or when TCP asks for room."""
_ROUNDS = 32
"""Looks that such a grace has at least: a machine that its host keeps from running loses time, but no look."""
_PERIODS = 3
"""Destructions of a psock after which memory is not freed any more."""
_SO_MEMINFO, _MEMINFO_WORDS = 55, 9
_LIBC = ctypes.CDLL(None, use_errno=True)


class Aftermath:
    """What is left of one scene; the answers go into its steps."""

    def __init__(self, scene: Scene) -> None:
        self._scene, self._steps = scene, scene.steps

    def look(self) -> None:
        """Ask everything that can still be asked."""
        scene, steps = self._scene, self._steps
        scene.settle()
        for waiter in scene.waiters.values():
            # Who comes back takes an error along.
            waiter.rest()
        if scene.home >= 0:
            self._map()
        self._queued()
        self._traffic()
        if scene.second >= 0:
            steps["second"] = scene.found(scene.second, SOCKET)
        if scene.redirector and scene.redirector.redirects():
            self._redirect()
        if scene.end.fileno() >= 0:
            steps["error"] = error_name(scene.end.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
            steps["memory"] = self._memory()
        if scene.mapped and scene.end.fileno() >= 0:
            steps["probe"] = carries_verdict(scene.end)
            self._again()

    def _map(self) -> None:
        """Ask the map who is in it, and whether there is room."""
        scene = self._scene
        looked_up, contents = scene.found(scene.home, SOCKET), scene.contents(scene.home)
        told = {"socket": "there", "another": "replaced", "ENOENT": "gone"}.get(looked_up, looked_up)
        wanted = {WITNESS: "witness"} | ({} if looked_up == "ENOENT" else {SOCKET: looked_up})
        if contents != wanted:
            told += f", iterated {contents}"
        self._steps["entry"] = told
        if looked_up == "ENOENT":
            other = scene.stranger().fileno()
            self._steps["slot"] = attempt(syscall.update_wide, scene.home, SOCKET, other, maps.NOEXIST)
            attempt(syscall.delete, scene.home, SOCKET)

    def _queued(self) -> None:
        """Ask where the data is that was in flight, and who is told of an end or an error."""
        scene, steps = self._scene, self._steps
        if scene.end.fileno() >= 0:
            steps["poll"] = _ready(scene.end)
            counted = _count(scene.end)
        self._waiters("")
        found = self._collect(scene.in_flight, _GRACES.get(scene.data, _GRACE))
        steps |= {name: found.place(name) for name in scene.in_flight}
        steps |= found.others()
        if scene.end.fileno() >= 0:
            size = found.size("socket")
            steps["count"] = _compared(counted, size)

    def _traffic(self) -> None:
        """Ask whether the socket and its peer still talk to each other, and whether the program listens."""
        scene, steps = self._scene, self._steps
        there, back = scene.payload(), scene.payload()
        before = scene.runs()
        parts = {}
        if scene.peer.fileno() >= 0:
            steps["receive"] = send(scene.peer, there)
            parts["receive"] = there
        if scene.end.fileno() >= 0:
            steps["send"] = send(scene.end, back)
            parts["send"] = back
        found = self._collect({name: part for name, part in parts.items() if steps[name] == "ok"})
        for name in parts:
            if steps[name] == "ok":
                steps[name] = found.place(name)
        steps |= {f"{name}-then": what for name, what in found.others().items()}
        if scene.programs:
            steps["runs"] = "yes" if scene.runs() > before else "no"
        self._waiters("-then")
        if scene.waiters and scene.home >= 0 and scene.end.fileno() < 0:
            steps["entry-then"] = scene.found(scene.home, SOCKET)

    def _waiters(self, suffix: str) -> None:
        """Ask who still waits, and what came of the others."""
        answers = {name: waiter.answer() for name, waiter in self._scene.waiters.items()}
        if "poll" in answers:
            answers = {"pollers": _agreed(answers)}
        self._steps |= {f"{name}{suffix}": answer for name, answer in answers.items()}

    def _redirect(self) -> None:
        """Ask where goes what would be redirected to the socket."""
        scene, steps = self._scene, self._steps
        assert scene.redirector
        data, before = scene.payload(), scene.redirector.dropped()
        steps["redirect"] = send(scene.redirector.far, data)
        if steps["redirect"] != "ok":
            return
        found = self._collect({"redirect": data})
        steps["redirect"] = found.place("redirect")
        if steps["redirect"] == "nowhere" and scene.redirector.dropped() > before:
            steps["redirect"] = "dropped"

    def _memory(self) -> str:
        """Ask whether memory is charged to the socket for what it received; that of a psock goes with it."""
        for _ in range(_PERIODS):
            if not _charged(self._scene.end):
                return "none"
            kit.reap()
        return "held"

    def _again(self) -> None:
        """Insert the socket into a map like that it was in, and see whether the program runs."""
        scene, steps = self._scene, self._steps
        target = scene.home
        if target < 0:
            target = scene.new_map()
            for attach_type, program in scene.programs:
                attach(target, attach_type, program.descriptor)
        answer = attempt(syscall.update_wide, target, SPARE, scene.end.fileno())
        if answer == "ok" and scene.programs and scene.peer.fileno() >= 0:
            before, data = scene.runs(), scene.payload()
            sends = scene.program == "msg"
            sent = send(scene.end if sends else scene.peer, data)
            place = self._collect({"data": data}).place("data") if sent == "ok" else sent
            answer = f"{'runs' if scene.runs() > before else 'does not run'}, {place}"
        steps["again"] = answer

    def _collect(self, parts: Mapping[str, bytes], grace: float = _GRACE) -> Found:
        """Read every socket until all parts are there, or nothing moves any more."""
        found = Found(parts, {name: [] for name in self._scene.drains()})
        begin = time.monotonic()
        rounds = _ROUNDS if grace > _GRACE else 0
        # Who comes back from waiting may close the socket with that.
        more = bool(self._scene.waiters)
        while True:
            rounds -= 1
            self._scene.settle()
            for waiter in self._scene.waiters.values():
                waiter.rest()
            for name, drain in self._scene.drains().items():
                messages = drain()
                # An end or an error that stays is told once, however often we look.
                if messages and not (isinstance(messages[0], str) and messages == found.messages[name][-1:]):
                    found.messages[name] += messages
            if found.complete() and more:
                more = False
            elif (
                found.complete()
                or (rounds <= 0 and time.monotonic() - begin > grace and not self._sending())
                or time.monotonic() - begin > PATIENCE
            ):
                return found

    def _sending(self) -> bool:
        """Whether TCP still has to send what was held up, which it may do much later."""
        scene = self._scene
        if (
            scene.data not in _GRACES
            or not sockets.is_tcp(scene.kind)
            or min(scene.end.fileno(), scene.peer.fileno()) < 0
        ):
            return False
        return bool(struct.unpack("=i", fcntl.ioctl(scene.end, termios.TIOCOUTQ, bytes(4)))[0])


class Found:
    """What was read, and which part of what was sent it is."""

    def __init__(self, parts: Mapping[str, bytes], messages: dict[str, Messages]) -> None:
        self._parts, self.messages = parts, messages

    def size(self, name: str) -> int:
        """Return how many bytes were read from a socket."""
        return sum(len(each) for each in self.messages[name] if isinstance(each, bytes))

    def complete(self) -> bool:
        """Whether as much was read as was sent."""
        return sum(map(self.size, self.messages)) >= sum(map(len, self._parts.values()))

    def place(self, part: str) -> str:
        """Say on which sockets a part came out, each byte of it once and in order; `"nowhere"` if on none."""
        places = []
        for name, messages in self.messages.items():
            data = b"".join(each for each in messages if isinstance(each, bytes))
            if (count := data.count(self._parts[part])) > 0:
                places.append(name if count == 1 else f"{name} {count} times")
            elif data and self._parts[part].startswith(data):
                places.append(f"{name} the beginning")
        return ", ".join(places) or "nowhere"

    def others(self) -> Steps:
        """Say what else came: ends and errors by socket, and bytes nobody sent so."""
        told: dict[str, list[str]] = {}
        for name, messages in self.messages.items():
            data = b"".join(each for each in messages if isinstance(each, bytes))
            for part in self._parts.values():
                data = b"" if part.startswith(data) else data.replace(part, b"", 1)
            strange = [f"{len(data)} bytes not sent so"] if data else []
            told[name] = [each for each in messages if isinstance(each, str)] + strange
        return {f"{name}-reads": ", ".join(_each_once(what)) for name, what in told.items() if what}


def _agreed(answers: dict[str, str]) -> str:
    """Return what all who poll say, if they agree: select(2) knows no more than that there is something to read."""
    if answers["select"] == "in" and answers["poll"] != WAITS:
        answers = {name: answer for name, answer in answers.items() if name != "select"}
    if len(set(answers.values())) == 1:
        return answers["poll"]
    return ", ".join(f"{name} {answer}" for name, answer in answers.items())


def _each_once(what: Iterable[str]) -> Iterable[str]:
    return dict.fromkeys(what)


def _ready(one: socket.socket) -> str:
    poll = select.poll()
    poll.register(one, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
    return events(sum(mask for _, mask in poll.poll(0)))


def _charged(one: socket.socket) -> int:
    """Return how many bytes of memory the socket's receive buffers take, data and all."""
    words, length = (ctypes.c_uint32 * _MEMINFO_WORDS)(), ctypes.c_uint32(4 * _MEMINFO_WORDS)
    # Python knows no option of a VSOCK socket longer than 8 bytes.
    if _LIBC.getsockopt(one.fileno(), socket.SOL_SOCKET, _SO_MEMINFO, words, ctypes.byref(length)):
        raise OSError(ctypes.get_errno(), "SO_MEMINFO")
    return words[0]


def _compared(counted: int | str, size: int) -> str:
    """Say whether FIONREAD was right, what else it told, or why it told nothing."""
    if isinstance(counted, str):
        return counted
    return "right" if counted == size else f"{counted} for {size}"


def _count(one: socket.socket) -> int | str:
    try:
        return int(struct.unpack("=i", fcntl.ioctl(one, termios.FIONREAD, bytes(4)))[0])
    except OSError as error:
        return error_name(error.errno or 0)
