# SPDX-License-Identifier: GPL-2.0-only
"""Enrol a socket that is ours, or that its owner has handed over by SCM_RIGHTS."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from contextlib import closing

from conformance.guestlib import sockets
from conformance.guestlib.owner import Elsewhere
from conformance.guestlib.owner import Here
from conformance.guestlib.owner import another
from conformance.guestlib.proof import Proof
from conformance.guestlib.proof import possible

Steps = dict[str, str]


def own(params: Mapping[str, str], steps: Steps) -> None:
    """Insert a socket of this process by the descriptor or the duplicate that `by` says, and close the descriptor."""
    with closing(Proof(params)) as proof:
        with possible(steps):
            ours, peer = sockets.pair(params["kind"])
        with closing(Here(ours, params["kind"])) as owner:
            proof.introduce(owner, peer)
            duplicate = os.dup(ours.fileno())
            steps["insert"] = proof.enrol(ours.fileno() if params["by"] == "descriptor" else duplicate)
            inserted = steps["insert"] == "ok"
            if inserted:
                steps["lookup"] = proof.looked_up()
            proof.prove(steps)
        if inserted:
            steps["lookup-closed"] = proof.looked_up()
            proof.watch("duplicate", duplicate)
            steps["redirect-closed"] = proof.redirected()
        proof.unwatch("duplicate")
        os.close(duplicate)
        if inserted:
            steps["lookup-gone"] = proof.looked_up()


def handed_over(params: Mapping[str, str], steps: Steps) -> None:
    """Insert a socket whose `sender` keeps it, closes it, or exits while the descriptor is in flight."""
    with closing(Proof(params)) as proof, ExitStack() as stack:
        if params["sender"] == "exits":
            sender = Elsewhere()
            stack.callback(sender.end)
        else:
            sender = another()
            stack.callback(sender.close)
        proof.meet(sender, steps)
        sender.hand_over()
        if params["sender"] == "closes":
            sender.close()
        elif params["sender"] == "exits":
            sender.kill()
            sender.reap()
        taken = sender.take()
        if params["sender"] != "keeps":
            proof.watch("duplicate", taken)
        steps["insert"] = proof.enrol(taken)
        inserted = steps["insert"] == "ok"
        if inserted:
            steps["lookup"] = proof.looked_up()
        if params["sender"] == "keeps":
            proof.prove(steps)
        elif inserted:
            steps["redirect"] = proof.redirected()
        proof.unwatch("duplicate")
        os.close(taken)
        if inserted:
            steps["lookup-closed"] = proof.looked_up()
        if inserted and params["sender"] == "keeps":
            sender.close()
            steps["lookup-gone"] = proof.looked_up()
