# SPDX-License-Identifier: GPL-2.0-only
"""Cases are selected by their names, exactly, in linear time, and before anything else happens."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from common.errors import UsageError
from conformance.cli import parse
from conformance.commands.shell import _named
from conformance.compare.text import bisect_command
from conformance.groups import cases
from conformance.groups.redirect.cases import redirect_cases
from conformance.model import Case
from conformance.report.event_types import KernelEvent
from conformance.run.case_record import unjudged
from conformance.run.options import chosen_of
from conformance.run.selection import Wanted, choose, count, matcher, nearest, require
from conformance.run.shard import Shard
from tests.conformance.conform import ROOT, command, conform, environment
from tests.conformance.report_runs import GOLDEN

SLUG = "debian-6.12"
ONE = "redirect/sockmap-ingress-to-egress-tcp4-unix_stream"
KERNELS = ("debian:5.10", "debian:6.1", "debian:6.12", "debian:6.18", "debian:7.3")

_COUNTING = """
import cProfile, pstats, sys
import pytest

class Counting:
    profile, items = cProfile.Profile(), 0

    @pytest.hookimpl(wrapper=True)
    def pytest_collection(self, session):
        self.profile.enable()
        try:
            return (yield)
        finally:
            self.profile.disable()
            Counting.items = len(session.items)

# In Python, so that looking for a test in a set or a list counts, too.
pytest.Item.__hash__ = lambda self: id(self)
pytest.Item.__eq__ = lambda self, other: self is other
counting = Counting()
pytest.main(["conformance", "--collect-only", "-qq", "-p", "no:cacheprovider", "-p", "no:hypothesispytest",
             "-o", "filterwarnings=ignore", *sys.argv[1:]], plugins=[counting])
print("counted", counting.items, pstats.Stats(counting.profile).total_calls)
"""
"""Counts Python's calls while pytest collects: unlike seconds, the same on every machine."""


def _ids(found: Sequence[Case]) -> list[str]:
    return [case.id for case in found]


def _chosen(*globs: str, expression: str = "", stressed: bool = False) -> list[str]:
    chosen = choose(Wanted(globs, expression, stressed=stressed), [SLUG], cases())
    return list(chosen[SLUG])


