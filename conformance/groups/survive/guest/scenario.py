# SPDX-License-Identifier: GPL-2.0-only
"""Do what is known to have killed kernels.

`parser-pass` has a parser and a verdict that lets everything pass; `empty-receive` asks for no bytes while such data
waits; `drained` has more redirected to a socket than it has room for, and reads all of it at once: when the first is
read, the rest is on the psock's backlog, and will be there a jiffy later. The Observation is `{"steps": {...}}`;
`empty` is how many bytes came when none were asked for, `received` what came otherwise.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping
from contextlib import ExitStack
from contextlib import closing

from bpf.guest import syscall
from conformance.guestlib import sockets
from conformance.guestlib.answers import attempt
from conformance.guestlib.answers import name_of
from conformance.guestlib.bench import get_program
from conformance.guestlib.proof import attach_verdict
from conformance.guestlib.quiesce import fences
from conformance.guestlib.ways_out import Stage

_SUFFIX = {"sockmap": "map", "sockhash": "hash"}
_DATA = b"passed by the program"
_PATIENCE = 2.0
_SIZE, _TOO_MANY = 1000, 8
"""Bytes of a message, and how many: a receive buffer of the least size has room for two."""


def run(params: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Do `what` with a socket of a `kind` in a `map`."""
    return {"steps": _drain(params["kind"], params["map"]) if params["what"] == "drained" else _pass(params)}


def _pass(params: Mapping[str, str]) -> dict[str, str]:
    steps: dict[str, str] = {}
    with ExitStack() as stack:
        # Its budget is 0: it lets everything pass.
        program = get_program(f"sk_skb_redirect_{_SUFFIX[params['map']]}")
        maps = {name: _keep(stack, syscall.create_map(*shape)) for name, shape in program.maps.items()}
        verdict = _keep(stack, program.load(maps))
        source = _keep(stack, syscall.create_map(*program.maps["targets"]))
        if params["what"] == "parser-pass":
            parser = _keep(stack, get_program("sk_skb_parser").load({}))
            steps["parser"] = attempt(syscall.attach, source, parser, "sk_skb_stream_parser")
            steps["verdict"] = attempt(syscall.attach, source, verdict, "sk_skb_stream_verdict")
        else:
            steps["verdict"] = attempt(attach_verdict, source, verdict)
        ours, peer = (stack.enter_context(each) for each in sockets.pair(params["kind"]))
        steps["insert"] = attempt(syscall.update, source, 0, ours.fileno())
        peer.sendall(_DATA)
        ours.settimeout(_PATIENCE)
        steps |= _receive(ours, params["what"])
    return steps


def _drain(kind: str, map_type: str) -> dict[str, str]:
    with ExitStack() as stack:
        stage = stack.enter_context(closing(Stage(kind, map_type)))
        ours, sender, target, _ = (stack.enter_context(each) for _ in range(2) for each in sockets.pair(kind))
        target.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        steps = {"insert": attempt(stage.enter, ours, 0, target)}
        if steps["insert"] != "ok":
            return steps
        sent = [bytes([ord("a") + number]) * _SIZE for number in range(_TOO_MANY)]
        stage.order(syscall.F_INGRESS, _SIZE * _TOO_MANY)
        for each in sent:
            sender.sendall(each)
            fences().backlog()
        # Not settimeout(), with which recv() would not wait in the kernel.
        target.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", int(_PATIENCE), 0))
        found = b""
        try:
            while len(found) < _SIZE * _TOO_MANY and (piece := target.recv(_SIZE * _TOO_MANY)):
                found += piece
        except OSError as error:
            return {**steps, "received": name_of(error)}
        return {**steps, "received": "all" if found == b"".join(sent) else "other"}


def _receive(ours: socket.socket, what: str) -> dict[str, str]:
    steps: dict[str, str] = {}
    try:
        if what == "empty-receive":
            # Data is there when this returns.
            ours.recv(1, socket.MSG_PEEK)
            steps["empty"] = str(len(ours.recv(0)))
        steps["received"] = "all" if ours.recv(len(_DATA) + 1) == _DATA else "other"
    except OSError as error:
        steps["received"] = name_of(error)
    return steps


def _keep(stack: ExitStack, descriptor: int) -> int:
    stack.callback(os.close, descriptor)
    return descriptor
