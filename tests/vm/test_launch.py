# SPDX-License-Identifier: GPL-2.0-only
"""Real machines. One cache for the module, so that its template is made once."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from common import cache
from kernels.kernel import Kernel
from kernels.resolve import resolve
from tests.waiting import wait_until
from vm import template
from vm.accel import AcceleratorChoice
from vm.host import CHECKOUT
from vm.launch import Plan, UnfitError, open_machine, prepare
from vm.machine import CallStatus, Machine, MachineKind, MachineOptions
from vm.monitor import QmpError
from vm.qemu import Qemu
from vm.session import Session
from vm.template import Template

pytestmark = pytest.mark.vm

SPEC = "debian:6.12"
OPTIONS = MachineOptions(accelerator="tcg", preload=("vsock_loopback",))
CODE = """
import os, signal, socket, time

def echo(arguments):
    return arguments

def facts(arguments):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
    with socket.socket(socket.AF_VSOCK) as other:
        other.bind((1, 1234))
    return {"release": os.uname().release, "pid": os.getpid(), "time": time.time(),
            "mounts": open("/proc/mounts").read().split()}

warned = 0

def warnings(arguments):
    return warned

def crash(arguments):
    open("/proc/sysrq-trigger", "w").write("c")

def hang(arguments):
    signal.pause()

def freeze(arguments):
    os.kill(os.getppid(), signal.SIGSTOP)
    signal.pause()

def warn_late(arguments):
    log = os.open("/dev/kmsg", os.O_RDONLY)
    os.lseek(log, 0, os.SEEK_END)
    if not os.fork():
        while b"conform: end" not in os.read(log, 8192):
            pass
        warn(arguments)
        os._exit(0)

def warn(arguments):
    global warned
    warned += 1
    open("/dev/kmsg", "w").write("<4>something odd\\n")
"""
BUNDLE = {"probe": CODE}


@pytest.fixture(name="subject", scope="module")
def _subject() -> Kernel:
    return resolve(SPEC)


@pytest.fixture(name="prepared", scope="module")
def _prepared(subject: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """The kernel, with a template in a cache of the module's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        # A place for temporary files where nobody else leaves any.
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))
        patch.setenv("TMPDIR", tempfile.gettempdir())
        info = prepare(subject, OPTIONS, BUNDLE, _warmup)
        assert info.kind is MachineKind.CLONE
        yield subject


@pytest.fixture(name="machine")
def _machine(prepared: Kernel) -> Iterator[Machine]:
    with contextlib.closing(open_machine(prepared, OPTIONS)) as machine:
        machine.load(BUNDLE)
        yield machine


def _warmup(machine: Machine) -> None:
    assert machine.call("probe:echo", {}, deadline=5.0).status is CallStatus.ANSWERED


def test_a_clone_runs_the_kernel(machine: Machine, prepared: Kernel) -> None:
    """The guest runs the chosen kernel and has loopback, modules, mounts and the right time."""
    reply = machine.call("probe:facts", {}, deadline=5.0)
    assert reply.status is CallStatus.ANSWERED, reply.error
    assert reply.value["release"] == prepared.release
    assert {"cgroup2", "bpf", "tracefs"} <= set(reply.value["mounts"])
    assert abs(reply.value["time"] - time.time()) < 5
    assert machine.info.kind is MachineKind.CLONE
    assert machine.info.factor >= 1


def test_a_warm_clone_has_its_worker(machine: Machine) -> None:
    """A warm clone needs no code and no new worker."""
    assert machine.call("probe:echo", {"n": 1}, deadline=5.0).seconds < 0.5 * machine.info.factor


def test_the_log_is_the_calls_own(machine: Machine) -> None:
    """Boot messages belong to no call; what the kernel logs during a call comes with its reply."""
    assert machine.call("probe:echo", {}, deadline=5.0).log == ()
    reply = machine.call("probe:warn", {}, deadline=5.0)
    assert [(line.level, line.text) for line in reply.log] == [(4, "something odd")]
    assert reply.log_complete
    assert machine.call("probe:echo", {}, deadline=5.0).log == ()


def test_what_the_kernel_says_between_two_calls_is_neither_s(machine: Machine) -> None:
    """A record above the mark of a call is kept apart from those below it, and no mark is in either."""
    machine.call("probe:warn_late", {}, deadline=5.0)
    assert isinstance(machine, Session)
    body = machine._body
    wait_until(lambda: "something odd" in body.console(), "the kernel says something late")
    reply = machine.call("probe:echo", {}, deadline=5.0)
    assert [line.text for line in reply.before] == ["something odd"]
    assert reply.log == ()
    assert machine.call("probe:warn", {}, deadline=5.0).before == ()


