# SPDX-License-Identifier: GPL-2.0-only
"""A socket that the guest cannot create is a reason to skip a case, never a fault of the kernel."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from common.errors import KernelError
from conformance.groups import cases
from conformance.guestlib import able
from conformance.judge.needs import symbols_needed, unmet
from conformance.model import Case, KernelFacts, Verdict
from conformance.run.ability import PROBE, Abilities
from conformance.run.machine_pool import PRELOAD, MachinePool
from conformance.run.try_case import examine
from kernels.kernel import Kernel
from kernels.resolve import resolve
from kernels.version import Version
from tests.conformance.pools import CASE, GOOD, PANICKED, SLUG, STRAY, WARNED, ScriptedPool
from vm.machine import CallStatus, MachineOptions, Reply

ROOT = Path(__file__).resolve().parents[2]
FACTS = KernelFacts(Version(6, 12, 107), {})
BY_ID = {case.id: case for case in cases()}
VSOCK = BY_ID["redirect/sockmap-send-to-local-tcp4-vsock_stream"]
TCP = BY_ID["redirect/sockmap-send-to-local-tcp4-tcp4"]
ANSWER = {"lacking": {"VSOCKETS": "EAFNOSUPPORT", "VSOCKETS_LOOPBACK": "EAFNOSUPPORT"}, "refused": {}}


def kernel(modules: Path | None, **config: str) -> Kernel:
    """Describe a kernel whose files are in a folder."""
    return Kernel(
        spec="x", slug="x", release="6.12.0", version=Version(6, 12), banner="", image=Path("/x"), compressed=None,
        modules=modules, config=config, provenance={}, digest="",
    )  # fmt: skip


def asked(answer: Any, subject: Kernel, case: Case = VSOCK) -> Mapping[str, str]:
    """Return what a case lacks in a guest with these answers."""
    return Abilities().lacking(subject, case, lambda *_: Reply(status=CallStatus.ANSWERED, value=answer))


def indexed(tmp_path: Path, *names: str) -> Path:
    """Write an index of modules."""
    folder = tmp_path / "lib" / "modules" / "6.12.0"
    folder.mkdir(parents=True)
    (folder / "modules.dep").write_text("".join(f"kernel/net/{name}.ko:\n" for name in names))
    return tmp_path


@pytest.mark.parametrize(
    ("names", "refused", "said"),
    [
        (None, {}, "the kernel came without modules, so its module vsock is missing"),
        (("tls",), {}, "the kernel's module vsock is missing"),
        (("vsock",), {"vsock": "Exec format error"}, "the guest's kernel refuses its module vsock: Exec format error"),
        (("vsock",), {}, "the kernel's module vsock is not loaded: EAFNOSUPPORT"),
    ],
)
def test_the_reason_names_the_module(
    names: tuple[str, ...] | None, refused: dict[str, str], said: str, tmp_path: Path
) -> None:
    """For a symbol set to `m` the reason names the missing module."""
    modules = None if names is None else indexed(tmp_path, *names)
    assert asked(ANSWER | {"refused": refused}, kernel(modules, VSOCKETS="m"))["VSOCKETS"] == said


def test_a_family_that_is_switched_off_is_named() -> None:
    """Without a missing module, as with ipv6.disable=1, the reason has the symbol and the errno."""
    case = BY_ID["redirect/sockmap-send-to-local-tcp6-tcp6"]
    lacking = asked({"lacking": {"IPV6": "EAFNOSUPPORT"}}, kernel(None, IPV6="y"), case)
    assert lacking == {"IPV6": "the guest cannot make a socket of CONFIG_IPV6: EAFNOSUPPORT"}
    ground = unmet(case, FACTS, lacking)
    assert ground is not None
    assert ground.reason == f"{lacking['IPV6']}, which disables every case with an IPv6 socket"
    assert ground.row == "ipv6"


def test_a_guest_is_asked_once_and_only_what_a_case_needs() -> None:
    """A known answer is not asked again, and only sockets of the run's cases are tried."""
    abilities, history = Abilities(), []

    def ask(function: str, arguments: Mapping[str, Any]) -> Reply:
        history.append((function, tuple(arguments["symbols"])))
        return Reply(status=CallStatus.ANSWERED, value={"lacking": {}, "refused": {}})

    for case in (TCP, VSOCK, TCP, VSOCK):
        assert abilities.lacking(kernel(None, INET="y"), case, ask) == {}
    assert history == [(PROBE, ("INET",)), (PROBE, ("VSOCKETS", "VSOCKETS_LOOPBACK"))]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=CallStatus.PANICKED),
        Reply(status=CallStatus.ANSWERED, value=[1]),
        Reply(status=CallStatus.ANSWERED, value={"lacking": [1], "refused": 7}),
        Reply(status=CallStatus.ANSWERED, value={"lacking": {"UNIX": "x"}}),
    ],
)
def test_an_invalid_answer_is_no_lack(reply: Reply) -> None:
    """A guest without a valid answer is judged by its cases."""
    assert Abilities().lacking(kernel(None), VSOCK, lambda *_: reply) == {}


