# SPDX-License-Identifier: GPL-2.0-only
"""The expectation tables, compared with what real kernels of these versions did."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import pytest

from common.errors import KernelError, UsageError
from conformance.expect.verified import newest_known, note
from conformance.groups.kinds import KINDS
from conformance.groups.redirect.cases import MODES, redirect_cases
from conformance.groups.redirect.expectation import expected_outcome, table
from conformance.groups.redirect.outcomes import OUTCOMES
from conformance.judge import needs
from conformance.judge.needs import unmet
from tests.conformance.observations import case, facts

GLYPHS = {
    "delivered": "+",
    "native": "-",
    "refused-EACCES": "E",
    "dropped": "o",
    "not-inserted-EOPNOTSUPP": "x",
    "no-socket-ESOCKTNOSUPPORT": "n",
}

# Rows are IN, columns OUT, both in the order tcp4 tcp6 udp4 udp6 unix_stream unix_dgram vsock_stream vsock_seqpacket.
FROM_TCP_ONLY = "++++++EE ++++++EE -------- -------- -------- -------- -------- --------"
TCP_TO_TCP = "++EEEEEE ++EEEEEE -------- -------- -------- -------- -------- --------"
ANY_TO_ANY = " ".join(["++++++++"] * 8)
NOT_TO_VSOCK = " ".join(["++++++oo"] * 8)
SINCE_6_12 = (FROM_TCP_ONLY, TCP_TO_TCP, ANY_TO_ANY, NOT_TO_VSOCK)

NO_VSOCK_MSG_LOCAL = "++++++xx ++++++xx ------xx ------xx ------xx ------xx xxxxxxxx xxxxxxxx"
NO_VSOCK_MSG_EGRESS = "++EEEExx ++EEEExx ------xx ------xx ------xx ------xx xxxxxxxx xxxxxxxx"
NO_VSOCK_SKB = "++++++xx ++++++xx ++++++xx ++++++xx ++++++xx ++++++xx xxxxxxxx xxxxxxxx"
IN_6_1 = (NO_VSOCK_MSG_LOCAL, NO_VSOCK_MSG_EGRESS, NO_VSOCK_SKB, NO_VSOCK_SKB)

MSG_5_10 = "++EExxxn ++EExxxn ----xxxn ----xxxn xxxxxxxn xxxxxxxn xxxxxxxn nnnnnnnn"
SKB_5_10 = "++ooxxxn ++ooxxxn ----xxxn ----xxxn xxxxxxxn xxxxxxxn xxxxxxxn nnnnnnnn"
IN_5_10 = (MSG_5_10, MSG_5_10, SKB_5_10, SKB_5_10)

UNGUARDED_VSOCK = (FROM_TCP_ONLY.replace("EE", "++"), TCP_TO_TCP, ANY_TO_ANY, ANY_TO_ANY)


def matrix(version: str, map_: str, mode: str) -> str:
    """Return the expectations of one mode as eight words, one for each IN."""
    rows = (
        "".join(GLYPHS[expected_outcome(case(f"{map_}-{mode}-{in_}-{out}"), facts(version)).name] for out in KINDS)
        for in_ in KINDS
    )
    return " ".join(rows)


@pytest.mark.parametrize(
    ("version", "matrices"),
    [
        ("5.10.223", IN_5_10),
        ("5.10.262", IN_5_10),
        ("6.1.176", IN_6_1),
        ("6.1.192", IN_6_1),
        ("6.6.14", UNGUARDED_VSOCK),
        ("6.6.60", SINCE_6_12),
        ("6.12.107", SINCE_6_12),
        ("6.18.15", SINCE_6_12),
        ("7.3.4", SINCE_6_12),
    ],
)
def test_the_four_matrices(version: str, matrices: tuple[str, ...]) -> None:
    """Every cell of every mode matches what that kernel did (6.6: its source), in both map types."""
    for map_, (mode, expected) in itertools.product(("sockmap", "sockhash"), zip(MODES, matrices, strict=True)):
        assert matrix(version, map_, mode) == expected, (map_, mode)


@pytest.mark.parametrize(
    "version", ["5.10", "5.10.223", "5.15", "6.1.176", "6.4", "6.6.14", "6.12-rc1", "7.3.4", "9.9"]
)
def test_every_case_has_an_expectation_with_a_reason_on_every_kernel(version: str) -> None:
    """No case is without an answer from 5.10 on, and every answer says why."""
    for each in redirect_cases():
        expected = expected_outcome(each, facts(version))
        assert expected.reason
        assert expected.outcome is OUTCOMES.get(expected.name)


def test_a_kernel_older_than_the_tables_is_refused() -> None:
    """A kernel older than the tables is refused."""
    with pytest.raises(KernelError, match=r"says nothing of .* 4\.13") as error:
        expected_outcome(case("sockmap-send-to-local-tcp4-tcp4"), facts("4.13"))
    assert "begin at" in error.value.hint


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [
        # 5459cce6bf49 refuses a parser on anything but TCP from 6.14, 6.13.5 and 6.12.17 on.
        ("ingress-to-egress-udp4-parser", "6.1.176", "native"),
        ("ingress-to-egress-udp4-parser", "6.12.16", "native"),
        ("ingress-to-egress-udp4-parser", "6.12.17", "not-inserted-EOPNOTSUPP"),
        ("ingress-to-egress-udp4-parser", "6.13.4", "native"),
        ("ingress-to-egress-udp4-parser", "7.3.4", "not-inserted-EOPNOTSUPP"),
        ("ingress-to-egress-tcp6-parser", "5.10.223", "delivered"),
        ("ingress-to-egress-tcp6-parser", "7.3.4", "delivered"),
        # The target is IN: with BPF_F_INGRESS the data passes, without it the data is echoed.
        ("ingress-to-local-udp4-self", "6.1.176", "delivered"),
        ("ingress-to-local-vsock_stream-self", "6.12.107", "dropped"),
        ("send-to-egress-tcp4-self", "5.10.223", "delivered"),
        ("send-to-egress-udp4-self", "6.12.107", "native"),
        # The target is IN's peer: what it sends comes back to IN and its program.
        ("ingress-to-egress-unix_dgram-peer", "6.12.107", "circulates"),
        ("ingress-to-egress-tcp4-peer", "5.10.223", "circulates"),
        ("ingress-to-egress-udp4-peer", "5.10.223", "native"),
        ("ingress-to-local-tcp4-peer", "6.12.107", "delivered"),
        ("send-to-local-tcp4-same_map", "5.10.223", "delivered"),
    ],
)
def test_the_extra_layouts(name: str, version: str, expected: str) -> None:
    """Layouts other than the plain one have their own rows where they behave differently."""
    assert expected_outcome(case(f"sockmap-{name}"), facts(version)).name == expected


def test_before_5_13_a_verdict_falls_back_to_a_stream_verdict() -> None:
    """5.10 answers EINVAL to BPF_SK_SKB_VERDICT; the second attempt is part of what is expected."""
    name = case("sockmap-ingress-to-egress-tcp4-tcp4")
    assert expected_outcome(name, facts("5.10.223")).attach == (
        ("sk_skb_verdict", "EINVAL"),
        ("sk_skb_stream_verdict", "ok"),
    )
    assert expected_outcome(name, facts("6.1.176")).attach == (("sk_skb_verdict", "ok"),)


def test_each_socket_that_cannot_be_inserted_is_named() -> None:
    """IN and OUT have separate answers: their kinds differ, and only IN's map has the program."""
    insert = expected_outcome(case("sockmap-send-to-local-tcp4-unix_dgram"), facts("5.10.223")).insert
    assert insert == {"in": "ok", "out": "EOPNOTSUPP"}
    insert = expected_outcome(case("sockmap-ingress-to-local-udp4-parser"), facts("6.12.107")).insert
    assert insert == {"in": "EOPNOTSUPP", "out": "ok"}


