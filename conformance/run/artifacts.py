# SPDX-License-Identifier: GPL-2.0-only
"""Evidence of an unexpected case in the results folder: `cases/KERNEL/GROUP/NAME/`."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from common import foreign, outfile
from common.errors import HostError
from conformance.judge.lists import Lists
from conformance.model import Case, LogEntry, Verdict
from conformance.report.event_types import CaseEvent
from conformance.run.machine_pool import MachinePool
from conformance.run.retries import EvidenceRequest
from conformance.run.try_case import once
from vm.machine import SOCKMAP_PATHS, Evidence

LOG = "log.txt"
SERIAL = "serial.txt"
OBSERVATION = "observation.json"
COMMAND = "command.txt"
TRACE = "trace.txt"
MEMORY = "memory.elf"
MISSING = "missing.txt"
FILES = (LOG, SERIAL, OBSERVATION, COMMAND, TRACE, MEMORY, MISSING)


def folder_of(kernel: str, case: str) -> Path:
    """Return the folder of a case's evidence, below the results folder: slugs and case ids are valid file names."""
    return Path("cases") / kernel / case


def has_evidence(event: CaseEvent) -> bool:
    """Return whether there is evidence to keep; a case that no machine was asked has none."""
    seen = (event.log, event.console, event.observation, event.error, event.tries)
    return not event.verdict.expected and (event.verdict is not Verdict.INFRA or any(seen))


def store(results: Path, event: CaseEvent) -> Path:
    """Write the event's evidence, each kind to its file; returns the folder. HostError leaves none of these files."""
    folder = folder_of(event.kernel, event.id)
    observation = json.dumps(event.observation, indent=2, default=dict)
    texts = {
        LOG: "".join(f"{line}\n" for line in _log_lines(event)),
        SERIAL: event.console,
        OBSERVATION: f"{observation}\n",
        COMMAND: f"{event.repeat}\n",
    }
    where = None
    try:
        where = outfile.folder(results, folder)
        for name, text in texts.items():
            outfile.replace(where / name, foreign.page(text).encode())
    except OSError as error:
        for path in (where / name for name in texts if where is not None):
            with contextlib.suppress(OSError):
                path.unlink()
        sentence = f"cannot write the evidence of {event.id} to {results / folder}: {error.strerror}"
        raise HostError(sentence, hint="free some space, or choose another directory with --results DIR") from error
    return folder


def collect(pool: MachinePool, slug: str, case: Case, lists: Lists, evidence_request: EvidenceRequest) -> None:
    """Run an unexpected case again for a trace or a memory dump; `missing.txt` says what could not be collected."""
    folder = evidence_request.results / folder_of(slug, case.id)
    memory = folder / MEMORY
    try:
        outfile.folder(evidence_request.results, folder_of(slug, case.id))
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        evidence = Evidence(
            trace=SOCKMAP_PATHS if evidence_request.trace else (), dump=memory if evidence_request.dump else None
        )
        found = once(pool, slug, case, lists, fresh=True, evidence=evidence)
        if found.reply is None:
            return
        if evidence_request.trace and found.reply.trace:
            verdict = f"# function graph of another run, in a fresh clone; verdict: {found.judgement.verdict}\n"
            outfile.create(folder / TRACE, foreign.page(verdict + found.reply.trace).encode())
        missing = [found.reply.dump] if found.reply.dump else []
        missing += (
            ["no trace: the machine died before the host could read it"]
            if evidence_request.trace and not found.reply.trace
            else []
        )
        if evidence_request.dump and not memory.exists() and not missing:
            missing += _dump(pool, memory)
        if missing:
            outfile.create(folder / MISSING, "".join(f"{foreign.line(line)}\n" for line in missing).encode())
    except OSError:
        return  # the controller writes here next and reports the error


def _dump(pool: MachinePool, memory: Path) -> Iterator[str]:
    """Dump the memory of the healthy machine in use; yield why there is no dump."""
    try:
        if not pool.dump(memory):
            yield "no memory dump: the machine had already ended"
    except HostError as error:
        yield f"no memory dump: {error}"


def _log_lines(event: CaseEvent) -> Iterator[str]:
    """Yield the kernel log of the case; of each of its tries, if there were several."""
    if not event.tries:
        yield from _lines(event.log)
    for number, each in enumerate(event.tries, start=1):
        where = "a fresh clone" if each["fresh"] else "its shard's clone"
        times = f"{each['times']} time{'s' * (each['times'] != 1)}"
        yield f"# try {number}, {times}, in {where}: {each['verdict']}"
        yield from _lines(each["log"])


def _lines(log: Sequence[LogEntry]) -> Iterator[str]:
    for line in log:
        # One record of the log must stay one line.
        yield f"[{line['microseconds'] / 1e6:12.6f}] {foreign.line(line['text'])}"