class Unable(ScriptedPool):
    """Has a guest without VSOCK, or none at all."""

    broken = False
    was_asked = False

    def lacking(self, slug: str, case: Case) -> Mapping[str, str]:
        """Return what is missing."""
        if self.broken:
            raise KernelError("it does not boot")
        self.was_asked = True
        return asked(ANSWER, kernel(None, VSOCKETS="m"), case) if case is VSOCK else {}

    def known_lacking(self, slug: str, case: Case) -> Mapping[str, str]:
        """Return the same once it was asked."""
        return self.lacking(slug, case) if self.was_asked else {}


def test_what_the_guest_cannot_do_is_skipped() -> None:
    """A case whose socket could not be created is a skip, and the next one like it is not asked."""
    pool = Unable(STRAY)
    judgement, record = examine(pool, SLUG, VSOCK)
    assert (judgement.verdict, record["verdict"]) == (Verdict.SKIP, "skip")
    assert "its module vsock is missing" in judgement.reason
    assert examine(pool, SLUG, VSOCK)[0].verdict is Verdict.SKIP
    assert pool.history == ["ask"]


def test_a_skip_names_what_is_missing() -> None:
    """A case that itself says that it has no such socket is a skip that names the module, if the guest can tell."""
    bare = Reply(status=CallStatus.ANSWERED, value={"steps": {"available": "EAFNOSUPPORT"}})
    case = BY_ID["stream/end-verdict-tcp6-egress-other-fin-vsock_stream"]
    told = asked(ANSWER, kernel(None, VSOCKETS="m"), case)
    for lacking, words in (
        (told, "its module vsock is missing"),
        ({}, "cannot make a socket or program that the case needs: EAFNOSUPPORT"),
    ):
        pool = ScriptedPool(bare)
        pool.lacking = lambda slug, case, lacking=lacking: lacking  # type: ignore[method-assign, misc]
        judgement, _ = examine(pool, SLUG, case)
        assert judgement.verdict is Verdict.SKIP
        assert words in judgement.reason


def test_a_case_that_passes_asks_for_nothing() -> None:
    """A case that passes asks the guest nothing: that would cost time in each clone."""
    pool = Unable(GOOD)
    assert examine(pool, SLUG, CASE)[0].verdict is Verdict.PASS
    assert not pool.was_asked


@pytest.mark.parametrize("answer", [PANICKED, WARNED])
def test_a_kernel_in_trouble_is_no_guest_that_lacks_something(answer: Reply) -> None:
    """The verdict of a kernel that died or warned stands, whatever sockets its guest lacks."""
    pool = Unable(answer, answer)
    assert examine(pool, SLUG, VSOCK)[0].verdict in (Verdict.PANIC, Verdict.SPLAT)
    assert not pool.was_asked


def test_a_case_stays_wrong_where_no_machine_can_tell() -> None:
    """If no machine answers what the guest lacks, the failure stands."""
    pool = Unable(STRAY, STRAY)
    pool.broken = True
    assert examine(pool, SLUG, VSOCK)[0].verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("family", "symbol"), [("tcp6", "IPV6"), ("udp6", "IPV6"), ("unix_", "UNIX"), ("vsock_", "VSOCKETS")]
)
def test_every_case_needs_the_families_that_it_names(family: str, symbol: str) -> None:
    """In every group, whatever the parameter is called: without the family the case is skipped."""
    naming = [
        case for case in cases() if any(f"-{family}" in f"-{part}" for part in (case.name, *case.params.values()))
    ]
    assert len({case.group for case in naming}) > 8
    others = {need: "y" for need in symbols_needed() if need != symbol}
    facts = KernelFacts(Version(6, 12, 107), others)
    grounds = {case.id: unmet(case, facts) for case in naming}
    assert [name for name, ground in grounds.items() if ground is None] == []


