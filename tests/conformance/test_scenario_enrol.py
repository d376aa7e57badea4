# SPDX-License-Identifier: GPL-2.0-only
"""The enrolment and steering scenarios on the running kernel: they report what they see, planted faults included."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conformance.groups import GROUPS
from tests.bpf.privilege import needs_bpf, needs_tracing
from tests.conformance.scenario_host import ask, open_host
from vm.session import Session

pytestmark = needs_bpf

CODE = """
import os
import socket

from bpf.guest import hooks, syscall
from conformance.groups.enrol.guest import scenario as enrol
from conformance.groups.enrol.guest import iterator as enrol_iterator
from conformance.groups.enrol.guest import refused as enrol_refused
from conformance.groups.enrol.guest import sock_ops as enrol_sock_ops
from conformance.groups.enrol.guest import descriptors as enrol_stolen
from conformance.groups.enrol.guest import setup
from conformance.guestlib import child
from conformance.guestlib import pidfd
from conformance.guestlib import sockets
from conformance.guestlib import traffic
from conformance.groups.steer.guest import scenario as steer

setup._GRACE = 0.05

def variants(arguments):
    modules = {"pidfd": enrol_stolen, "sock_ops": enrol_sock_ops, "iterator": enrol_iterator, "steer": steer}
    found = {name: sorted(module.VARIANTS) for name, module in modules.items()}
    return found | {"ways": sorted([*enrol.WAYS, enrol.REFUSED]), "why": sorted(enrol_refused.REASONS)}

def carry_out(arguments):
    run = steer.run if "way" not in arguments["params"] else enrol.run
    undo = FAULTS[arguments["fault"]]() if arguments["fault"] else lambda: None
    try:
        return run(arguments["params"])["steps"]
    finally:
        undo()

def replacing(where, name, other):
    def plant():
        original = getattr(where, name)
        setattr(where, name, other(original))
        return lambda: setattr(where, name, original)
    return plant

def of_a_stranger(steal):
    # A descriptor of another socket than the one asked for.
    return lambda *arguments: sockets.bound("udp4").detach()

def twice(send):
    def run(through, data):
        send(through, data)
        return send(through, data)
    return run

def cut(send):
    return lambda through, data: (send(through, data[:-1]), "ok")[1]

def lost(send):
    return lambda through, data: "ok"

FAULTS = {
    "not inserted": replacing(syscall, "update_wide", lambda update: lambda *arguments: None),
    "stolen from a stranger": replacing(pidfd, "steal", of_a_stranger),
    "sent twice": replacing(traffic, "send", twice),
    "cut": replacing(traffic, "send", cut),
    "lost": replacing(traffic, "send", lost),
    "not iterated": replacing(hooks, "iterate", lambda iterate: lambda *arguments: iter(())),
}

def kept(arguments):
    # What the process that is kept has open, before and after a case.
    def count():
        return sorted(os.listdir(f"/proc/{child.shared().pid}/fd"))
    before = count()
    enrol.run(arguments["params"])
    return [before, count()]

def moved(arguments):
    # A descriptor in flight outlives its sender.
    sender = child.Child()
    peer = child.make_connected(sender, "tcp4")
    sender.command("hand_over")
    sender.kill()
    sender.reap()
    with socket.socket(fileno=sender.take()) as taken, peer:
        same = sockets.cookie_of(taken) == sender.cookie
        peer.send(b"late")
        data = taken.recv(8).decode()
    sender.end()
    return [same, data]

def apart(arguments):
    # A thread with descriptors of its own; those of the process stay as they are.
    sender = child.Child()
    thread = sender.enter_thread()
    with child.make_connected(sender, "udp4"):
        hidden = not os.path.exists(f"/proc/{sender.pid}/fd/{sender.number}")
        shown = os.path.exists(f"/proc/{thread}/fd/{sender.number}")
        sender.close()
    sender.leave_thread()
    answers = sender.command("tell_thread") == sender.pid
    sender.end()
    return [hidden, shown, answers]

def deferred(arguments):
    kept, option = child.shared(), (socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT)
    kept.own("listen", "tcp4")
    kept.command("apply", "setsockopt", *option, 1)
    value = kept.command("apply", "getsockopt", *option)
    kept.close()
    return value > 0

def gone(arguments):
    # Cgroups go with the process they were made for.
    enrol.run(arguments["params"])
    kept = child.shared()
    from conformance.guestlib import cgroups
    paths = cgroups.cgroups_of(kept)
    there = os.path.isdir(paths["inner"])
    kept._control.close()
    os.waitpid(kept.pid, 0)
    child._kept.clear()
    return [there, os.path.exists(paths["outer"]) or os.path.exists(paths["beside"])]
