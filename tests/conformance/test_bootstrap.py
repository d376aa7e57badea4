# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from conformance.host.packages import PACKAGES, HostPackage
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
DEADLINE = 120.0
# The first line of ./conform, with this Python in place of Debian's.
PYTHON = (sys.executable, "-IS")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a fresh checkout; its only requirement is a package made here."""
    return clone(tmp_path / "checkout")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkout whose first start was killed in the middle, and whose second was not."""
    root = clone(tmp_path_factory.mktemp("made") / "checkout")
    with started(root, "run") as process:
        wait_until((root / ".venv" / "bin" / "python").exists, "the environment is there", patience=DEADLINE)
        process.kill()
    assert not (root / ".venv" / "requirements.txt.installed").exists()
    (root / ".venv" / "lib" / "rubbish").parent.mkdir(exist_ok=True)
    (root / ".venv" / "lib" / "rubbish").write_text("half of something")
    again = conform(root, "run")
    assert again.returncode == 0, again.stderr
    assert again.stdout == "ran toy\n"
    return root


def clone(root: Path) -> Path:
    """Copy this checkout's code to `root`, with a small command in place of the real one."""
    for name in ("bpf", "common", "conformance", "kernels", "vm"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "conform", root)
    (root / "conformance" / "__main__.py").write_text("import toy\nprint('ran', toy.__name__)\n")
    (root / "index").mkdir()
    toy, tool = (f"{name}==1 --hash=sha256:{wheel(root / 'index', name)}\n" for name in ("toy", "tool"))
    (root / "requirements.txt").write_text(toy)
    (root / "requirements-dev.txt").write_text(toy + tool)
    return root


def wheel(index: Path, name: str) -> str:
    """Make a package of one empty module and return its SHA-256."""
    path = index / f"{name}-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{name}-1.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        archive.writestr(f"{name}-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{name}-1.dist-info/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def surroundings(root: Path, **more: str) -> dict[str, str]:
    """Return the variables of a process that sees no package index but the checkout's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON", "CONFORM_"))}
    return {**kept, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(root / "index"), **more}


def conform(root: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run ./conform to its end."""
    command = [*PYTHON, str(root / "conform"), *arguments]
    return subprocess.run(
        command, env=surroundings(root, **more), capture_output=True, text=True, timeout=DEADLINE, check=False
    )


