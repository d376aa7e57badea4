# SPDX-License-Identifier: GPL-2.0-only
"""Send datagrams, control messages, descriptors, urgent or zero-copy data to a socket in a map, and see what arrives.

The Observation is `{"steps": {name: answer}, "control": {name: answer}}`. The control is the same scenario in the same
clone without a map, so no program redirects the data. A process runs each control once and keeps its answers.

- `insert`: `"ok"` or the errno;
- `datagram`: the source address (`from`), which of two datagrams one recv(2) returns (`one`), what a short buffer gets
  (`short`) and what the recv(2) after it (`next`), and whether one recv(2) returns a `large` datagram;
- `options`: whether recvmsg(2) returns the control messages that the reader asked for;
- `credentials`: whose credentials recvmsg(2) returns;
- `rights`: how many descriptors recvmsg(2) returns; `returned`: whether every reference to them is dropped in the end;
- `oob`, `urgent`: what recv(2) returns with MSG_OOB (`oob`) and without it, `before` and `behind` the mark; what
  SIOCATMARK returns (`mark`);
- `zerocopy-send`: whether the error queue has a notification;
- `zerocopy-receive`: whether each byte arrives once, mapped or copied;
- `redirect-oob`: which socket receives the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from conformance.groups.ancillary.guest import messages, urgent, zerocopy
from conformance.groups.ancillary.guest.setup import AncillarySetup
from conformance.guestlib import fixture
from conformance.guestlib.answers import Steps, by_name
from conformance.guestlib.fixture import Fixture

_WITHOUT_CONTROL: Final = ("redirect-oob", "rights-wait")
_ASKED: Final[Mapping[str, Callable[[AncillarySetup], None]]] = {
    **by_name(
        messages.datagram, messages.options, messages.credentials, messages.rights, messages.rights_wait,
        urgent.oob, urgent.urgent, urgent.urgent_inline,
    ),
    "zerocopy-send": zerocopy.send,
    "zerocopy-receive": zerocopy.receive,
}  # fmt: skip
_known: Final[dict[tuple[str, ...], Steps]] = {}
"""The answers of each control of this process."""

redirect_oob = fixture.scenario(urgent.redirect)


def run(params: Mapping[str, str]) -> dict[str, Steps]:
    """Carry out one case, and its control if it has one and the socket could be inserted."""
    if params["what"] == "redirect-oob":
        return redirect_oob(params)
    seen = _in_map(params)
    if params["what"] in _WITHOUT_CONTROL or seen["steps"].get("insert") != "ok":
        return seen
    return {**seen, "control": _control(params)}


def _control(params: Mapping[str, str]) -> Steps:
    key = params["what"], params["kind"]
    if key not in _known:
        _known[key] = _in_no_map({**params, "mode": "member"})["steps"]
    return _known[key]


@fixture.scenario
def _in_map(owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    _ask(owned, params, steps, mapped=True)


@fixture.scenario
def _in_no_map(owned: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    _ask(owned, params, steps, mapped=False)


def _ask(owned: Fixture, params: Mapping[str, str], steps: Steps, *, mapped: bool) -> None:
    setup = AncillarySetup(params, owned, steps, mapped=mapped)
    if setup.insert():
        _ASKED[params["what"]](setup)
