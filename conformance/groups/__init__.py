# SPDX-License-Identifier: GPL-2.0-only
"""All cases, in a stable order: a group is one entry and one folder here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from conformance.expect.rules import CONTROL
from conformance.groups.ancillary import cases as ancillary
from conformance.groups.attach import cases as attach
from conformance.groups.enrol import cases as enrol
from conformance.groups.group import Group
from conformance.groups.hammer import cases as hammer
from conformance.groups.insert import cases as insert
from conformance.groups.kinds import FAMILIES
from conformance.groups.leaks import cases as leaks
from conformance.groups.listen import cases as listen
from conformance.groups.pressure import cases as pressure
from conformance.groups.readiness import cases as readiness
from conformance.groups.redirect import cases as redirect
from conformance.groups.redirect.expectation import deciding
from conformance.groups.redirect.judge import answers, judge_redirect
from conformance.groups.shape import cases as shape
from conformance.groups.steer import cases as steer
from conformance.groups.stream import cases as stream
from conformance.groups.survive import cases as survive
from conformance.groups.teardown import cases as teardown
from conformance.groups.tls import cases as tls
from conformance.groups.update_from_bpf import cases as update_from_bpf
from conformance.model import Case

_ALL: Final = (
    Group(
        "redirect",
        redirect.PROMISE,
        redirect.redirect_cases,
        judge=judge_redirect,
        decided=deciding,
        answers=answers,
        warm_up=redirect.WARM_UP,
        matrix=True,
    ),
    Group("insert", insert.PROMISE, insert.insert_cases),
    Group("attach", attach.PROMISE, attach.attach_cases),
    Group("update_from_bpf", update_from_bpf.PROMISE, update_from_bpf.update_from_bpf_cases),
    Group("enrol", enrol.PROMISE, enrol.enrol_cases, warm_up=enrol.WARM_UP),
    Group("steer", steer.PROMISE, steer.steer_cases),
    Group("listen", listen.PROMISE, listen.listen_cases, warm_up=listen.WARM_UP),
    Group("shape", shape.PROMISE, shape.shape_cases, warm_up=shape.WARM_UP),
    Group(
        "teardown",
        teardown.PROMISE,
        teardown.teardown_cases,
        families={**FAMILIES, **teardown.FAMILIES},
        warm_up=teardown.WARM_UP,
    ),
    Group("readiness", readiness.PROMISE, readiness.readiness_cases, warm_up=readiness.WARM_UP),
    Group("pressure", pressure.PROMISE, pressure.pressure_cases, warm_up=pressure.WARM_UP),
    Group("ancillary", ancillary.PROMISE, ancillary.ancillary_cases, warm_up=ancillary.WARM_UP),
    Group("stream", stream.PROMISE, stream.stream_cases),
    Group("tls", tls.PROMISE, tls.tls_cases),
    # The control: as many sockets that were never in a map. The kernel must not keep more of those that were.
    Group("leaks", leaks.PROMISE, leaks.leak_cases, ground=CONTROL),
    Group("survive", survive.PROMISE, survive.survive_cases),
    # The control: threads that use sockets outside of maps end, and leak nothing.
    Group("hammer", hammer.PROMISE, hammer.hammer_cases, ground=CONTROL, stress=True),
)

GROUPS: Final[Mapping[str, Group]] = {group.name: group for group in _ALL}


def cases() -> tuple[Case, ...]:
    """List every case of every group."""
    return tuple(case for group in GROUPS.values() for case in group.cases())
