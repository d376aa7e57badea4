# SPDX-License-Identifier: GPL-2.0-only
"""Bad input gets one sentence that names the culprit, a hint, the right exit code, and never a traceback."""

from __future__ import annotations

import errno
import subprocess
from pathlib import Path

import pytest

from common.errors import ConformError, ExitCode, UsageError
from conformance import cli
from conformance.commands.run import swapped
from conformance.run.options import by_slug
from tests.conformance.conform import command, conform, copy_of_checkout, environment


class TestBadInput:
    """Through the real command, as a user meets it."""

    def _refused(self, *arguments: str, cwd: Path, code: int) -> str:
        done = conform(*arguments, cwd=cwd)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        sentence, hint, *rest = done.stderr.strip().splitlines()
        assert sentence.startswith("conform: ")
        assert hint.startswith("  hint: ")
        assert not rest
        return sentence

    def test_unknown_spec(self, tmp_path: Path) -> None:
        """A spec of an unknown kind is wrong usage."""
        assert "redhat:9" in self._refused("run", "--kernel", "redhat:9", cwd=tmp_path, code=128)

    def test_path_that_is_not_there(self, tmp_path: Path) -> None:
        """A path that leads nowhere is wrong usage."""
        assert "./bzImage" in self._refused("run", "--kernel", "./bzImage", cwd=tmp_path, code=128)

    def test_host_machine_for_another_kernel(self, tmp_path: Path) -> None:
        """The host runs only its own kernel."""
        arguments = ("run", "--machine", "host", "--kernel", "debian:6.12")

        assert "debian:6.12" in self._refused(*arguments, cwd=tmp_path, code=128)

    def test_no_kernel(self, tmp_path: Path) -> None:
        """A file that is not a kernel cannot be judged; a bisection skips it."""
        (tmp_path / "bzImage").write_text("#!/bin/sh\n")

        assert "bzImage" in self._refused("run", "--kernel", "./bzImage", cwd=tmp_path, code=125)

    def test_tree_that_is_not_built(self, tmp_path: Path) -> None:
        """A commit that did not build cannot be judged either."""
        (tmp_path / "Kconfig").touch()
        (tmp_path / "Makefile").write_text("VERSION = 7\nPATCHLEVEL = 3\n")

        assert str(tmp_path) in self._refused("run", "--kernel", str(tmp_path), cwd=tmp_path, code=125)

    def test_unknown_option(self, tmp_path: Path) -> None:
        """An unknown option is named."""
        assert "--kernels" in self._refused("run", "--kernels", "x", cwd=tmp_path, code=128)

    @pytest.mark.parametrize(("option", "value"), [("--cpus", "0"), ("--memory", "16"), ("--memory", "-5")])
    def test_machine_that_cannot_be(self, option: str, value: str, tmp_path: Path) -> None:
        """A machine too small for any kernel is wrong usage, not a kernel that does not boot."""
        assert option in self._refused("run", option, value, cwd=tmp_path, code=128)

    @pytest.mark.parametrize("option", ["--tries", "--repeat"])
    def test_tries_that_judge_nothing(self, option: str, tmp_path: Path) -> None:
        """--tries 0 would judge nothing, and is refused."""
        assert option in self._refused("run", option, "0", cwd=tmp_path, code=128)

    def test_results_that_cannot_be_written(self, tmp_path: Path) -> None:
        """A results folder that cannot be made is a broken host, found out before anything is booted."""
        (tmp_path / "file").touch()

        assert "file" in self._refused("run", "--kernel", "host", "--results", "file/x", cwd=tmp_path, code=128)

    def test_cache_that_cannot_be_written(self, tmp_path: Path) -> None:
        """A cache that cannot be made is named with the variable that moves it."""
        (tmp_path / "file").touch()

        done = conform("run", "--kernel", "debian:6.12", cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path / "file"))

        assert done.returncode == 128
        assert "Traceback" not in done.stderr
        assert "file" in done.stderr

    def test_standard_output_that_is_closed(self, tmp_path: Path) -> None:
        """With standard output closed the exit code is still right."""
        quiet = ["sh", "-c", 'exec "$@" >&-', "sh", *command("run", "--kernel", "host", "-k", "nonesuch")]

        done = subprocess.run(quiet, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True, check=False)

        assert done.returncode == 128
        assert "no case" in done.stderr

    def test_no_case_matches(self, tmp_path: Path) -> None:
        """An expression that selects nothing judges nothing, and says how to see the cases."""
        assert "no case" in self._refused("run", "--kernel", "host", "-k", "nonesuch", cwd=tmp_path, code=128)

    def test_a_case_module_that_does_not_load(self, tmp_path: Path) -> None:
        """Cases that cannot be collected are an error with its reason, not an interruption."""
        copy = copy_of_checkout(tmp_path)
        (copy / "conformance" / "cases" / "test_broken.py").write_text("import nonesuch\n")

        done = conform("run", "--kernel", "host", "--yes", "--case", "steer", "-n", "0", cwd=tmp_path, root=copy)

        assert done.returncode == 128, done.stdout
        assert "test_broken.py" in done.stderr
        assert "No module named 'nonesuch'" in done.stderr
        assert "Traceback" not in done.stderr

    def test_bad_expression(self, tmp_path: Path) -> None:
        """A -k expression that pytest cannot read is wrong usage."""
        done = conform("run", "--kernel", "host", "-k", "a and (", cwd=tmp_path)

        assert done.returncode == 128
        assert "Traceback" not in done.stderr


