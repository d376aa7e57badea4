# SPDX-License-Identifier: GPL-2.0-only
"""The first start: install the packages that are missing and make the virtual environment.

A killed set-up is done again, because the stamp is written last; of two at the same time, one waits.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from common.errors import ConformError, ExitCode, HostError, interruption, print_error
from common.say import note
from common.signals import raise_on_signals, restore_signals
from conformance.host import checks
from conformance.host.environment import RUN, Environment
from conformance.host.packages import HostPackage, apt_get, missing

# A leftover child must not write while the next set-up runs.
_DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")


def prepare(environment: Environment, arguments: Sequence[str], parse: Callable[[Sequence[str]], object]) -> int | None:
    """Install what `./conform ARGUMENTS` needs, as `parse` reads it; returns an exit code if it must not run."""
    raise_on_signals()
    try:
        # A command line that is wrong, or asks for help, must not install anything first.
        if arguments[0] == "test":
            checks.parse(arguments[1:])
        else:
            parse(arguments)
        with _alone(environment):
            _install_packages(environment, list(arguments))
            _install_requirements(environment, arguments[0])
    except ConformError as error:
        print_error(error)
        return int(error.exit_code)
    except KeyboardInterrupt as error:
        return int(interruption(error) or ExitCode.INTERRUPTED)
    restore_signals()
    return None


def say(line: str) -> None:
    """Print what is being installed, on stderr: stdout belongs to the command."""
    note(f"conform: {line}")


@contextmanager
def _alone(environment: Environment) -> Iterator[None]:
    try:
        os.makedirs(environment.folder, exist_ok=True)
        # The lock is on the checkout itself: .venv comes and goes.
        checkout = os.open(environment.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _unwritable(environment, error) from error
    try:
        try:
            fcntl.flock(checkout, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another ./conform is setting up this checkout; waiting for it")
            fcntl.flock(checkout, fcntl.LOCK_EX)
        yield
    except OSError as error:
        raise _unwritable(environment, error) from error
    finally:
        os.close(checkout)


def _unwritable(environment: Environment, error: OSError) -> HostError:
    return HostError(
        f"cannot set up {error.filename or environment.folder}: {(error.strerror or str(error)).lower()}",
        hint="the virtual environment is made in the checkout, which must be writable and have 200 MB of free space",
    )


def _install_packages(environment: Environment, arguments: list[str]) -> None:
    packages = missing(arguments)
    if not packages:
        return
    names = ", ".join(package.name for package in packages)
    by_hand = shlex.join(["sudo", *apt_get(packages)])
    if os.environ.get("CONFORM_NO_INSTALL", "") not in ("", "0"):
        raise HostError(f"missing packages: {names}, and --no-install forbids installing them", hint=f"run: {by_hand}")
    if shutil.which("apt-get") is None:
        raise HostError(
            f"missing packages: {names} (Debian's names), and there is no apt-get here", hint=_proofs(packages)
        )
    _ask(packages)
    prefix = _become_root(names, by_hand)
    started = time.monotonic()
    log = os.path.join(environment.folder, "apt.log")
    install = ["env", "DEBIAN_FRONTEND=noninteractive", *apt_get(packages), "-o", "DPkg::Lock::Timeout=600"]
    # A fresh container has no package lists, an old machine has stale ones: fetch them when they turn out to be needed.
    done = _logged([*prefix, *install], log) or (
        _logged([*prefix, "apt-get", "update"], log) and _logged([*prefix, *install], log)
    )
    if not done:
        raise HostError(f"apt-get could not install {names}: {_last_error(log, 'E:')}", hint=f"details: {log}")
    if still := missing(arguments):
        raise HostError(
            f"apt-get installed {still[0].name}, yet {still[0].proofs[0]} is not found", hint=f"details: {log}"
        )
    say(f"packages installed in {time.monotonic() - started:.0f} s")


def _ask(packages: Sequence[HostPackage]) -> None:
    """Say what is installed and why, and ask on a terminal; CI has none, and installs as it always did."""
    ready = os.environ.get("CONFORM_YES", "") not in ("", "0") or not (sys.stdin.isatty() and sys.stderr.isatty())
    for package in packages:
        say(f"{'installing' if ready else 'missing:'} {package.name} ({package.reason})")
    if not ready:
        say("install them with apt-get? [Y/n]")
        if sys.stdin.readline().strip().lower() not in ("", "y", "yes"):
            by_hand = shlex.join(["sudo", *apt_get(list(packages))])
            raise HostError("nothing was installed", hint=f"by hand: {by_hand}")


def _proofs(packages: Sequence[HostPackage]) -> str:
    return f"this machine must have: {', '.join(package.proofs[0] for package in packages)}"


def _become_root(names: str, by_hand: str) -> list[str]:
    if os.geteuid() == 0:
        return []
    # Without a terminal nobody can answer sudo's question.
    sudo = ["sudo"] if sys.stdin.isatty() else ["sudo", "-n"]
    if (
        shutil.which("sudo") is None
        or subprocess.run([*sudo, "true"], stderr=subprocess.DEVNULL, check=False).returncode
    ):
        raise HostError(f"missing packages: {names}, and installing them takes root or sudo", hint=f"run: {by_hand}")
    return sudo


def _install_requirements(environment: Environment, command: str) -> None:
    log = os.path.join(environment.folder, "setup.log")
    for name in environment.stale(command):
        started = time.monotonic()
        if name == RUN:
            say("making .venv, the project's own virtual environment")
            _make(environment, log)
        say(f"installing {name} into .venv, every file pinned and hashed")
        # fmt: off
        pip = [
            *_DIE_WITH_PARENT, environment.python, "-I", "-m", "pip", "install",
            "--require-hashes",
            "--only-binary", ":all:",
            "--no-input",
            "--disable-pip-version-check",
            "--progress-bar", "off",
            "--requirement", os.path.join(environment.root, name),
        ]
        # fmt: on
        if not _logged(pip, log):
            raise HostError(
                f"pip could not install {name}: {_last_error(log, 'ERROR:')}", hint=f"{_pip_hint(log)}; details: {log}"
            )
        with open(environment.stamp(name), "wb") as stamp:
            stamp.write(environment.state(name))
        say(f"done in {time.monotonic() - started:.0f} s")


def _make(environment: Environment, log: str) -> None:
    # Renamed first: half of a removed environment must not look whole.
    old = environment.folder + ".old"
    shutil.rmtree(old, ignore_errors=True)
    os.rename(environment.folder, old)
    shutil.rmtree(old, ignore_errors=True)
    os.makedirs(environment.folder)
    if not _logged([*_DIE_WITH_PARENT, sys.executable, "-I", "-m", "venv", "--without-pip", environment.folder], log):
        raise HostError(
            f"{sys.executable} could not make {environment.folder}: {_last_error(log, 'Error:')}",
            hint=f"details: {log}",
        )
    packages = os.path.join(
        environment.folder, "lib", f"python{sys.version_info.major}.{sys.version_info.minor}", "site-packages"
    )
    # Like ensurepip, without its child processes, which would outlive this one.
    with zipfile.ZipFile(_pip_wheel()) as wheel:
        wheel.extractall(packages)
    # The suite runs from its checkout; this makes `import conformance` work wherever the user stands.
    with open(os.path.join(packages, "conformance.pth"), "w", encoding="utf-8") as path:
        path.write(environment.root + "\n")


def _pip_wheel() -> str:
    """Return the wheel of pip that this Python has for new environments."""
    # Debian keeps the wheels elsewhere and says so there.
    bundled = os.path.join(os.path.dirname(os.__file__), "ensurepip", "_bundled")
    folder = sysconfig.get_config_var("WHEEL_PKG_DIR") or bundled
    wheels = sorted(name for name in os.listdir(folder) if name.startswith("pip-"))
    if not wheels:
        raise HostError(f"there is no pip in {folder}", hint="apt-get install --reinstall python3-pip-whl")
    return os.path.join(folder, wheels[-1])


def _logged(command: Sequence[str], log: str) -> bool:
    """Run a command with its output in `log`; returns whether it exited 0. It ends with this process."""
    with open(log, "wb") as output:
        output.write(f"$ {shlex.join(command)}\n".encode())
        output.flush()
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output) as process:
            try:
                return process.wait() == 0
            except BaseException:
                with suppress(ProcessLookupError, PermissionError):
                    process.terminate()
                raise


def _last_error(log: str, marker: str) -> str:
    """Return the last line of `log` that holds `marker`, else its last line."""
    with open(log, encoding="utf-8", errors="replace") as file:
        lines = [line.strip() for line in file if line.strip()]
    marked = [line for line in lines if line.startswith(marker)]
    return (marked or lines)[-1].removeprefix(marker).strip().rstrip(".")


def _pip_hint(log: str) -> str:
    with open(log, encoding="utf-8", errors="replace") as file:
        text = file.read()
    if "DO NOT MATCH THE HASHES" in text or "Hashes are required" in text:
        return "a download was damaged or tampered with, or the requirements were edited: `git status` tells which"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "if a proxy decrypts TLS, set PIP_CERT to the file with its certificate"
    return "is the package index reachable? pip reads proxies and mirrors from pip.conf and PIP_* as usual"
