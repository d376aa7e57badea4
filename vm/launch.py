# SPDX-License-Identifier: GPL-2.0-only
"""Kernel to Machine: prepare its template once, then open as many machines as are wanted."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

from common import cache
from common.errors import HostError, KernelError
from kernels.kernel import Kernel
from vm import accel, boot, compose, host, jail, modules, rootfs, stock, template
from vm.boot import Booted
from vm.death import DeadMachineError
from vm.machine import Bundle, Machine, MachineInfo, MachineKind, MachineOptions
from vm.monitor import QmpError
from vm.qemu import Qemu
from vm.session import Session
from vm.template import DamagedTemplateError, Template

QEMU = "qemu-system-x86_64"
RESTORE_PATIENCE = 5.0
FALLBACK_SECONDS = 3600.0
"""Seconds for which a failed template is remembered; the failure may have been the host's."""

Warmup = Callable[[Machine], None]
"""Raises UnfitError if the guest must not be cloned."""
Progress = Callable[[str], None]
NOTHING: Bundle = MappingProxyType({})


class UnfitError(Exception):
    """A warm-up made the guest's kernel warn; clones could not show that warning, because many fire only once."""


def prepare(
    kernel: Kernel,
    options: MachineOptions,
    bundle: Bundle,
    warmup: Warmup,
    progress: Progress | None = None,
) -> MachineInfo:
    """Make sure that a template of `kernel` is in the cache, its agent warm with `bundle`; say what it is.

    Of several processes at once, one builds. Raises KernelError if the kernel does not come up, HostError if this
    machine cannot run it. Kinds without a template need no preparation: what they will be is only known once opened.
    """
    plan = Plan(kernel, options, progress or (lambda sentence: None))
    if options.kind is MachineKind.HOST:
        return host.check_host()
    if options.kind is not MachineKind.CLONE:
        return plan.info(options.kind, stock.EXPOSES if options.kind is MachineKind.VNG else "")
    info = plan.prepared(bundle, warmup).info
    return replace(info, built=bool(plan.boots))


def open_machine(
    kernel: Kernel,
    options: MachineOptions,
    progress: Progress | None = None,
    *,
    bundle: Bundle = NOTHING,
    warmup: Warmup | None = None,
    started: Booted | None = None,
) -> Machine:
    """Return a machine running `kernel`, of the kind asked for.

    Where there can be no snapshot, that is a cold one instead of a clone, which sees no more of the host; its info says
    why.

    If its template has gone or is damaged another is made, warm with `bundle`; see prepare(). A clone that has been
    `started` ahead is taken if its template is still the newest, and ended otherwise.
    """
    plan = Plan(kernel, options, progress or (lambda sentence: None))
    match options.kind:
        case MachineKind.HOST:
            return host.open_host(kernel)
        case MachineKind.VNG:
            return plan.open_stock()
        case MachineKind.COLD:
            return plan.open_cold()
        case MachineKind.CLONE:
            return plan.open_clone(bundle, warmup, started)


def start_ahead(kernel: Kernel, options: MachineOptions) -> Booted | None:
    """Start a clone for a later open_machine(), and do not wait for it; None if there can be none.

    Whatever is wrong with the template or the host is for open_machine() to find, and to try again.
    """
    plan = Plan(kernel, options, lambda sentence: None)
    folder = template.newest(plan.key) if options.kind is MachineKind.CLONE else None
    try:
        found = plan.read(folder) if folder is not None else None
        if found is None or found.info.kind is MachineKind.COLD:
            return None
        found.verify()
        return start(found)
    except (DamagedTemplateError, HostError):
        return None


def flaw(info: MachineInfo) -> str:
    """Say what is wrong with the template of a machine, which may have broken the guest."""
    if not info.template:
        return ""
    folder = Path(info.template)
    try:
        Template.read(folder).verify()
    except DamagedTemplateError as error:
        return f"the machine's template was changed while it ran: {error}"
    if tuple(template.identity(folder)) != info.generation:
        return "the machine's template was replaced while it ran"
    return ""


def restore(found: Template, note: str = "", *, ram: Path | None = None) -> Booted:
    """Start a clone of a template, and wait until its agent answers."""
    return _greeted(start(found, note, ram=ram))


def start(found: Template, note: str = "", *, ram: Path | None = None) -> Booted:
    """Start a clone of a template; with `ram`, a copy of the template's memory, the guest writes to that file."""
    info = replace(
        found.info,
        why="; ".join(filter(None, [found.info.why, note])),
        template=str(found.folder),
        generation=tuple(template.identity(found.folder)),
    )
    with contextlib.ExitStack() as files:
        state = files.enter_context(found.opened_state())
        try:
            memory = files.enter_context(jail.memory(ram or found.ram))
        except FileNotFoundError as error:
            raise DamagedTemplateError("its ram cannot be read") from error
        command = found.composition.machine(memory, shared=ram is not None)
        qemu = Qemu(command, passed=[memory], state=state.fileno(), runner=jail.runner(command, memory))
    return Booted(Session(qemu, info), qemu, found.composition)