class TestMain:
    """How main reports errors."""

    def _main(self, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
        def fail(_: object) -> int:
            raise error

        monkeypatch.setattr(cli, "_run", fail)
        return cli.main(["run"])

    @pytest.mark.parametrize(
        ("error", "code"),
        [(ConformError("x"), 128), (UsageError("x"), 128), (KeyboardInterrupt(), 130)],
    )
    def test_exit_code(self, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int) -> None:
        """Each error has its own code."""
        assert self._main(monkeypatch, error) == code

    def test_fault_of_our_own(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        """A fault of the suite keeps its traceback in a file and stops a bisection."""
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

        code = self._main(monkeypatch, ZeroDivisionError("planted"))

        assert code == ExitCode.BROKEN
        errors = capsys.readouterr().err
        assert "planted" in errors
        assert "Traceback" not in errors
        (log,) = tmp_path.glob("conform-*.log")
        assert "ZeroDivisionError: planted" in log.read_text()

    @pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), MemoryError()])
    def test_limits_of_the_host(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
    ) -> None:
        """A limit of the host is no fault of the suite: one sentence, and the limit to look at."""
        assert self._main(monkeypatch, error) == ExitCode.BROKEN
        errors = capsys.readouterr().err
        assert errors.startswith("conform: this host has no more to give: ")
        assert "ulimit" in errors
        assert "internal error" not in errors


def test_find_fix() -> None:
    """With --find-fix, good and bad are swapped; a kernel that cannot be judged stays so."""
    assert [swapped(code) for code in (ExitCode.OK, ExitCode.UNEXPECTED)] == [ExitCode.UNEXPECTED, ExitCode.OK]
    others = (ExitCode.CANNOT_JUDGE, ExitCode.BROKEN, ExitCode.INTERRUPTED, ExitCode.TERMINATED)
    assert tuple(map(swapped, others)) == others


def test_two_kernels_of_one_name(tmp_path: Path) -> None:
    """Two trees with the same folder name are two kernels; the same spec twice is one."""
    base, head = str(tmp_path / "base" / "linux"), str(tmp_path / "head" / "linux")

    for tree in (base, head):
        Path(tree).mkdir(parents=True)

    named = by_slug([base, head, base])

    assert list(named.values()) == [base, head]
    assert len(named) == 2
