# SPDX-License-Identifier: GPL-2.0-only
"""The user is asked before packages are installed, the running kernel is tested, or the cache is emptied."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from common.errors import ConformError, HostError
from conformance import cli, launch
from conformance.host import setup
from conformance.host.packages import PACKAGES
from conformance.run.consent import YES
from kernels import inventory
from tests.conformance.conform import command, conform, environment

ROOT = Path(__file__).resolve().parents[2]
CASE = "redirect/sockmap-ingress-to-egress-tcp4-tcp4"


def at_a_terminal(words: Sequence[str], answer: str, cwd: Path) -> tuple[int, str]:
    """Answer a command's question; returns its exit code and what was on the terminal."""
    ours, theirs = pty.openpty()
    os.write(ours, f"{answer}\n".encode())
    with subprocess.Popen(words, cwd=cwd, env=environment(), stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 4096):
                shown += data
        except OSError:  # EIO: the other end is closed
            pass
    os.close(ours)
    return process.returncode, shown.decode().replace("\r\n", "\n")


@pytest.fixture(name="cached")
def _cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with something in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    entry = tmp_path / "sockmap-conformance" / "templates" / "abc"
    entry.mkdir(parents=True)
    (entry / "memory").write_bytes(bytes(3 << 20))
    return entry


class TestPruning:
    """`kernels prune` removes nothing without consent."""

    def test_lists_and_refuses(self, cached: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Without a terminal --yes is needed."""
        assert cli.main(["kernels", "prune"]) == 128

        found = capsys.readouterr()
        assert "3 MiB  templates/abc" in found.out
        assert "removes 1 entries" not in found.err
        assert "conform: kernels prune removes 1 entry of the cache\n  hint: add --yes" in found.err
        assert cached.exists()

    def test_every_large_folder_is_listed(self, cached: Path) -> None:
        """Whatever is made once for a kernel can be removed; what is left takes a few kilobytes, or is apt's."""
        root, small = cached.parents[1], {"kvm", "resolved", "durations", "quick", "bpf", "apt", "partial", "sources"}
        code = "".join(each.read_text() for name in ("kernels", "vm") for each in (ROOT / name).rglob("*.py"))
        for name in set(re.findall(r'cache\.root\(\) / "(\w+)"', code)) - small:
            (root / name / "entry").mkdir(parents=True)
        assert {path.parent.name for path in inventory.prunable()} >= {
            "kernels",
            "templates",
            "stock",
            "built",
            "trees",
        }
        assert {path.name for path in root.iterdir()} - {path.parent.name for path in inventory.prunable()} <= {"locks"}

    def test_a_dry_run_removes_nothing(self, cached: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """--dry-run only lists, even with --yes."""
        assert cli.main(["kernels", "prune", "--dry-run", "--yes"]) == 0
        assert "3 MiB  templates/abc" in capsys.readouterr().out
        assert cached.exists()

    def test_yes(self, cached: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """What was listed is removed."""
        assert inventory.prunable() == [cached]
        assert cli.main(["kernels", "prune", "--yes"]) == 0
        assert "3 MiB freed" in capsys.readouterr().out
        assert not cached.exists()
        assert cli.main(["kernels", "prune"]) == 0, "there was nothing to ask about"

    def test_days_keep_what_was_used(self, cached: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Kernels used within the given days are not listed."""
        assert cli.main(["kernels", "prune", "--days", "2"]) == 0
        assert "templates/abc" not in capsys.readouterr().out
        assert cached.exists()

    @pytest.mark.parametrize(("answer", "code", "stays"), [("", 128, True), ("n", 128, True), ("y", 0, False)])
    def test_at_a_terminal(self, answer: str, code: int, stays: bool, cached: Path, tmp_path: Path) -> None:
        """There is a question, and only `yes` is consent."""
        returned, shown = at_a_terminal(command("kernels", "prune"), answer, tmp_path)

        assert returned == code, shown
        assert "Remove them? [y/N]" in shown
        assert cached.exists() is stays


class TestTheRunningKernel:
    """`host` may hang or crash this machine."""

    def test_is_refused_where_nobody_can_be_asked(self, tmp_path: Path) -> None:
        """The error says why, and the hint names --yes; no file is left behind."""
        for words in (
            ("run", "host"),
            ("run", "--machine", "host"),
            ("compare", "host", "debian:6.12"),
            ("shell", "--kernel", "host"),
        ):
            done = conform(*words, cwd=tmp_path)

            assert done.returncode == 128
            assert done.stderr == (
                "conform: `host` is the kernel that this machine is running; a defect may hang or crash the machine\n"
                "  hint: add --yes if that is what you want\n"
            )
        assert not list(tmp_path.iterdir())

    def test_no_is_an_answer(self, tmp_path: Path) -> None:
        """The question comes before the first case."""
        code, shown = at_a_terminal(command("run", "host", "--case", CASE), "n", tmp_path)

        assert code == 128
        assert shown.count("Test it? [y/N]") == 1
        assert not list(tmp_path.iterdir())

    def test_other_kernels_need_no_consent(self, tmp_path: Path) -> None:
        """A VM needs no consent: the kernel is resolved at once."""
        (tmp_path / "image").touch()

        assert "--yes" not in conform("run", "./image", cwd=tmp_path).stderr


class TestPackages:
    """CI is not asked; a user at a terminal is asked, as apt does."""

    @pytest.mark.parametrize(
        ("terminal", "yes", "answer", "installs"),
        [(False, "", "", True), (True, "1", "", True), (True, "", "\n", True), (True, "", "n\n", False)],
    )
    def test_are_asked_for(
        self, terminal: bool, yes: str, answer: str, installs: bool,
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        """Each package is named with its reason, whether there is a question or not."""
        ours, theirs = os.openpty() if terminal else os.pipe()[::-1]
        os.write(ours, answer.encode() or b"\n")
        monkeypatch.setenv(YES, yes)
        with os.fdopen(theirs) as stream:
            monkeypatch.setattr(sys, "stdin", stream)
            monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
            if installs:
                setup._ask(PACKAGES[2:3])
            else:
                with pytest.raises(HostError, match="nothing was installed"):
                    setup._ask(PACKAGES[2:3])
        os.close(ours)

        shown = capsys.readouterr().err
        assert "clang (compiles the BPF programs)" in shown
        assert ("install them with apt-get? [Y/n]" in shown) is (terminal and not yes)

    def test_a_commit_that_is_not_there_needs_none(self, tmp_path: Path) -> None:
        """A missing commit is reported before packages are installed."""
        subprocess.run(["git", "init", "-q", tmp_path], check=True)

        with pytest.raises(ConformError, match="has no commit nosuch"):
            cli.checked(["run", f"tree:{tmp_path}@nosuch"])
        with pytest.raises(ConformError, match="has no commit nosuch"):
            cli.checked(["compare", "debian:6.12", f"tree:{tmp_path}@nosuch"])
        with pytest.raises(ConformError, match="redhat"):
            cli.checked(["kernels", "fetch", "redhat:9"])
        cli.checked(["run", "debian:6.12"])

    def test_a_repository_of_something_else_needs_none(self, tmp_path: Path) -> None:
        """A repository that does not hold Linux is reported before packages are installed."""
        subprocess.run(["git", "init", "-q", tmp_path], check=True)
        who = ("-c", "user.name=a", "-c", "user.email=a@invalid")
        subprocess.run(["git", "-C", tmp_path, *who, "commit", "-q", "--allow-empty", "-m", "Empty"], check=True)

        with pytest.raises(ConformError, match="is not a kernel tree"):
            cli.checked(["run", f"tree:{tmp_path}"])

    def test_the_launcher_takes_yes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """--yes before the command covers the set-up; removing kernels needs its own --yes."""
        monkeypatch.setenv(YES, "")
        assert launch._take(["run", "--yes", "--", "--yes"]) == ["run", "--", "--yes"]
        assert os.environ[YES] == "1"
        monkeypatch.setenv(YES, "")
        assert launch._take(["kernels", "prune", "--yes"]) == ["kernels", "prune", "--yes"]
        assert os.environ[YES] == ""