def _greeted(clone: Booted) -> Booted:
    try:
        clone.session.greet(RESTORE_PATIENCE * clone.session.info.factor, clock=True)
    except BaseException:
        clone.session.close()
        raise
    return clone


@dataclass(frozen=True)
class Plan:
    """The plan for machines of one kernel with the user's options on this host."""

    kernel: Kernel
    options: MachineOptions
    say: Progress
    boots: list[Path] = field(default_factory=list, compare=False)
    """The memory of each guest that was booted for a template so far."""

    @cached_property
    def qemu(self) -> Path:
        """The path of QEMU."""
        found = shutil.which(QEMU)
        if found is None:
            raise HostError("QEMU is not installed", hint="apt install qemu-system-x86")
        return Path(found).resolve()

    @cached_property
    def choice(self) -> accel.AcceleratorChoice:
        """The accelerator, and the reason for it."""
        return accel.choose(self.options.accelerator, self.kernel, self.qemu)

    @cached_property
    def key(self) -> str:
        """Name the template by everything it is made of; a change of any gives another name.

        Ingredients stand for what is derived from them: the modules for their closure, virtme-ng's version and this
        package's source for the machine they compose. So the name costs milliseconds and nothing is composed for it.
        """
        status = self.qemu.stat()
        ingredients = (
            template.FORMAT,
            self.kernel.digest,
            self.kernel.release,
            self.options.cpus,
            self.options.memory,
            self.options.append,
            self.options.preload,
            self.choice.name,
            accel.cpu_model() if self.choice.name == "kvm" else "",
            (self.qemu, status.st_size, status.st_mtime_ns),
            _virtme_version(),
            rootfs.key(),
            *(Path(module.__file__ or "").read_text() for module in (compose, modules)),
        )
        return hashlib.sha256(repr(ingredients).encode()).hexdigest()[:32]

    def info(self, kind: MachineKind, why: str = "") -> MachineInfo:
        """Describe a machine that is about to be started."""
        return MachineInfo(
            kind=kind,
            accelerator=self.choice.name,
            why="; ".join(filter(None, [self.choice.why, why])),
            factor=self.choice.slowness,
            boot_seconds=0.0,
            versions={"qemu": self._qemu_version(), "virtme-ng": _virtme_version()},
        )

    def composition(self) -> compose.Composition:
        """Have virtme-ng compose the machine."""
        image = self.kernel.image or Path()
        virtme = compose.ask_virtme(self.qemu, image, "--mods", "none", "--disable-kvm")
        return compose.compose(virtme, self.kernel, self.options, self.choice.name)

    def open_cold(self, why: str = "") -> Machine:
        """Boot a machine without a template."""
        return boot.boot(self.composition(), self.kernel, self.options, self.info(MachineKind.COLD, why)).session

    def open_stock(self) -> Machine:
        """Boot a stock virtme-ng guest; its reports say what it sees of the host."""
        return stock.open_stock(self.kernel, self.options, self.info(MachineKind.VNG, stock.EXPOSES), self.qemu)

    def open_clone(self, bundle: Bundle, warmup: Warmup | None, started: Booted | None = None) -> Machine:
        """Restore a machine from its template; a damaged template is made again, once.

        A dead clone may be the host's fault: after the first, the template is only verified closely.
        """
        if started is not None:
            if started.session.info.generation == tuple(template.identity(Path(started.session.info.template))):
                with contextlib.suppress(DeadMachineError):
                    return _greeted(started).session
            started.session.close()
        note, looked = "", False
        for _ in range(3):
            folder = template.newest(self.key) or self.prepared(bundle, warmup).folder
            seen = template.identity(folder)
            try:
                found = self.read(folder)
                if found.info.kind is MachineKind.COLD:
                    return self.open_cold(found.note)
                found.verify(closely=looked)
                return restore(found, note).session
            except (DamagedTemplateError, DeadMachineError) as error:
                if isinstance(error, DeadMachineError) and error.host_fault and looked:
                    raise boot.host_fault(self.kernel, error) from error
                if isinstance(error, DeadMachineError) and not looked:
                    note, looked = f"the first clone died: {error.sentence}", True
                    continue
                note = f"a damaged template was discarded: {error}"
                self.say(note)
                template.discard(folder, seen)
        return self.open_cold(f"a cold boot, because it happened twice: {note}")

    def read(self, folder: Path) -> Template:
        """Read a template, with this run's reason for the accelerator instead of that of its maker."""
        found = Template.read(folder)
        why = "; ".join(filter(None, [self.choice.why, found.note]))
        return replace(found, info=replace(found.info, why=why))

    def prepared(self, bundle: Bundle, warmup: Warmup | None) -> Template:
        """Return the template warm with `bundle`; if necessary, make it from one that is warm with other guest code."""
        target = template.folder_of(self.key, bundle)
        for _ in range(2):
            cache.publish(target, lambda folder: self._make(folder, bundle, warmup))
            seen = template.identity(target)
            # QEMU opens the memory for writing, though its clone never writes there.
            with cache.explained(target), contextlib.suppress(FileNotFoundError):
                os.utime(target)
            try:
                found = self.read(target)
                found.verify()
                if found.info.kind is MachineKind.CLONE or found.age < FALLBACK_SECONDS:
                    template.retire(self.key)
                    return found
            except DamagedTemplateError as error:
                self.say(f"a damaged template of {self.kernel.spec} was discarded: {error}")
            template.discard(target, seen)
        raise HostError(
            f"the template of {self.kernel.spec} does not survive in {target.parent}",
            hint="check the disk, or set XDG_CACHE_HOME to another",
        )

    def _make(self, folder: Path, bundle: Bundle, warmup: Warmup | None) -> None:
        """Make the template in `folder`; if there can be none, a note with the reason and the alternative."""
        folder.mkdir()
        _check_room(folder, self.options.memory)
        try:
            self._fill(folder, bundle, warmup)
        except UnfitError as error:
            self.say(f"{self.kernel.spec}: no warm-up, because {error}")
            (folder / "ram").unlink()
            self._fill(folder, bundle, None)

    def _fill(self, folder: Path, bundle: Bundle, warmup: Warmup | None) -> None:
        ram = folder / "ram"
        # Never fall back to a machine that exposes more: a hostile kernel may stay silent to get one.
        booted = self._derived(ram) or self._fresh(ram)
        with contextlib.closing(booted.session) as session:
            try:
                session.load(bundle)
                if warmup is not None:
                    warmup(session)
                session.drain()
                booted.qemu.save(folder / "state")
            except QmpError as error:
                self._save_without_snapshot(folder, f"a cold boot, because there can be no snapshot: {error}")
                return
            except DeadMachineError as death:
                if death.host_fault:
                    raise boot.host_fault(self.kernel, death) from death
                sentence = f"{self.kernel.spec} died while its template was made: {death.sentence}"
                if warmup is not None:
                    raise UnfitError(sentence) from death
                raise KernelError(sentence, hint="try --machine=cold") from death
        template.seal(folder, booted.composition, session.info)

    def _save_without_snapshot(self, folder: Path, why: str) -> None:
        self.say(f"{self.kernel.spec}: {why}")
        (folder / "ram").unlink(missing_ok=True)
        template.seal(folder, self.composition(), self.info(MachineKind.COLD, why), note=why)

    def _fresh(self, ram: Path) -> Booted:
        self.say(f"booting {self.kernel.spec} ({self.kernel.release}) once for its template")
        self.boots.append(ram)
        return boot.boot(self.composition(), self.kernel, self.options, self.info(MachineKind.CLONE), ram)

    def _derived(self, ram: Path) -> Booted | None:
        """Restore the newest template with its own memory file, to warm it up with other guest code."""
        folder = template.newest(self.key)
        if folder is None:
            return None
        try:
            parent = self.read(folder)
            if parent.info.kind is not MachineKind.CLONE:
                return None
            parent.verify()
            template.copy_sparse(parent.ram, ram)
            return restore(parent, ram=ram)
        except (DamagedTemplateError, DeadMachineError, OSError):
            return None

    def _qemu_version(self) -> str:
        # fmt: off
        answer = subprocess.run(
            [self.qemu, "--version"],
            capture_output=True, text=True, check=False,
        )
        # fmt: on
        match = re.search(r"version (\S+)", answer.stdout)
        return match[1] if match else "unknown"


def _virtme_version() -> str:
    try:
        return metadata.version("virtme-ng")
    except metadata.PackageNotFoundError as error:
        raise HostError("virtme-ng is not installed", hint="pip install virtme-ng") from error


def _check_room(folder: Path, memory: int) -> None:
    """Refuse to start a guest that would fill the disk: it would die without a message."""
    free = shutil.disk_usage(folder).free >> 20
    if free < memory:
        raise HostError(
            f"no space left below {cache.root()}: a template may take {memory} MiB, and {free} MiB are free",
            hint="free some space, run `./conform kernels prune`, or set XDG_CACHE_HOME",
        )
