# SPDX-License-Identifier: GPL-2.0-only
"""The conventions of the command line: what is understood, what is refused, and what is offered instead."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from common.errors import UsageError
from conformance import __version__, cli
from conformance.command_line import settings
from conformance.command_line.arguments import top
from conformance.groups import cases
from conformance.report.style import Style
from tests.conformance import report_runs
from tests.conformance.conform import ROOT, conform, environment
from tests.conformance.test_reporting import write

NAMES = tuple(top("")[1])


def refused(*arguments: str) -> tuple[str, str]:
    """Return the sentence and the hint with which a command line is refused."""
    with pytest.raises(UsageError) as caught:
        cli.parse(arguments)
    return str(caught.value), caught.value.hint


@pytest.mark.parametrize(("command", "repeatable"), [("run", True), ("shell", False)])
def test_help_says_whether_a_command_takes_several_kernels(command: str, *, repeatable: bool) -> None:
    """`shell` takes one kernel, so its help does not say that --kernel may be repeated."""
    words = " ".join(top("")[1][command].format_help().split())
    about = words[words.rindex("--kernel SPEC") : words.index("--patch FILE", words.rindex("--kernel SPEC"))]

    assert ("repeatable" in about) is repeatable


class TestWhatIsRefused:
    """Arguments without a meaning are refused."""

    @pytest.mark.parametrize(
        ("arguments", "sentence", "hint"),
        [
            (("rnu",), "there is no command 'rnu'", "did you mean run?"),
            (("kernels", "prun"), "there is no command 'prun'", "did you mean prune?"),
            (("run", "--kernal", "x"), "unrecognized arguments: --kernal", "did you mean --kernel?"),
            (("run", "--total-dedline=5s"), "unrecognized arguments: --total-dedline=5s", "--total-deadline?"),
            (
                ("run", "--accel", "kvn"),
                "argument --accel: invalid choice: 'kvn'",
                "did you mean kvm? choose from auto",
            ),
            (("run", "--kern", "x"), "unrecognized arguments: --kern", "did you mean --kernel?"),
            (("run", "-n", "-1"), "argument -n: must be at least 0, not -1", "./conform run --help"),
            (("run", "-n", "some"), "argument -n: 'some' is not a whole number", "./conform run --help"),
            (("run", "-v", "-q"), "argument -q/--quiet: not allowed with argument -v/--verbose", "./conform run"),
            (("kernels", "prune", "--days", "-1"), "argument --days: must be at least 0, not -1", "prune --help"),
            (("compare", "a", "b", "--again", "-1"), "argument --again: must be at least 0, not -1", "compare --help"),
            (
                ("run", "-n", "9" * 30),
                "argument -n: must be at most 512, not 999999999999999999999999...",
                "run --help",
            ),
            (("run", "--seed", "-1"), "argument --seed: must be at least 0, not -1", "./conform run --help"),
            (("benchmark", "--runs", "0"), "argument --runs: must be at least 1, not 0", "benchmark --help"),
            (("shell", "--tries", "3"), "unrecognized arguments: --tries 3", "--tries is an option of run, compare;"),
            (("compare", "a", "b", "--quick"), "unrecognized arguments: --quick", "an option of run, benchmark;"),
            (
                ("report", "x", "--memory", "4"),
                "unrecognized arguments: --memory 4",
                "an option of run, shell, compare",
            ),
            (("doctor", "--", "-x"), "unrecognized arguments: -- -x", "./conform doctor --help"),
        ],
    )
    def test_with_what_was_meant(self, arguments: Sequence[str], sentence: str, hint: str) -> None:
        """The sentence quotes what is wrong, the hint offers what is right."""
        said, hinted = refused(*arguments)

        assert said == sentence
        assert hint in hinted

    @pytest.mark.parametrize("option", ["--results", "--trace", "--shard", "--stress", "--quick", "--repeat"])
    def test_a_shell_judges_nothing(self, option: str) -> None:
        """It has the options of the kernel and of its machine, and no others."""
        assert "is an option of run" in refused("shell", option, *["1"] * (option not in ("--trace", "--quick")))[1]


class TestWhatIsUnderstood:
    """Conventions known from other commands."""

    @pytest.mark.parametrize(
        "words",
        [
            ["one", "two"],
            ["one", "--case", "x", "two"],
            ["--case", "x", "one", "two"],
            ["--kernel", "one", "two", "--quick"],
            ["-k", "x", "one", "--kernel=two"],
        ],
    )
    def test_kernels_may_stand_anywhere(self, words: list[str]) -> None:
        """`run ~/linux` is `run --kernel ~/linux`, before options and behind them."""
        assert sorted(cli.parse(["run", *words]).conform_kernel) == ["one", "two"]

    def test_without_a_kernel(self) -> None:
        """Without --kernel the default is chosen later."""
        options = cli.parse(["run", "--", "one"])

        assert (options.conform_kernel, options.pytest_arguments) == (None, ["one"])

    def test_the_version(self, tmp_path: Path) -> None:
        """`--version` is that of pyproject.toml, with the commit."""
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        done = conform("--version", cwd=tmp_path)

        assert project["version"] == __version__
        assert done.stdout.startswith(f"sockmap-conformance {__version__} (")
        assert (done.returncode, done.stderr) == (0, "")

    def test_the_script_is_the_command(self) -> None:
        """`conform` of an installed package is what `python -m conformance` is."""
        script = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["conform"]
        module, _, name = script.partition(":")
        code = f"import sys; sys.argv[1:] = ['--version']; from {module} import {name}; {name}()"

        done = subprocess.run(
            [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
        )

        assert done.stdout.startswith("sockmap-conformance")

    @pytest.mark.parametrize("name", [name for name in NAMES if name not in ("config", "doctor", "benchmark", "test")])
    def test_every_help_has_examples(self, name: str) -> None:
        """Every help has examples, and the parser accepts them."""
        text = top("")[1][name].format_help()
        lines = [line.strip() for line in text.partition("examples:\n")[2].partition("\n\n")[0].splitlines()]
        found = [line.partition("  #")[0].partition(" |")[0].split() for line in lines if line.startswith("./conform")]

        assert lines
        for words in found:
            if "-k" not in words and "&&" not in words:
                cli.parse([word.strip("'") for word in words[1:]])

    def test_options_are_in_groups(self) -> None:
        """The help of a command with many options has headings."""
        text = top("")[1]["run"].format_help()

        assert all(
            f"\n{name}:\n" in text for name in ("kernels", "cases", "machines", "tries and deadlines", "results")
        )


class TestColour:
    """The command line comes before the environment, and that before the terminal."""

    @pytest.mark.parametrize(
        ("option", "surroundings", "colours"),
        [
            ((), {}, False),
            ((), {"FORCE_COLOR": "1"}, True),
            ((), {"FORCE_COLOR": "0"}, False),
            ((), {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
            (("--color", "always"), {"NO_COLOR": "1"}, True),
            (("--color=never",), {"FORCE_COLOR": "1"}, False),
            (("--color=auto",), {"FORCE_COLOR": "1"}, False),
        ],
    )
    def test_of_a_report(
        self, option: tuple[str, ...], surroundings: dict[str, str], colours: bool,
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        """A pipe gets colour only on request."""
        log = write(report_runs.old(), tmp_path / "log")
        for name in ("NO_COLOR", "FORCE_COLOR"):
            monkeypatch.setenv(name, surroundings.get(name, ""))

        done = conform("report", str(log), *option, cwd=tmp_path)

        assert done.returncode == 0, done.stderr
        assert ("\x1b[" in done.stdout) is colours

    def test_of_a_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A terminal gets colour unless it is dumb."""
        for name in ("NO_COLOR", "FORCE_COLOR"):
            monkeypatch.delenv(name, raising=False)
        ours, theirs = os.openpty()
        with os.fdopen(theirs, "w", encoding="utf-8") as stream:
            monkeypatch.setenv("TERM", "xterm")
            assert Style.of(stream).colour
            monkeypatch.setenv("TERM", "dumb")
            assert not Style.of(stream).colour
        os.close(ours)