def test_a_kernel_newer_than_the_tables_is_judged_by_the_newest_and_noted() -> None:
    """The note names both versions; a known kernel gets none."""
    newest = newest_known()
    assert str(newest) == "7.3.4"
    assert note(newest) == note(facts("6.12.999").version) == ""
    assert str(newest) in note(facts("99.1").version)
    assert "99.1" in note(facts("99.1").version)


def test_no_row_is_idle() -> None:
    """Every row decides at least one case on some kernel, so a wrong row cannot hide."""
    versions = [
        facts(text).version for text in ("5.10.223", "5.15", "6.1.176", "6.6.14", "6.12.16", "6.12.107", "7.3.4")
    ]
    universes: dict[str, list[Mapping[str, str]]] = {
        "socket": [{"kind": kind} for kind in KINDS],
        "redirect": [each.params for each in redirect_cases()],
    }
    for name, universe in universes.items():
        deciding = {
            rule.id for version in versions for params in universe if (rule := table(name).find(params, version))
        }
        assert {rule.id for rule in table(name).rules} == deciding


DEBIAN = dict.fromkeys(("BPF_SYSCALL", "INET", "IPV6", "UNIX", "BPF_STREAM_PARSER"), "y") | dict.fromkeys(
    ("VSOCKETS", "VSOCKETS_LOOPBACK"), "m"
)


