# SPDX-License-Identifier: GPL-2.0-only
"""SK_MSG programs that change, split, cork or drop the messages of a TCP socket.

The Observation is `{"steps": {name: answer}}`:

- `insert`, `insert-target`: `"ok"` or the errno; the case ends here if it is not `"ok"`;
- `sent`: what the system calls of the sender returned: `"ok"` if each sent every byte, else the count or errno of each;
- `held`: the bytes that arrived while the program corked; `received`: the bytes that arrived in the end, as `RECEIVER
  BYTES` for each socket that received any. A dot is a byte that a helper added and the program did not write;
- `runs`: how often the program ran;
- `helper`: what the helpers returned to the program; `before`, `after`: the bytes of the message between data and
  data_end before and after the helpers, `FIRST..END`;
- `size`: the size of the message in the context of the program;
- `balance`: whether the counts that send(2) returned add up to the bytes that arrived;
- `file`: whether a file has its old content after it was sent;
- `last`: what the last of many send(2) calls returned;
- `delete`: `"ok"` or the errno of the deletion from the map;
- `later`: the bytes that arrive of a later message, for which the program returns SK_PASS; `native`: the same after the
  socket has left its map.
"""

from __future__ import annotations

from collections.abc import Mapping

from conformance.groups.shape.guest.ends import LATER, LETTERS, NATIVE, Ends, counted, text, window
from conformance.groups.shape.guest.program import Operation, Turn, shaper
from conformance.groups.shape.guest.sending import CORKED, LARGE, Sending, sent, turns
from conformance.guestlib import fixture, traffic
from conformance.guestlib.answers import Steps, outcome
from conformance.guestlib.fixture import Fixture, scenario
from conformance.guestlib.traffic import Messages, Sent

_KIND = "tcp4"
_MARK = ord("!")
_DEAD_SENDS = 20