def _collecting(kernels: Sequence[str]) -> tuple[int, int]:
    """Return the collected tests, and the number of calls; some cases of one kernel are left out."""
    options = [f"--kernel={spec}" for spec in kernels]
    chosen = ("--case", "redirect", "-k", "not (debian-5.10 and vsock_stream)")
    done = subprocess.run(
        [sys.executable, "-c", _COUNTING, *options, *chosen],
        cwd=ROOT, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    _, items, calls = done.stdout.splitlines()[-1].split()
    return int(items), int(calls)


class TestPatterns:
    """The patterns of `--case`."""

    @pytest.mark.parametrize(
        ("pattern", "named"),
        [
            ("redirect/sockmap-*-udp4-*", lambda case: case.group == "redirect" and "udp4-" in case.name[7:]),
            ("steer", lambda case: case.group == "steer"),
            ("s[tu]*/*", lambda case: case.group in ("steer", "stream", "survive")),
            ("*vsock_seqpacket", lambda case: case.name.endswith("vsock_seqpacket")),
            ("drained-sockmap-udp[46]", lambda case: case.name in ("drained-sockmap-udp4", "drained-sockmap-udp6")),
        ],
    )
    def test_a_pattern(self, pattern: str, named: object) -> None:
        """An id, a group or a name, with the wildcards of the shell."""
        assert callable(named)
        askable = [case for case in cases() if case.group != "hammer"]
        wanted = [case.id for case in askable if named(case)]

        found = _chosen(pattern)

        assert wanted
        if pattern.startswith("redirect"):
            assert set(found) == {each for each in wanted if each.startswith("redirect/sockmap-")}
        else:
            assert found == wanted

    def test_patterns_add_up(self) -> None:
        """A case that several patterns match is asked once, in the suite's order."""
        assert _chosen("survive", ONE, "survive/*") == [ONE, *_chosen("survive")]

    def test_a_printed_id_names_its_case_only(self) -> None:
        """Of all cases; no id needs to be quoted, or is part of what another one matches."""
        everything = _ids(cases())
        for each in everything:
            names = matcher([each], everything)
            assert [other for other in everything if names(other)] == [each]
            assert not set(each) & set("*?[]'\" ")

    def test_a_pattern_that_is_an_id(self) -> None:
        """Text that is the id of a case is not read as a pattern."""
        names = matcher(["g/[ab]"], ["g/[ab]", "g/a"])

        assert names("g/[ab]")
        assert not names("g/a")

    def test_a_shell_takes_the_one_case(self) -> None:
        """A pattern of several names the first of them."""
        case = _named([ONE])
        assert case is not None
        assert case.id == ONE
        assert _named(["drained-sockmap-udp4"]) == _named(["survive/drained-sockmap-udp4"])
        assert _named([]) is None
        with pytest.raises(UsageError, match="matches 68"):
            _named(["steer"])


class TestRepeatCommands:
    """Every command that is printed to repeat a case repeats exactly that."""

    def _repeated(self, printed: str) -> list[tuple[str, str]]:
        program, *words = printed.split(" ")
        assert program == "./conform"
        chosen = chosen_of(parse(words))
        assert chosen is not None
        return [(slug, name) for slug, found in chosen.items() for name in found]

    def test_of_every_case(self) -> None:
        """The command names the kernel; that of a hammer case has the duration and seed of the run."""
        for case in cases()[::97] + cases()[-2:]:
            run = "./conform run" + " --stress=5.0" * (case.group == "hammer")
            node = f"conformance/cases/test_{case.group}.py::test_{case.group}[{SLUG}-{case.name}]"

            event = unjudged(node, "", {SLUG: "debian:6.12"}, run)

            assert self._repeated(event.repeat) == [(SLUG, case.id)], event.repeat

    def test_of_a_bisection(self) -> None:
        """The command for a bisection judges each commit by the one case."""
        from conformance.compare.model import Change, Difference, Side

        base, head = (KernelEvent(spec="x", slug="x", version=version) for version in ("6.12", "6.18"))
        difference = Difference(ONE, {}, Change.REGRESSION, Side(None), Side(None))

        printed = bisect_command(base, head, difference).partition("git bisect run ")[2]

        assert [name for _, name in self._repeated(printed)] == [ONE]


def test_a_comparison_of_folders(tmp_path: Path) -> None:
    """Only the named cases of two folders are compared; an unknown name is an error there, too."""
    for name in ("base", "head"):
        (tmp_path / name).mkdir()
        shutil.copy(GOLDEN / "planted.jsonl", tmp_path / name / "events.jsonl")
    arguments = ("compare", "base", "head", "--results", "out", "--case")
    named = "redirect/sockmap-send-to-egress-tcp4-tcp4"

    found = conform(*arguments, named, cwd=tmp_path)
    refused = conform(*arguments, "redirect/nosuch", cwd=tmp_path)

    assert found.returncode == 0, found.stderr
    each_kernel = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [sum(pair["counts"].values()) for pair in each_kernel] == [1] * len(each_kernel)
    assert refused.returncode == 128
    assert "names no case" in refused.stderr


class TestErrors:
    """A selection without cases is one sentence, which names the reason."""

    def _refused(self, *globs: str, expression: str = "", shard: Shard | None = None) -> tuple[str, str]:
        wanted = Wanted(globs, expression) if shard is None else Wanted(globs, expression, shard=shard)
        with pytest.raises(UsageError) as excinfo:
            require(wanted, [SLUG], cases())
        return str(excinfo.value), excinfo.value.hint

    def test_a_pattern_of_no_case(self) -> None:
        """The ids that are nearest are offered."""
        sentence, hint = self._refused(ONE, ONE.replace("unix_stream", "unix_steam"))

        assert "unix_steam names no case" in sentence
        assert ONE in hint
        assert nearest("sockmap-ingress-to-egress-tcp4-unix_stream/redirect", _ids(cases()))

    @pytest.mark.parametrize("expression", ["((", "a and", "not", "a b", "a !"])
    def test_an_expression_that_cannot_be_read(self, expression: str) -> None:
        """The error quotes pytest's message."""
        sentence, _ = self._refused(expression=expression)

        assert "is not an expression: at column" in sentence

    def test_an_expression_without_an_end(self) -> None:
        """Parentheses that exhaust Python's stack are an error that says so."""
        assert self._refused(expression="(" * 5000)[0] == "the expression of -k is nested too deeply"

    def test_cases_that_need_stress(self) -> None:
        """They run only with --stress; naming one without it is an error that says so."""
        assert self._refused(expression="hammer")[0] == "-k hammer matches 64 cases, which all need --stress SECONDS"
        assert self._refused("hammer", ONE)[0].startswith("--case hammer matches 64 cases, which all need --stress")
        assert self._refused("hammer/tcp4-tcp4")[0].endswith("matches one case, which needs --stress SECONDS")
        assert len(_chosen("hammer", stressed=True)) == 64

    def test_nothing_in_common(self) -> None:
        """All parts of the selection are named."""
        assert self._refused("redirect", expression="steer")[0] == "no case matches --case redirect -k steer"

    def test_an_empty_shard_is_no_error(self) -> None:
        """Of few cases in many shards some are empty."""
        shards = [require(Wanted((ONE,), shard=Shard(number, 3)), [SLUG], cases()) for number in (1, 2, 3)]

        assert sorted(map(count, shards)) == [0, 0, 1]

    @pytest.mark.parametrize("arguments", [("-k", "(("), ("-n", "2", "-k", "(("), ("--", "-n", "2", "-k", "((")])
    def test_nothing_is_made_ready(self, arguments: tuple[str, ...], tmp_path: Path) -> None:
        """The kernel is not even looked for, and no results folder is made."""
        done = subprocess.run(
            command("run", "--kernel", "debian:9.99", "--results", "out", *arguments),
            cwd=tmp_path, env=environment(XDG_CACHE_HOME=str(tmp_path / "cache")), capture_output=True, text=True,
            check=False,
        )  # fmt: skip

        assert done.returncode == 128
        assert "-k '((' is not an expression" in done.stderr
        assert not list(tmp_path.iterdir())

    def test_of_a_matrix(self, tmp_path: Path) -> None:
        """A matrix does not start either, whether file or command line is wrong."""
        config = tmp_path / "conform.toml"
        of_file, of_option = "conform.toml: 'cases': 'nosuch' names no case", "--case nosuch names no case"
        for cases_, arguments, said in (('["nosuch"]', (), of_file), ("[]", ("--case", "nosuch"), of_option)):
            config.write_text(f"kernels = ['debian:9.99']\ncases = {cases_}\n")

            done = subprocess.run(
                command("matrix", *arguments),
                cwd=tmp_path, env=environment(XDG_CACHE_HOME=str(tmp_path / "cache")), capture_output=True, text=True,
                check=False,
            )  # fmt: skip

            assert done.returncode == 128
            assert said in done.stderr
            assert list(tmp_path.iterdir()) == [config]

    def test_plain_pytest(self, tmp_path: Path) -> None:
        """Plain pytest prints the same error once, although its workers select for themselves."""
        arguments = ("conformance", "--case", "redirect/nosuch", "-n", "2", "-p", "no:cacheprovider")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *arguments],
            cwd=ROOT, env=environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip

        assert done.returncode == pytest.ExitCode.USAGE_ERROR
        assert done.stderr.count("--case redirect/nosuch names no case") == 1