def test_a_panic_is_data(machine: Machine) -> None:
    """The reply has the panic's title and the console its stack; the machine is gone."""
    reply = machine.call("probe:crash", {}, deadline=5.0)
    assert reply.status is CallStatus.PANICKED
    assert "Kernel panic - not syncing: sysrq triggered crash" in reply.error
    assert "write_sysrq_trigger" in reply.console
    assert not machine.usable


@pytest.mark.parametrize("function", ["hang", "freeze"])
def test_an_overrun_is_data(prepared: Kernel, function: str) -> None:
    """A case that sleeps, and one that takes the agent along, both end; the next machine is sound."""
    with contextlib.closing(open_machine(prepared, OPTIONS)) as machine:
        machine.load(BUNDLE)
        reply = machine.call(f"probe:{function}", {}, deadline=0.1)
        assert reply.status is CallStatus.OVERRAN
        assert not machine.usable
    with contextlib.closing(open_machine(prepared, OPTIONS)) as machine:
        machine.load(BUNDLE)
        assert machine.call("probe:echo", {}, deadline=5.0).status is CallStatus.ANSWERED


def test_changed_code_needs_no_new_template(prepared: Kernel) -> None:
    """A clone of a template that is warm with other code runs the code it is given."""
    with contextlib.closing(open_machine(prepared, OPTIONS)) as machine:
        machine.load({"probe": CODE.replace("return arguments", 'return "new"')})
        assert machine.call("probe:echo", {}, deadline=5.0).value == "new"


def test_changed_code_is_warmed_up_from_the_old_template(prepared: Kernel) -> None:
    """Preparing for other guest code needs no boot."""
    said: list[str] = []
    before = template.newest(Plan(prepared, OPTIONS, said.append).key)
    prepare(prepared, OPTIONS, {**BUNDLE, "more": ""}, _warmup, said.append)
    after = template.newest(Plan(prepared, OPTIONS, said.append).key)
    assert said == []
    assert before != after
    with contextlib.closing(open_machine(prepared, OPTIONS)) as machine:
        machine.load({**BUNDLE, "more": ""})
        assert machine.call("probe:echo", {}, deadline=5.0).status is CallStatus.ANSWERED


def _damage(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 3)
        file.write(b"\xff" * 4096)


def _lose_devices(path: Path) -> None:
    """Seal an invalid snapshot: only the restore can notice."""
    path.write_bytes(b"not a device state" * 1000)
    found = Template.read(path.parent)
    template.seal(path.parent, found.composition, found.info)


@pytest.mark.parametrize(
    ("name", "harm"), [("ram", _damage), ("state", _damage), ("manifest.json", _damage), ("state", _lose_devices)]
)
def test_a_damaged_template_is_made_again(prepared: Kernel, name: str, harm: object) -> None:
    """Whatever is damaged, a sound, warm clone starts, and progress and info say what happened."""
    said: list[str] = []
    folder = template.newest(Plan(prepared, OPTIONS, said.append).key)
    assert folder is not None
    assert callable(harm)
    harm(folder / name)
    with contextlib.closing(open_machine(prepared, OPTIONS, said.append, bundle=BUNDLE, warmup=_warmup)) as machine:
        assert machine.call("probe:echo", {"n": 1}, deadline=5.0).value == {"n": 1}
        assert machine.info.kind is MachineKind.CLONE
        assert "discarded" in machine.info.why
    assert any("discarded" in sentence for sentence in said)


def test_a_cold_machine_answers_the_same(prepared: Kernel) -> None:
    """A cold machine gives the same answers as a clone."""
    options = MachineOptions(kind=MachineKind.COLD, accelerator="tcg", preload=OPTIONS.preload)
    with contextlib.closing(open_machine(prepared, options)) as machine:
        machine.load(BUNDLE)
        assert machine.call("probe:facts", {}, deadline=5.0).value["release"] == prepared.release
        assert machine.info.kind is MachineKind.COLD