@scenario
def change(owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Call one `helper` `at` a place of a message; `form` says how the sender builds the message."""
    _called(owned, params, steps, [_operation(params["helper"], params["at"])])


@scenario
def overflow(owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Call one helper with a number near 2^32."""
    _called(owned, params, steps, [_operation(params["helper"], params["at"])])


@scenario
def header(owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Push a header of `bytes` bytes in front of a message, and write its first and last byte."""
    size = int(params["bytes"])
    written = (0, size - 1)
    operations = [Operation("push", 0, size), *(Operation("write", at, _MARK) for at in written)]
    _called(owned, params, steps, operations, written)


def _called(
    owned: Fixture, params: Mapping[str, str], steps: Steps, operations: list[Operation], written: tuple[int, ...] = ()
) -> None:
    program, form = shaper("msg"), params["form"]
    ends = Ends(owned, steps, program, _KIND)
    if not ends.insert(target=False):
        return
    program.order(*turns(form, len(operations)), operations=operations)
    message, answers = Sending(owned, ends.ours).form(form)
    found = ends.receive()
    steps["sent"] = sent(answers)
    steps["helper"] = counted(*program.answers(len(operations)))
    steps["runs"] = str(program.runs())
    if params["helper"] == "pull" and steps["helper"] == "ok":
        steps["after"] = window(program.after(int(form in CORKED)), message)
    first = operations[0]
    pushed = first.helper == "push" and program.answers(1) == ["ok"]
    hidden = range(first.start, first.start + first.length) if pushed else range(0)
    steps["received"] = _pieces(found) if form == "large" else text(found, hidden, written)
    _send_later(ends)


@scenario
def visible(owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Ask which bytes lie between data and data_end in a program that calls no helper."""
    program, form = shaper("msg"), params["form"]
    ends = Ends(owned, steps, program, _KIND)
    if not ends.insert(target=False):
        return
    program.order(*turns(form, 0))
    message, answers = Sending(owned, ends.ours).form(form)
    found = ends.receive()
    seen = program.before(program.runs() - 1)
    steps["sent"] = sent(answers)
    steps["size"] = str(seen.size)
    if form == "large":
        # Where an element ends depends on what the thread sent before.
        steps["before"] = "a beginning" if seen.first == message[0] and 0 < seen.visible <= seen.size else "otherwise"
    else:
        steps["before"] = window(seen, message)
    steps["received"] = _pieces(found) if form == "large" else text(found)
    _send_later(ends)


@scenario
def spliced(owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Send a file by a `way`; the program calls the helpers that `does` names, and then writes a byte."""
    program = shaper("msg")
    ends = Ends(owned, steps, program, _KIND)
    if not ends.insert(target=False):
        return
    operations = _SPLICED[params["does"]]
    program.order(Turn(operations=len(operations)), Turn(), operations=operations)
    sending = Sending(owned, ends.ours)
    message, answers = sending.file(params["way"])
    found = ends.receive()
    steps["sent"] = sent(answers)
    steps["helper"] = counted(*program.answers(len(operations)))
    pushed = next((each for each in operations if each.helper == "push"), Operation("push", 0))
    hidden = range(pushed.start, pushed.start + pushed.length)
    steps["received"] = text(found, hidden, (0,) if params["does"] == "push-write" else ())
    steps["file"] = "unchanged" if sending.file_now() == message else f"holds {sending.file_now()!r}"
    _send_later(ends)


_WRITE = Operation("write", 0, _MARK)
_SPLICED = {
    "write": [_WRITE],
    "pull-write": [Operation("pull", 0, 12), _WRITE],
    "push-write": [Operation("push", 0, 3), _WRITE],
    "push-pull-write": [Operation("push", 0, 3), Operation("pull", 3, 15), _WRITE],
    "split-pull-write": [Operation("push", 4, 3), Operation("pull", 7, 15), _WRITE],
    "pop-pull-write": [Operation("pop", 2, 4), Operation("pull", 2, 8), _WRITE],
}


@scenario
def applied(owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Call bpf_msg_apply_bytes(`bytes`) with the first of `verdicts`, and not with the second, if there is one."""
    first, _, second = params["verdicts"].partition("-")
    count = int(params["bytes"])
    order = (Turn(first, apply=count), Turn(second)) if second else (Turn(first, apply=count),)
    ends = Ends(owned, steps, shaper("msg"), _KIND)
    if not ends.insert(target=True):
        return
    ends.shaper.order(*order)
    counts = _sends(ends, [int(size) for size in params["sends"].split(".")])
    found = ends.receive()
    steps["sent"] = counted(*counts)
    steps["runs"] = str(ends.shaper.runs())
    steps["received"] = text(found)
    accepted = sum(count for count in counts if isinstance(count, int))
    arrived = sum(traffic.size_of(messages) for messages in found.values())
    steps["balance"] = "even" if accepted == arrived else f"{accepted} sent, {arrived} arrived"
    if "drop" not in params["verdicts"]:
        _send_later(ends)
        return
    ends.ours.close()
    # The kernel checks the charged memory when it frees a socket. Its warning must appear within this case.
    fixture.reap()


@scenario
def corked(owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Cork `bytes` bytes, and return the verdict `to` when the message has them."""
    verdict = params["to"]
    order = Turn(apply=3) if verdict == "apply" else Turn("pass" if verdict == "delete" else verdict)
    ends = Ends(owned, steps, shaper("msg"), _KIND)
    if not ends.insert(target=True):
        return
    ends.shaper.order(Turn(cork=int(params["bytes"])), order)
    *sizes, last = [int(size) for size in params["sends"].split(".")]
    counts = _sends(ends, sizes)
    if sizes:
        steps["held"] = text(ends.receive())
    if verdict == "delete":
        steps["delete"] = ends.delete()
    counts += _sends(ends, [last], sum(sizes))
    found = ends.receive()
    steps["sent"] = counted(*counts)
    steps["runs"] = str(ends.shaper.runs())
    short = sum(sizes) + last <= len(LETTERS)
    steps["received"] = text(found) if short else _pieces(found)
    if verdict not in ("drop", "delete", "apply"):
        _send_later(ends)


@scenario
def overfull(owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Cork more `pieces` than one message can hold."""
    ends = Ends(owned, steps, shaper("msg"), _KIND)
    if not ends.insert(target=False):
        return
    count = int(params["pieces"])
    ends.shaper.order(Turn(cork=2 * count), Turn(cork=0))
    answers = Sending(owned, ends.ours).singly(count)
    steps["sent"] = sent(list(dict.fromkeys(answers)))
    steps["received"] = text(ends.receive())
    _send_later(ends)


@scenario
def dead(owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Redirect byte by byte to the egress of a socket whose peer has closed, then free the source socket."""
    ends = Ends(owned, steps, shaper("msg"), _KIND)
    if not ends.insert(target=True):
        return
    ends.shaper.order(Turn("egress", apply=int(params["bytes"])))
    ends.far.close()
    answers = [outcome(ends.ours.send, bytes(100), 0x40) for _ in range(_DEAD_SENDS)]
    steps["last"] = str(answers[-1])
    steps["received"] = text(ends.receive())
    ends.shaper.order(Turn())
    ends.ours.close()
    # The kernel checks the charged memory when it frees a socket. Its warning must appear within this case.
    fixture.reap()


def _sends(ends: Ends, sizes: list[int], offset: int = 0) -> list[int | str]:
    """Send pieces of LETTERS, or of LARGE if they are longer; return the count or errno of each send(2)."""
    source = LETTERS if offset + sum(sizes) <= len(LETTERS) else LARGE
    counts: list[int | str] = []
    for size in sizes:
        counts.append(outcome(ends.ours.send, source[offset : offset + size], 0x40))
        offset += size
    return counts


def _send_later(ends: Ends) -> None:
    """Send a message that the program only passes, and another one after the socket has left the map."""
    ends.shaper.order(Turn())
    traffic.send(ends.ours, LATER)
    ends.steps["later"] = text(ends.receive(len(LATER)))
    ends.delete()
    traffic.send(ends.ours, NATIVE)
    ends.steps["native"] = text(ends.receive(len(NATIVE)))


def _operation(helper: str, at: str) -> Operation:
    start, _, length = at.replace("..", "+").partition("+")
    return Operation(helper, int(start), int(length))


def _pieces(found: dict[str, Messages]) -> str:
    """Say which parts of LARGE each socket received, as `FIRST..END`, and count the bytes between them."""
    texts = []
    for name, messages in found.items():
        data = b"".join(each for each in messages if isinstance(each, bytes))
        segments = Sent([LARGE]).describe([data])[0]
        parts = [f"{each[0]}..{sum(each)}" if isinstance(each, list) else _others(each) for each in segments]
        texts.append(f"{name} {' '.join(map(str, parts))}")
    return ", ".join(texts) or "nothing"


def _others(segment: int | str) -> str:
    return f"({len(str(segment)) // 2} others)"