@contextmanager
def started(root: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run ./conform while the block runs."""
    command = [*PYTHON, str(root / "conform"), *arguments]
    with subprocess.Popen(command, env=surroundings(root), stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the lock of another ./conform that is setting up."""
    descriptor = os.open(root, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def programs(folder: Path, *absent: str) -> Path:
    """Make a folder for PATH that holds what the packages provide, except `absent`, and what sets them up."""
    folder.mkdir()
    provided = {proof for package in PACKAGES for proof in package.proofs if not os.path.isabs(proof)}
    for name in provided - set(absent):
        (folder / name).symlink_to("/bin/true")
    for name in ("env", "ln", "setpriv", "sh"):
        (folder / name).symlink_to(f"/bin/{name}")
    return folder


def script(path: Path, text: str) -> None:
    """Write an executable shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_every_package_says_why_it_is_needed(package: HostPackage) -> None:
    """A package has a reason that fits a line, and a proof: a program, or an absolute path."""
    assert re.fullmatch(r"[a-z0-9.+-]+", package.name)
    assert 10 < len(package.reason) < 80
    assert package.proofs
    assert all(os.path.isabs(proof) or "/" not in proof for proof in package.proofs)


@pytest.mark.parametrize(("program", "package"), [("qemu-system-x86_64", "qemu-system-x86"), ("clang", "clang")])
@pytest.mark.parametrize("forbidden_by", ["option", "variable"])
def test_no_install_names_what_is_missing(
    checkout: Path, tmp_path: Path, program: str, package: str, forbidden_by: str
) -> None:
    """With --no-install a missing program is one sentence that names its package, a hint that installs it, and 128."""
    path = str(programs(tmp_path / "bin", program))
    if forbidden_by == "option":
        done = conform(checkout, "run", "--no-install", PATH=path)
    else:
        done = conform(checkout, "run", CONFORM_NO_INSTALL="1", PATH=path)
    assert done.returncode == 128
    assert done.stderr == (
        f"conform: missing packages: {package}, and --no-install forbids installing them\n"
        f"  hint: run: sudo apt-get install --yes --no-install-recommends {package}\n"
    )
    assert not (checkout / ".venv" / "bin").exists()


def test_what_is_missing_is_installed_and_said(made: Path, tmp_path: Path) -> None:
    """A missing package is installed with apt-get, after package lists turned out to be missing, with its reason."""
    path = programs(tmp_path / "bin", "clang")
    script(path / "sudo", '[ "$1" = -n ] && shift\nexec "$@"')
    script(
        path / "apt-get",
        f'echo "$@" >> {tmp_path}/asked\n'
        f'case "$1$(/bin/cat {tmp_path}/updated 2>&-)" in\n'
        f"    update) echo yes > {tmp_path}/updated;;\n"
        f"    installyes) ln -s /bin/true {path}/clang;;\n"
        "    *) exit 100;;\n"
        "esac",
    )
    done = conform(made, "run", PATH=str(path))
    assert (done.returncode, done.stdout) == (0, "ran toy\n"), done.stderr
    assert "conform: installing clang (compiles the BPF programs)" in done.stderr
    asked = (tmp_path / "asked").read_text().splitlines()
    assert [line.split()[0] for line in asked] == ["install", "update", "install"]
    assert "--no-install-recommends clang" in asked[0]


def test_a_failing_apt_get_is_quoted(made: Path, tmp_path: Path) -> None:
    """When apt-get fails the sentence holds what it said, and the hint where the rest is."""
    path = programs(tmp_path / "bin", "clang")
    script(path / "sudo", '[ "$1" = -n ] && shift\nexec "$@"')
    script(path / "apt-get", "echo 'Reading package lists...'; echo 'E: Unable to locate package clang'; exit 100")
    done = conform(made, "run", PATH=str(path))
    assert done.returncode == 128
    assert "conform: apt-get could not install clang: Unable to locate package clang\n" in done.stderr
    assert f"hint: details: {made}/.venv/apt.log" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_killed_set_up_is_done_again(made: Path) -> None:
    """A second set-up removes the rest of a killed one and completes it."""
    assert not (made / ".venv" / "lib" / "rubbish").exists()
    assert (made / ".venv" / "requirements.txt.installed").exists()


def test_a_start_with_nothing_missing_spawns_nothing(made: Path) -> None:
    """Once all is set up, ./conform runs the command without a child process and without slow imports."""
    watch = (
        "import os, sys\n"
        "def hook(event, arguments):\n"
        "    if event == 'os.exec':\n"
        "        print('exec', *arguments[1])\n"
        "        print('path', os.environ.get('PYTHONPATH'), os.environ.get('PYTHONSAFEPATH'))\n"
        "        print('bytecode', os.environ.get('PYTHONDONTWRITEBYTECODE'), os.environ.get('PYTHONPYCACHEPREFIX'))\n"
        "        print('unbuffered', os.environ.get('PYTHONUNBUFFERED'))\n"
        "        print('imported', *({'argparse', 'enum', 're', 'shutil', 'subprocess'} & set(sys.modules)))\n"
        "    elif event in ('subprocess.Popen', 'os.fork', 'os.forkpty', 'os.posix_spawn', 'os.system'):\n"
        "        print('spawned', event)\n"
        f"sys.path.insert(0, {str(made)!r})\n"
        "sys.addaudithook(hook)\n"
        "from conformance.launch import launch\n"
        f"launch({str(made)!r}, ['run', '--', '-x'])\n"
    )
    unbuffered = [*PYTHON, "-u", "-c", watch]
    world = {**surroundings(made), "PYTHONPATH": ".", "PYTHONHOME": "/nowhere", "PYTHONDONTWRITEBYTECODE": "1"}
    world["PYTHONUNBUFFERED"] = "1"
    done = subprocess.run(unbuffered, env=world, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        f"exec {made}/.venv/bin/python -P -m conformance run -- -x",
        "path None 1",
        f"bytecode None {made}/.venv/bytecode",
        "unbuffered None",
        "imported",
        "ran toy",
    ]


@pytest.mark.parametrize(
    ("pin", "message", "hint"),
    [
        ("tool==1 --hash=sha256:" + "0" * 64, "THESE PACKAGES DO NOT MATCH", "damaged or tampered"),
        ("tool==1", "Hashes are required", "requirements were edited"),
        ("tool==2 --hash=sha256:" + "0" * 64, "No matching distribution found for tool==2", "index reachable"),
    ],
    ids=["wrong", "absent", "unknown"],
)
def test_a_requirement_that_cannot_be_trusted_is_a_sentence(made: Path, pin: str, message: str, hint: str) -> None:
    """A file with another hash, with none, or no file at all stops the set-up: one sentence, 128, details in a log."""
    pins = made / "requirements-dev.txt"
    good = pins.read_text()
    # One hash anywhere makes pip demand all of them, so the case without has none at all.
    pins.write_text(f"{pin}\n")
    done = conform(made, "test")
    pins.write_text(good)
    assert done.returncode == 128
    said, hinted = done.stderr.splitlines()[-2:]
    assert said.startswith(f"conform: pip could not install requirements-dev.txt: {message}")
    assert hint in hinted
    assert str(made / ".venv" / "setup.log") in hinted
    assert "Traceback" not in done.stderr
    assert not (made / ".venv" / "requirements-dev.txt.installed").exists()


def test_of_two_at_once_one_waits(made: Path) -> None:
    """While another ./conform sets up the checkout, this one says that it waits; then it finds its work done."""
    stamp = made / ".venv" / "requirements.txt.installed"
    stamp.rename(made / "stamp")
    with ExitStack() as held:
        held.enter_context(locked(made))
        with started(made, "kernels") as process:
            assert process.stderr is not None
            assert (
                process.stderr.readline() == "conform: another ./conform is setting up this checkout; waiting for it\n"
            )
            assert process.poll() is None
            (made / "stamp").rename(stamp)
            held.close()
            assert process.wait(DEADLINE) == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_set_up_without_a_word(checkout: Path, number: signal.Signals, code: int) -> None:
    """SIGHUP, SIGINT and SIGTERM during the set-up give the exit codes that stop a bisection, and no traceback."""
    with locked(checkout), started(checkout, "kernels") as process:
        assert process.stderr is not None
        assert "waiting" in process.stderr.readline()
        process.send_signal(number)
        assert process.stderr.read() == ""
        assert process.wait(DEADLINE) == code


@pytest.mark.parametrize(
    "arguments", [("frobnicate",), ("run", "--frobnicate"), ("test", "frobnicate"), ("test", "--frobnicate")]
)
def test_a_wrong_command_line_sets_nothing_up(checkout: Path, arguments: tuple[str, ...]) -> None:
    """A mistyped command on a fresh machine is answered at once: a sentence, a hint, 128, and nothing was made."""
    done = conform(checkout, *arguments)
    assert done.returncode == 128
    assert re.fullmatch(r"conform: .*frobnicate.*\n  hint: .*\n", done.stderr)
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("test", "--help")])
def test_help_sets_nothing_up(checkout: Path, arguments: tuple[str, ...]) -> None:
    """Help needs neither packages nor an environment."""
    done = conform(checkout, *arguments, PATH="/nonexistent")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"usage: \S*/conform\s", done.stdout)
    assert not (checkout / ".venv").exists()


def test_no_command_is_no_success(checkout: Path) -> None:
    """`git bisect run ./conform` must stop instead of calling every commit good."""
    done = conform(checkout, PATH="/nonexistent")
    assert done.returncode == 128
    assert done.stderr.startswith("conform: no command")


def test_another_folder_with_our_names_is_not_imported(made: Path, tmp_path: Path) -> None:
    """The command works from any directory, even one that holds a module of the same name."""
    (tmp_path / "conformance.py").write_text("raise SystemExit('wrong module')\n")
    command = [*PYTHON, str(made / "conform"), "run"]
    done = subprocess.run(
        command, cwd=tmp_path, env=surroundings(made), capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert (done.returncode, done.stdout) == (0, "ran toy\n"), done.stderr