def test_every_symbol_of_a_socket_is_probed() -> None:
    """Each probe has a symbol in needs.toml, and each symbol of a family, a protocol or its options has a probe."""
    others = ("BPF", "CRYPTO", "CGROUP", "DEBUG", "NETFILTER", "SECURITY", "MPTCP_IPV6", "PROC_FS", "USER_NS", "NET_NS")
    assert {*able.SYMBOLS, *able.FEATURES} <= set(symbols_needed())
    probed = {*able.SYMBOLS, "AF_UNIX_OOB"}
    assert {each for each in symbols_needed() if not each.startswith(others)} <= probed


PARSER = BY_ID["attach/hand-sockmap-parser"]
CGROUP = BY_ID["enrol/sock_ops-plain-sockmap-tcp4-active-target"]


@pytest.mark.parametrize(("case", "symbol"), [(PARSER, "BPF_STREAM_PARSER"), (CGROUP, "CGROUP_BPF")])
def test_a_kernel_of_unknown_configuration_is_asked_for_features(case: Case, symbol: str) -> None:
    """A program that the guest's kernel does not know is a skip with its symbol; a configuration is believed."""
    abilities, questions = Abilities(), []

    def ask(_: str, arguments: Mapping[str, Any]) -> Reply:
        questions.append(arguments["symbols"])
        return Reply(status=CallStatus.ANSWERED, value={"lacking": {symbol: "EINVAL"}, "refused": {}})

    lacking = abilities.lacking(kernel(None), case, ask)
    need = unmet(case, FACTS, lacking)

    assert symbol in questions[0]
    assert need is not None
    assert need.reason.startswith(
        f"the guest's kernel seems to be built without CONFIG_{symbol}: EINVAL, which disables"
    )
    assert abilities.known(case) == lacking
    assert symbol not in asked({"lacking": {symbol: "EINVAL"}}, kernel(None, **{symbol: "y"}), case)


@pytest.mark.parametrize(
    ("feature", "number", "lacks"),
    [
        ("CGROUP_BPF", errno.EINVAL, True), ("BPF_STREAM_PARSER", errno.EOPNOTSUPP, True),
        ("CGROUP_BPF", errno.EPERM, False), ("BPF_STREAM_PARSER", errno.ENOMEM, False),
    ],
)  # fmt: skip
def test_features_are_absent_by_what_the_kernel_says_of_the_unknown(
    monkeypatch: pytest.MonkeyPatch, feature: str, number: int, *, lacks: bool
) -> None:
    """EINVAL for a type of program, EOPNOTSUPP for a way to attach; no module is loaded again for that."""

    def fail() -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setitem(able._FEATURES, feature, fail)
    monkeypatch.setattr(able, "_refused", lambda: {"x": "asked"})
    found = able.lacking({"symbols": [feature], "modules": True})
    assert found == {"lacking": {feature: errno.errorcode[number]} if lacks else {}, "refused": {}}


@pytest.mark.vm
@pytest.mark.parametrize("spec", ["debian:6.12", "debian:6.1"])
def test_debians_kernels_have_every_feature(spec: str) -> None:
    """The probes find in a guest what its kernel has: a skip by mistake would hide a fault."""
    subject = resolve(spec)
    pool = MachinePool({SLUG: subject}, MachineOptions(preload=PRELOAD))
    with contextlib.closing(pool):
        pool.prepare(SLUG, lambda _: None)
        symbols = [each for each in able.FEATURES if subject.config.get(each) == "y"]
        reply = pool.machine(SLUG).call(PROBE, {"symbols": symbols, "modules": True}, deadline=5.0)

    assert len(symbols) > 5
    assert reply.value == {"lacking": {}, "refused": {}}


def test_the_probe_says_what_this_kernel_has() -> None:
    """An existing family is not lacking, a missing one is, and an unusual errno is not a lack."""
    assert able.lacking({"symbols": ["INET", "UNIX"], "modules": False}) == {"lacking": {}, "refused": {}}


@pytest.mark.parametrize(
    ("number", "lacks"), [(errno.EAFNOSUPPORT, True), (errno.EADDRNOTAVAIL, True), (errno.EPERM, False)]
)
def test_only_absence_is_absence(monkeypatch: pytest.MonkeyPatch, number: int, *, lacks: bool) -> None:
    """A refusal for another reason than a missing kind is left to the cases."""

    def fail() -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setitem(able._PROBES, "VSOCKETS", fail)
    found = able.lacking({"symbols": ["VSOCKETS"], "modules": False})["lacking"]
    assert found == ({"VSOCKETS": errno.errorcode[number]} if lacks else {})