class TestDefaultsOfTheUser:
    """config.toml holds a user's defaults, and the command line overrides them."""

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        settings.path().parent.mkdir()
        lines = ['color = "never"', "[run]", 'kernel = ["a", "b"]', "memory = 1024", "quick = true", "trace = false"]
        settings.path().write_text("\n".join([*lines, "n = 1", "quiet = true", ""]))

    def _applied(self, *arguments: str) -> list[str]:
        return settings.applied(arguments, cli.parse, top("")[1])

    def test_are_behind_the_command(self) -> None:
        """An option that is not given is taken from the file."""
        assert self._applied("run") == [
            "run", "--color=never", "--kernel=a", "--kernel=b", "--memory=1024", "--quick", "-n1", "--quiet",
        ]  # fmt: skip
        assert self._applied("report", "x") == ["report", "--color=never", "x"]
        assert self._applied("config") == ["config"]

    @pytest.mark.parametrize(
        ("words", "gone"),
        [
            (["--kernel", "c"], "--kernel=a"), (["c"], "--kernel=b"), (["--memory=512"], "--memory=1024"),
            (["-n2"], "-n1"), (["-v"], "--quiet"), (["--color", "always"], "--color=never"),
        ],
    )  # fmt: skip
    def test_give_way_to_the_command_line(self, words: list[str], gone: str) -> None:
        """A given option replaces that of the file, lists included."""
        found = self._applied("run", *words)

        assert gone not in found
        assert found[-len(words) :] == words
        cli.parse(found)

    def test_leave_a_run_that_is_resumed_alone(self) -> None:
        """It has the options that it was started with; and what follows -- is pytest's."""
        assert self._applied("run", "--resume", "x") == ["run", "--resume", "x"]
        assert self._applied("run", "--", "--memory=1")[-2:] == ["--", "--memory=1"]
        assert "--memory=1024" in self._applied("run", "--", "--memory=1")

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("[run]\nmemry = 1\n", "[run] has the unknown key 'memry'"),
            ("[rnu]\nmemory = 1\n", "[rnu] has the unknown key 'memory'"),
            ("speed = 1\n", "no command has the unknown key 'speed'"),
            ("[run]\ncpus = 'two'\n", "argument --cpus: 'two' is not a whole number"),
            ("[run]\ncpus = 9999\n", "argument --cpus: must be at most 255, not 9999"),
            ("[run\n", "is not TOML"),
            ("color = " + "[" * 5000, "is not TOML: it is nested too deeply"),
            ("[run]\ncase = [['steer'], 1]\n", "'case' is a string, a number, true, false or a list of these"),
            ("[run]\nhelp = true\n", "'help' cannot be a default"),
        ],
    )
    def test_that_are_wrong_are_named_with_the_file(
        self, text: str, sentence: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """One sentence names the file and the key."""
        settings.path().write_text(text)

        assert cli.main(["run", "--case", "steer"]) == 128
        error = capsys.readouterr().err
        assert str(settings.path()) in error
        assert sentence in error

    def test_may_be_empty(self) -> None:
        """An empty text is a value, also of an option with one letter."""
        settings.path().write_text("[run]\nk = ''\n")

        assert self._applied("run") == ["run", "-k", ""]

    def test_are_nowhere_for_a_user_without_a_home(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A container may run as a user id without an account."""
        monkeypatch.delenv("XDG_CONFIG_HOME")
        monkeypatch.setattr("os.path.expanduser", str)

        assert self._applied("run") == ["run"]

    def test_are_not_read_from_here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The current directory may be an untrusted kernel tree."""
        settings.path().unlink()
        (tmp_path / "config.toml").write_text("[run]\nkernel = 'evil'\n")
        (tmp_path / "pyproject.toml").write_text("[tool.conform]\nkernel = 'evil'\n")
        monkeypatch.chdir(tmp_path)

        assert self._applied("run") == ["run"]


class TestListing:
    """`list` says which cases there are without booting anything."""

    def test_all(self, capsys: pytest.CaptureFixture[str]) -> None:
        """By group, kind and mode, with numbers that add up."""
        assert cli.main(["list"]) == 0
        text = capsys.readouterr().out
        groups = {line.split()[1]: int(line.split()[0]) for line in text.splitlines() if line[:6].strip().isdigit()}

        del groups["in"]
        assert sum(groups.values()) == len(cases())
        to_local = sum(case.params.get("mode") == "send-to-local" for case in cases() if case.group == "redirect")
        assert f"mode: send-to-local {to_local}," in text
        assert all(len(line) <= 80 for line in text.splitlines())

    def test_some(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Selected cases are listed by their ids, or as JSON."""
        chosen = ["--case", "redirect/sockmap-*", "-k", "tcp4-udp4 and not parser"]
        assert cli.main(["list", *chosen]) == 0
        ids = capsys.readouterr().out.split()
        assert cli.main(["list", *chosen, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)

        assert ids == [each["id"] for each in found] != []
        assert {(each["params"]["in"], each["params"]["out"]) for each in found} == {("tcp4", "udp4")}
        assert cli.main(["list", "--case", "nonesuch"]) == 128


def test_history_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON has the verdict of each case in each run."""
    write(report_runs.healthy(), tmp_path / "a")
    write(report_runs.sick(), tmp_path / "b")

    assert cli.main(["history", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [Path(night["folder"]).name for night in found["nights"]] == ["a", "b"]
    assert {case["id"] for case in found["cases"]} == {case.id for case in report_runs.sick().unexpected()}
    assert all(case["verdicts"][0] in ("pass", "xfail", "skip") for case in found["cases"])


def test_a_report_to_standard_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--output -` makes no file of that name."""
    monkeypatch.chdir(tmp_path)
    log = write(report_runs.old(), tmp_path / "log")

    assert cli.main(["report", str(log), "--format", "ktap", "--output", "-"]) == 0
    assert capsys.readouterr().out.startswith("KTAP version 1\n")
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


class TestTheShell:
    """Completion and the manual come from the parser."""

    def test_completion(self, tmp_path: Path) -> None:
        """A shell gets commands, options and values; nothing runs meanwhile."""

        def completed(line: str) -> list[str]:
            script = 'exec 8>&1; _ARGCOMPLETE=1 COMP_LINE="$1" COMP_POINT=${#1} _ARGCOMPLETE_IFS="|" exec "${@:2}"'
            command = ["bash", "-c", script, "bash", line, sys.executable, "-m", "conformance"]
            done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
            return [word.strip() for word in done.stdout.split("|")]

        assert {"compare", "completion", "config"} <= set(completed("conform co"))
        assert completed("conform run --tot") == ["--total-deadline"]
        assert completed("conform run --accel k") == ["kvm"]

    def test_what_a_shell_evaluates(self, capsys: pytest.CaptureFixture[str]) -> None:
        """The code is for both ways in which the command is called."""
        assert cli.main(["completion", "bash"]) == 0
        assert "complete -o nospace -o default -o bashdefault -F _python_argcomplete conform" in capsys.readouterr().out

    def test_the_manual_page(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """It has every command and option, and man(7) finds nothing to print_error about."""
        assert cli.main(["manual"]) == 0
        page = capsys.readouterr().out
        plain = page.replace("\\-", "-")

        assert all(f'.SS "conform {name}"' in plain for name in NAMES)
        assert "--total-deadline DURATION" in plain
        if shutil.which("groff"):
            (tmp_path / "page").write_text(page)
            done = subprocess.run(
                ["groff", "-man", "-Tutf8", "-ww", tmp_path / "page"], capture_output=True, text=True, check=True
            )
            assert done.stderr == ""


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"run", "matrix", "test", "manual"}))
def test_every_command_has_a_function(name: str) -> None:
    """A command is dispatched by the name of its function, whose one argument is the options."""
    module, _, function = cli.COMMANDS[name].partition(":")
    found = getattr(importlib.import_module(f"conformance.{module}"), function)
    assert len(inspect.signature(found).parameters) == 1
