# SPDX-License-Identifier: GPL-2.0-only
"""SK_SKB verdicts that change the packets of a socket.

The steps are those of message.py, but here the peer sends and the socket receives.
"""

from __future__ import annotations

from collections.abc import Mapping

from conformance.groups.shape.guest.ends import LATER, NATIVE, Ends, counted, text
from conformance.groups.shape.guest.program import Operation, Turn, shaper
from conformance.groups.shape.guest.sending import SHORT
from conformance.guestlib import traffic
from conformance.guestlib.answers import Steps
from conformance.guestlib.fixture import Fixture, scenario


@scenario
def packet(owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """A verdict on a socket of a `kind` calls a `helper` with a `value`, and returns the verdict `to`.

    If `leaves` is `yes`, the socket then leaves the map. Few cases do so where the kernel warns, because each warning
    costs a clone.
    """
    program, value = shaper("skb"), int(params["value"])
    ends = Ends(owned, steps, program, params["kind"])
    if not ends.insert(target=params["to"] != "pass"):
        return
    operation = Operation(params["helper"], value & 0xFFFFFFFF)
    program.order(Turn(params["to"], operations=1), Turn(), operations=[operation])
    steps["sent"] = traffic.send(ends.peer, SHORT)
    found = ends.receive()
    runs = program.runs()
    steps["runs"] = str(runs)
    if runs:
        steps["helper"] = counted(*program.answers(1))
    steps["received"] = text(found, _added(params["helper"], value) if steps.get("helper") == "ok" else range(0))
    program.order(Turn())
    traffic.send(ends.peer, LATER)
    steps["later"] = text(ends.receive(len(LATER)))
    if params["leaves"] == "yes":
        ends.delete()
        traffic.send(ends.peer, NATIVE)
        steps["native"] = text(ends.receive(len(NATIVE)))


def _added(helper: str, value: int) -> range:
    """Return the offsets of the bytes that the helper adds."""
    if helper == "room":
        return range(max(0, value))
    return range(len(SHORT), value) if helper == "tail" else range(0)