def test_why_is_for_each_run_to_say(prepared: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that shares the template of another gives its own reason for using TCG."""
    monkeypatch.setattr("vm.accel.choose", lambda *_: AcceleratorChoice("tcg", "because there is no KVM"))
    assert prepare(prepared, OPTIONS, BUNDLE, _warmup).why == "because there is no KVM"
    with contextlib.closing(open_machine(prepared, OPTIONS)) as machine:
        assert machine.info.why == "because there is no KVM"


def test_without_snapshots_machines_boot_cold(subject: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that cannot be saved is no obstacle: preparing and opening both say that it will be a cold boot."""

    def refuse(qemu: Qemu, state: Path) -> None:
        raise QmpError("migration is disabled")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(Qemu, "save", refuse)
    info = prepare(subject, OPTIONS, BUNDLE, _warmup)
    assert info.kind is MachineKind.COLD
    assert "migration is disabled" in info.why
    with contextlib.closing(open_machine(subject, OPTIONS)) as machine:
        machine.load(BUNDLE)
        assert machine.call("probe:echo", {"n": 1}, deadline=5.0).value == {"n": 1}
        assert "migration is disabled" in machine.info.why


USER = """
import pickle, sys
from pathlib import Path
from tests.vm.test_launch import BUNDLE, OPTIONS, _warmup
from vm.launch import open_machine, prepare

kernel = pickle.loads(Path(sys.argv[1]).read_bytes())
prepare(kernel, OPTIONS, BUNDLE, _warmup, lambda sentence: print("said", sentence, flush=True))
machine = open_machine(kernel, OPTIONS)
machine.load(BUNDLE)
print("qemu", machine._body.process.pid, flush=True)
machine.call(sys.argv[2], {}, deadline=60.0)
machine.close()
"""


def _user(subject: Kernel, folder: Path, function: str) -> subprocess.Popen[str]:
    """Start another process that uses the suite."""
    pickled = folder / "kernel"
    pickled.write_bytes(pickle.dumps(subject))
    return subprocess.Popen(
        [sys.executable, "-c", USER, str(pickled), function], stdout=subprocess.PIPE, text=True, cwd=CHECKOUT
    )


def _files() -> set[Path]:
    """Return the files in the cache and in all places where a run might leave some."""
    inside = {path for path in cache.root().rglob("*") if "locks" not in path.parts}
    return inside.union(*(set(Path(folder).iterdir()) for folder in ("/dev/shm", tempfile.gettempdir())))  # noqa: S108


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_survives_its_user(prepared: Kernel, tmp_path: Path, number: signal.Signals) -> None:
    """However a run ends, SIGKILL included, there is no QEMU and no file of it afterwards."""
    prepare(prepared, OPTIONS, BUNDLE, _warmup)
    before = _files()
    user = _user(prepared, tmp_path, "probe:hang")
    assert user.stdout is not None
    with user.stdout:
        pid = next(int(line.split()[1]) for line in user.stdout if line.startswith("qemu"))
    assert Path(f"/proc/{pid}").exists()
    user.send_signal(number)
    user.wait(10)
    _await_death(pid)
    assert _files() - before == set()


def test_a_build_that_is_killed_leaves_nothing(
    subject: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half-made template is not used, its QEMU dies, and the next run makes the template."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    user = _user(subject, tmp_path, "probe:echo")
    ram = "partial/templates@*/ram"
    wait_until(lambda: any(path.stat().st_blocks > 100_000 for path in cache.root().glob(ram)), "a guest has memory")
    (folder,) = cache.root().glob("partial/templates@*")
    pids = [pid for pid in _pids() if "qemu" in _command_line(pid) and str(folder / "ram") in _opened(pid)]
    assert len(pids) == 1
    user.kill()
    user.communicate()
    _await_death(pids[0])
    assert template.newest(Plan(subject, OPTIONS, print).key) is None
    prepare(subject, OPTIONS, BUNDLE, _warmup)
    cache.sweep()
    assert list((cache.root() / "partial").iterdir()) == []


@pytest.mark.parametrize("fault", ["probe:warn", "probe:crash"])
def test_an_unfit_guest_is_not_cloned(fault: str, subject: Kernel, tmp_path: Path,
                                      monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """If a warm-up breaks or kills the guest, a guest without warm-up is used, and its info says so."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    said: list[str] = []

    def spoil(machine: Machine) -> None:
        machine.call(fault, {}, deadline=5.0)
        raise UnfitError("it logged something odd")

    prepare(subject, OPTIONS, BUNDLE, spoil, said.append)

    assert any("something odd" in sentence for sentence in said)
    with contextlib.closing(open_machine(subject, OPTIONS)) as machine:
        assert machine.info.kind is MachineKind.CLONE
        machine.load(BUNDLE)
        assert machine.call("probe:warnings", {}, deadline=5.0).value == 0


def test_two_runs_build_one_template(subject: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two runs that need the same template, one boots and both use it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    users = [_user(subject, tmp_path, "probe:echo") for _ in range(2)]
    outputs = [user.communicate(timeout=120)[0] for user in users]
    assert [user.returncode for user in users] == [0, 0]
    assert sum(output.count("said booting") for output in outputs) == 1
    assert len(list(cache.root().glob("templates/*"))) == 1


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def _opened(pid: int) -> set[str]:
    """Return the files that a process has open."""
    found = set()
    with contextlib.suppress(OSError):
        for each in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(os.readlink(each))
    return found


def _await_death(pid: int) -> None:
    def gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    wait_until(gone, f"{pid} is gone", patience=10.0)
