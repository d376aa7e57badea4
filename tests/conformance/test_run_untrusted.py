# SPDX-License-Identifier: GPL-2.0-only
"""The command is run from untrusted directories, such as the kernel tree under test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.conform import conform, environment
from tests.waiting import wait_until
from vm.host import LocalAgent

CASE = "sockmap-ingress-to-egress-tcp4-unix_stream"
OURS = ("bpf", "common", "conformance", "kernels", "tests", "vm")
DEPENDENCIES = ("elftools", "execnet", "jinja2", "pluggy", "pytest", "virtme", "xdist", "zstandard")
HOOKS = ("conftest", "sitecustomize", "test_net", "usercustomize")
CANARY = "import os\nwith open({canary!r}, 'a') as file:\n    file.write(f'{{__name__}} in {{os.getpid()}}\\n')\n"


@pytest.fixture
def poisoned(tmp_path: Path) -> Path:
    """Return a directory with a fake of every module that is imported, each of which writes to `canary`."""
    folder = tmp_path / "linux"
    (folder / "net").mkdir(parents=True)
    canary = CANARY.format(canary=str(tmp_path / "canary"))
    for name in (*sys.stdlib_module_names, *DEPENDENCIES, *HOOKS):
        (folder / f"{name}.py").write_text(canary)
    for name in (*OURS, "virtme/commands", "vm/guest", "net"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "__init__.py").write_text(canary)
    (folder / "virtme" / "__init__.py").write_text(canary)
    (folder / "virtme" / "commands" / "run.py").write_text(canary)
    (folder / "net" / "test_net.py").write_text(canary)
    (folder / "net" / "conftest.py").write_text(canary)
    for name in ("pytest.ini", "tox.ini"):
        (folder / name).write_text("[pytest]\naddopts = -p test_net\n")
    return folder


def canaries(folder: Path) -> str:
    """Return the modules imported from the directory."""
    file = folder.parent / "canary"
    return file.read_text() if file.exists() else ""


def test_the_poison_works(poisoned: Path) -> None:
    """A Python that imports from the current directory is detected."""
    careless = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    subprocess.run([sys.executable, "-c", "import argparse"], cwd=poisoned, env=careless, check=False)
    assert "argparse" in canaries(poisoned)


@pytest.mark.vm
@pytest.mark.parametrize("more", [("-n", "2"), ("--", "-k", "net")], ids=["workers", "pytest"])
def test_nothing_of_the_current_directory_is_run(poisoned: Path, more: tuple[str, ...]) -> None:
    """Neither the command nor its workers nor virtme-ng import anything from the directory they are started in."""
    selected = () if more[0] == "--" else ("-k", CASE)
    listed = ("--collect-only", "-q") if more[0] == "--" else ()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "conformance", "run", "--kernel", "debian:6.12", "--machine", "cold", *selected,
         *more, *listed],
        cwd=poisoned, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert not canaries(poisoned), done.stdout + done.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 case: 1 pass" in done.stdout or "tests collected" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="judging the running kernel needs root")
def test_the_agent_on_the_host_imports_nothing_from_the_current_directory(
    poisoned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent that judges the running kernel ignores current directory and PYTHONPATH."""
    monkeypatch.chdir(poisoned)
    monkeypatch.setenv("PYTHONPATH", os.fspath(poisoned))
    agent = LocalAgent()
    try:
        agent.control.close()
        wait_until(lambda: os.waitid(os.P_PIDFD, agent.exited, os.WEXITED | os.WNOWAIT) is not None, "it ended")
        assert "Traceback" not in agent.console()
    finally:
        agent.close()
    assert not canaries(poisoned)


def test_python_dash_m_is_as_careful(tmp_path: Path) -> None:
    """Without -P Python looks for the first module in the current directory, and imports nothing else from it."""
    folder = tmp_path / "linux"
    folder.mkdir()
    for name in ("argparse", "json", "common"):
        (folder / f"{name}.py").write_text(CANARY.format(canary=str(tmp_path / "canary")))

    done = conform("run", "--kernel", "nosuch", cwd=folder)

    assert "unknown kernel" in done.stderr, done.stderr
    assert not canaries(folder)


def test_children_are_as_careful(tmp_path: Path) -> None:
    """Every Python process below the command is started so that it does not import from the current directory."""
    script = "import json, os, runpy; os.environ.pop('PYTHONSAFEPATH', 0)\n"
    script += "try: runpy.run_module('conformance', run_name='__main__')\nexcept SystemExit: pass\n"
    script += "print(json.dumps(os.environ.get('PYTHONSAFEPATH')))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, "--help"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout.splitlines()[-1]) == "1"
