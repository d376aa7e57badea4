# SPDX-License-Identifier: GPL-2.0-only
"""The attachment scenarios on the running kernel: they report what they see, also when it is wrong."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bpf.privilege import needs_bpf
from tests.conformance.scenario_host import ask, open_host
from vm.session import Session

pytestmark = needs_bpf

FAULTS = """
import os

from bpf.guest import assemble as asm
from bpf.guest import links
from conformance.groups.attach.guest import scenario as attach
from conformance.groups.attach.guest import effect as attach_effect
from conformance.groups.attach.guest import link as attach_link
from bpf.guest.contexts import CONTEXTS
from conformance.groups.update_from_bpf.guest import scenario as update_from_bpf

MODULES = {"attach": attach, "attach_effect": attach_effect, "attach_link": attach_link}

def carry_out(arguments):
    module, function = arguments["scenario"].split(":")
    saved = {name: getattr(links, name) for name in ("attach", "detach", "detach_link")}
    for name in arguments["broken"]:
        setattr(links, name, lambda *whatever: None)
    try:
        return getattr(MODULES[module], function)(arguments["params"])["steps"]
    finally:
        for name, function in saved.items():
            setattr(links, name, function)

def load(arguments):
    code = {"nothing": b"", "helper": asm.call(arguments["helper"]), "context": asm.load(asm.R0, asm.R1, 9999)}
    return update_from_bpf.try_load(CONTEXTS[arguments["program"]], code[arguments["what"]])
"""


@pytest.fixture(name="host", scope="module")
def fixture_host() -> Iterator[Session]:
    """This host, and ways to break what the scenarios call."""
    with open_host(FAULTS) as session:
        yield session


def steps(host: Session, scenario: str, *broken: str, **params: str) -> dict[str, str]:
    """Carry out a case with some calls to the kernel left out."""
    found = ask(host, "carry_out", scenario=scenario, broken=list(broken), params=params)
    assert isinstance(found, dict)
    return found


HAND = ["empty: holds", "attached: holds", "replaced: holds", "detached: holds"]


def test_programs_that_a_map_holds_are_named(host: Session) -> None:
    """The program held is named, not counted."""
    seen = steps(host, "attach:by_hand", attach="sk_msg_verdict", map="sockhash")
    assert [seen[step] for step in HAND] == ["none", "first", "second", "none"]


def test_an_attachment_that_did_not_happen_is_seen(host: Session) -> None:
    """A kernel that reports success and does not attach is found out."""
    seen = steps(host, "attach:by_hand", "attach", attach="sk_msg_verdict", map="sockmap")
    assert [seen[step] for step in ["attach", *HAND]] == ["ok", "none", "none", "none", "none"]


def test_a_detachment_that_did_not_happen_is_seen(host: Session) -> None:
    """The same for detaching, by hand and by a link."""
    seen = steps(host, "attach:by_hand", "detach", attach="sk_skb_verdict", map="sockmap")
    assert seen["detached: holds"] == "second"
    seen = steps(host, "attach_link:detach", "detach_link", attach="sk_skb_verdict", map="sockmap")
    assert (seen["detached: holds"], seen["detached: update"]) == ("first", "ok")


@pytest.mark.parametrize("attach", ["sk_skb_verdict", "sk_skb_stream_verdict", "sk_msg_verdict"])
def test_the_program_that_ran_is_named(host: Session, attach: str) -> None:
    """Each program counts its own runs; data for which none ran is native."""
    seen = steps(host, "attach_effect:frozen", attach=attach, kind="tcp4", map="sockmap", change="replace")
    assert [seen[step] for step in ("data", "deleted: data", "inserted again: data")] == ["first", "native", "second"]
    seen = steps(host, "attach_effect:frozen", "attach", attach=attach, kind="tcp4", map="sockmap", change="replace")
    assert [seen[step] for step in ("data", "inserted again: data")] == ["native", "native"]


def test_nothing_of_a_case_is_left(host: Session) -> None:
    """Cases that pin, mount and make maps of maps close and remove everything."""
    cases = [
        ("attach_link:pinned", {"attach": "sk_msg_verdict", "map": "sockmap"}),
        ("attach_link:hold", {"attach": "sk_msg_verdict", "map": "sockhash"}),
        ("attach:targets", {"attach": "sk_msg_verdict", "what": "map_of_sockmaps"}),
        ("attach_effect:conflict", {"first": "msg", "kind": "udp4", "maps": "sockmap-sockhash"}),
    ]
    for function, params in cases:
        steps(host, function, **params)
    before = ask(host, "descriptors")
    for function, params in cases:
        steps(host, function, **params)
    assert ask(host, "descriptors") == before


@pytest.mark.parametrize(
    ("what", "program", "answer"),
    [
        ("nothing", "xdp", "ok"),
        ("helper", "xdp", "helper:EINVAL"),
        ("context", "xdp", "context:EACCES"),
        ("helper", "sk_skb", "verifier:EACCES"),
    ],
)
def test_refusals_of_the_verifier_are_classified(host: Session, what: str, program: str, answer: str) -> None:
    """Its log becomes one word; a helper that is called with the wrong registers is none of them."""
    helper = {"xdp": 60, "sk_skb": 52}[program]
    assert ask(host, "load", what=what, program=program, helper=helper) == answer