class TestExpressions:
    """`-k` has pytest's meaning."""

    @pytest.mark.parametrize(
        "expression",
        ["test_steer", "STEER and tcp4", "survive or (steer and not udp)", "debian-6.12-drained", "6.1-", "cases"],
    )
    def test_as_pytest_has_it(self, expression: str) -> None:
        """Words are parts of the names of a test, its module and their folders; case does not count."""
        from _pytest.mark import KeywordMatcher
        from _pytest.mark.expression import Expression

        compiled = Expression.compile(expression)
        wanted = [
            case.id
            for case in cases()
            if case.group != "hammer"
            and compiled.evaluate(
                KeywordMatcher(
                    {"conformance", "cases", f"test_{case.group}.py", f"test_{case.group}[{SLUG}-{case.name}]"}
                )
            )
        ]

        assert _chosen(expression=expression) == wanted

    def test_a_kernel_of_its_own(self) -> None:
        """A word may be part of a kernel's slug."""
        chosen = choose(Wanted((ONE,), "not 6.12"), ["debian-6.12", "debian-7.3"], cases())

        assert [list(found) for found in chosen.values()] == [[], [ONE]]


class TestCost:
    """The cost of selecting cases."""

    def test_five_kernels_cost_five_times_one(self) -> None:
        """At most six times the calls, pytest's own collection included."""
        items, calls = _collecting(KERNELS[:1])
        all_items, all_calls = _collecting(KERNELS)

        every = len(redirect_cases())
        assert all_items == 4 * every + items
        assert 0 < items < every
        # Some cases of the first kernel are left out, so no tests are made for them.
        assert all_calls <= 6 * calls * every / items

    def test_no_match_is_reported_at_once(self, tmp_path: Path) -> None:
        """Within half a second, or on a slow or busy machine within what importing pytest four times takes."""

        def seconds(*arguments: str) -> float:
            begin = time.perf_counter()
            subprocess.run(arguments, cwd=tmp_path, env=environment(), capture_output=True, check=False)
            return time.perf_counter() - begin

        answer = min(seconds(*command("run", "-k", "nonesuch")) for _ in range(5))
        reference = min(seconds(sys.executable, "-c", "import pytest") for _ in range(5))

        assert answer < max(0.5, 4 * reference)

    def test_no_match_is_reported_before_the_imports(self, tmp_path: Path) -> None:
        """Modules that only a run needs (workers, machines, reports) are not imported yet."""
        program = (
            "import sys; from conformance.cli import main; code = main(['run', '-k', 'nonesuch']);"
            "print(code, *({'conformance.run.controller', 'xdist', 'conformance.run.machine_pool'} & set(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True,
        )  # fmt: skip

        assert done.stdout == "128\n"

    def test_pytest_is_imported_after_the_machine_has_started(self) -> None:
        """Importing it takes longer than starting the machine; `hold` imports it in between."""
        program = "import sys, conformance.commands.run; print(*({'pytest', 'xdist', 'pygments'} & set(sys.modules)))"
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environment(), capture_output=True, text=True, check=True,
        )  # fmt: skip

        assert done.stdout == "\n"