@pytest.mark.parametrize(
    ("missing", "name", "version", "skipped"),
    [
        ("VSOCKETS_LOOPBACK", "send-to-local-tcp4-vsock_stream", "6.12", True),
        ("VSOCKETS_LOOPBACK", "send-to-local-tcp4-udp4", "6.12", False),
        ("VSOCKETS", "send-to-local-vsock_seqpacket-peer", "5.10", True),
        ("UNIX", "ingress-to-local-unix_dgram-tcp4", "6.12", True),
        ("IPV6", "ingress-to-local-tcp4-udp6", "6.12", True),
        ("IPV6", "ingress-to-local-tcp4-udp4", "6.12", False),
        ("INET", "ingress-to-local-unix_dgram-udp4", "6.12", True),
        ("BPF_STREAM_PARSER", "ingress-to-local-tcp4-parser", "6.12", True),
        ("BPF_STREAM_PARSER", "ingress-to-local-tcp4-tcp4", "6.12", False),
        ("BPF_STREAM_PARSER", "send-to-local-tcp4-tcp4", "5.10.223", True),
        ("BPF_SYSCALL", "send-to-local-tcp4-tcp4", "6.12", True),
    ],
)
def test_a_missing_symbol_skips_what_needs_it_by_name(missing: str, name: str, version: str, skipped: bool) -> None:
    """The reason names the symbol; cases that do without it are asked."""
    config = {symbol: value for symbol, value in DEBIAN.items() if symbol != missing}
    reason = unmet(case(f"sockmap-{name}"), facts(version, **config))
    assert (reason is not None) == skipped
    assert not reason or f"CONFIG_{missing} " in reason.reason


def test_nothing_is_skipped_on_a_full_or_an_unknown_configuration() -> None:
    """Modules count as present; an unknown configuration skips nothing; a kernel too old for a kind is still tested."""
    for config in (DEBIAN, {}):
        assert not any(unmet(each, facts("5.10.223", **config)) for each in redirect_cases())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('id = "x"\nsymbol = "NET"\n', "lacks 'disables'"),
        ('id = "x"\nsymbol = "NET"\ndisables = "all"\nkinds = ["tcp5"]\n', "'kinds' has the unknown value 'tcp5'"),
        ('id = "x"\nsymbol = "NET"\ndisables = "all"\nlayouts = []\n', "'layouts' is a list"),
        ('id = "x"\nsymbol = "NET"\ndisables = "all"\nmodes = []\n', "unknown key 'modes'"),
    ],
)
def test_a_malformed_need_is_refused(tmp_path: Path, row: str, message: str) -> None:
    """needs.toml is read as strictly as the other tables."""
    path = tmp_path / "needs.toml"
    path.write_text(f"[[need]]\n{row}")
    with pytest.raises(UsageError, match=rf"needs\.toml, row 1 \(x\): {message}"):
        needs.load(path)