"""


@pytest.fixture(name="host", scope="module")
def fixture_host() -> Iterator[Session]:
    """This host, with planted faults."""
    with open_host(CODE) as session:
        yield session


def steps(host: Session, fault: str = "", **params: str) -> dict[str, str]:
    """Carry out a case."""
    found = ask(host, "carry_out", params=params, fault=fault)
    assert isinstance(found, dict)
    return found


PLAIN = {"way": "pidfd", "variant": "plain", "map": "sockhash", "kind": "tcp4", "role": "target"}


def test_the_guest_knows_what_is_asked_for(host: Session) -> None:
    """Ways, variants and reasons are the same on both sides."""
    asked: dict[str, set[str]] = {"ways": set(), "why": set()}
    for case in (*GROUPS["enrol"].cases(), *GROUPS["steer"].cases()):
        way = case.params.get("way", case.group)
        asked.setdefault(way, set()).add(case.params.get("variant", ""))
        asked["ways"] |= {way} - {"steer"}
        asked["why"] |= {case.params["why"]} if "why" in case.params else set()
    found = ask(host, "variants")
    assert found == {name: sorted(asked[name]) for name in found}


def test_a_stolen_socket_is_proved(host: Session) -> None:
    """The duplicate is the owner's socket, data is redirected through it, and the owner still uses it."""
    seen = steps(host, **PLAIN)
    assert (seen["identity"], seen["lookup"], seen["redirect"]) == ("same", "cookie", "data: peer")
    assert (seen["send"], seen["receive"], seen["lookup-gone"]) == ("data: peer", "data: owner", "ENOENT")


def test_a_socket_outlives_its_owner(host: Session) -> None:
    """A child that waits for data is killed, and no redirected data is lost."""
    seen = steps(host, **PLAIN | {"variant": "owner-killed", "kind": "tcp4", "role": "source"})
    assert (seen["redirect"], seen["redirect-killed"]) == ("data: far", "data: far")
    assert (seen["lookup-killed"], seen["lookup-gone"]) == ("cookie", "ENOENT")


def test_a_connection_that_is_early_is_enrolled(host: Session) -> None:
    """A listener opened first of all belongs to the child's cgroup, so that its connections are seen."""
    params = {"way": "sock_ops", "map": "sockmap", "kind": "tcp4", "side": "passive", "role": "target"}
    assert steps(host, variant="early", data="deferred", **params)["enrol"] == "ok"


def test_the_child_sets_and_gets_options(host: Session) -> None:
    """The child sets TCP_DEFER_ACCEPT on its listener and reads it back."""
    assert ask(host, "deferred")


def test_a_stolen_wrong_socket_is_seen(host: Session) -> None:
    """A descriptor of another socket is not taken for the owner's."""
    seen = steps(host, "stolen from a stranger", **PLAIN)
    assert seen["identity"] == "cookie False, kcmp different"
    assert seen["lookup"] == "another cookie"


def test_an_insertion_that_did_not_happen_is_seen(host: Session) -> None:
    """A kernel that reports success and does not insert is found out."""
    seen = steps(host, "not inserted", way="own", map="sockmap", kind="udp4", role="target", by="descriptor")
    assert (seen["insert"], seen["lookup"]) == ("ok", "ENOENT")
    assert "nowhere" in seen["redirect"] or "near" in seen["redirect"]


@pytest.mark.parametrize(
    ("fault", "redirect"),
    [
        ("sent twice", "data: peer (sent + sent)"),
        ("cut", "data: peer (767 bytes not sent so)"),
        ("lost", "data: nowhere"),
    ],
)
def test_data_that_is_not_what_was_sent_is_seen(host: Session, fault: str, redirect: str) -> None:
    """Doubled, truncated and lost data is described as such."""
    seen = steps(host, fault, way="own", map="sockmap", kind="udp4", role="target", by="descriptor")
    assert seen["redirect"] == redirect


@needs_tracing
def test_an_iterator_that_did_not_run_is_seen(host: Session) -> None:
    """A copy is judged by its content."""
    params = {"way": "iterator", "variant": "copy", "from": "sockmap", "map": "sockhash", "kind": "udp4"}
    seen = steps(host, "not iterated", **params, role="source")
    assert (seen["copied"], seen["lookup"], seen["redirect"]) == ("0", "ENOENT", "data: owner")


def test_the_socket_that_gets_a_connection_is_named(host: Session) -> None:
    """With an empty map the kernel's own choice gets it, else the socket in the map."""
    seen = steps(host, hook="sk_lookup", map="sockmap", kind="tcp6", variant="plain")
    assert (seen["to-empty"], seen["to-refused"], seen["to"]) == ("native", "ECONNREFUSED", "chosen")
    seen = steps(host, "not inserted", hook="sk_lookup", map="sockmap", kind="tcp6", variant="plain")
    assert (seen["to"], seen["program"]) == ("native", "ENOENT")


def test_the_child_process_keeps_nothing(host: Session) -> None:
    """A case leaves no descriptor behind in the process that serves the next."""
    before, after = ask(host, "kept", params=PLAIN)
    assert before == after


def test_a_descriptor_in_flight_outlives_its_sender(host: Session) -> None:
    """A descriptor sent before its sender was killed and reaped is received."""
    assert ask(host, "moved") == [True, "late"]


def test_a_thread_has_descriptors_of_its_own(host: Session) -> None:
    """Its descriptors are not in the table of the process, which works as before afterwards."""
    assert ask(host, "apart") == [True, True, True]


def test_cgroups_are_removed(host: Session) -> None:
    """The cgroups are removed with their process."""
    params = {"way": "sock_ops", "variant": "plain", "map": "sockmap", "kind": "tcp4", "side": "active"}
    assert ask(host, "gone", params=params | {"role": "target"}) == [True, False]
