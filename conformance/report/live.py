# SPDX-License-Identifier: GPL-2.0-only
"""The live view of a run: a screen that fills up on a terminal, plain lines anywhere else.

The screen is rewritten in place by one write(2) a time, so it does not flicker; no terminal mode is changed, so there
is nothing to restore however the run ends. A reporter never raises: a closed pipe must not change what a kernel is
told.
"""

from __future__ import annotations

import functools
import math
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, TextIO

from common.say import silence, unwritable
from conformance.report.event_types import CaseEvent, KernelEvent, RunEvent
from conformance.report.events import Run
from conformance.report.forecast import Forecast, Planned
from conformance.report.screen import RunProgress, announcement, screen, verdict_of, waiting
from conformance.report.style import WIDTH, Style
from conformance.report.text import report_lines

Conclude = Callable[[Run, Style], Sequence[str]]

_PAINT = re.compile(r"\x1b\[[0-9;]*m")
_TICK = 0.25
_NARROWEST = 20
"""Columns below which text is not folded any narrower."""
_QUIET = 10.0
"""Seconds after which a plain run reports its progress, even within ten percent."""


class Reporter(Protocol):
    """Receives the events of a run; `note` may be called before `start`, and from any thread."""

    lost: OSError | None
    """The error that kept the reporter from writing everything."""

    def phase(self, text: str) -> None:
        """Called with what the run does before its first case."""

    def start(self, event: RunEvent, planned: Planned, before: Run | None = None) -> None:
        """Called with the collected cases; `before` has the results of a resumed run."""

    def kernel(self, event: KernelEvent) -> None:
        """Called when a kernel has its machine, or will not get one."""

    def begun(self, slug: str, case: str) -> None:
        """Called when a case, named by its id, starts on a kernel."""

    def case(self, event: CaseEvent) -> None:
        """Called when a case has a verdict."""

    def note(self, text: str) -> None:
        """Called with a line about a slow step."""

    def finish(self, run: Run) -> None:
        """Called at the end of the run: print the report."""


def choose(stream: TextIO, conclude: Conclude = report_lines, verbosity: int = 0) -> Reporter:
    """Return the reporter for the stream; `conclude` returns the report of a finished run.

    With a verbosity of 1 each verdict is printed, with -1 nothing before the end.
    """
    if verbosity < 0:
        return QuietReporter(stream, conclude)
    capable = stream.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not os.environ.get("CI")
    kind = LiveReporter if capable else PlainReporter
    return kind(stream, conclude, verbose=verbosity > 0)


def resumed(event: RunEvent, before: Run | None) -> Run:
    """Return the run that begins, with the results of its interrupted part."""
    run = Run(event)
    for kernel in before.kernels.values() if before is not None else ():
        run.add(kernel)
    for case in (case for cases in before.cases.values() for case in cases) if before is not None else ():
        run.add(case)
    return run


def check_heard(reporter: Reporter | None) -> None:
    """Raise HostError if a reporter could not write everything."""
    if reporter is not None and reporter.lost is not None:
        raise unwritable(reporter.lost) from reporter.lost


def _never_raises(method: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(method)
    def guarded(self: Any, *arguments: Any) -> None:
        try:
            method(self, *arguments)
        except BrokenPipeError:
            # The reader is gone (`| head`). Without this Python's last flush fails, and exits 120.
            silence(self._stream)
        except OSError as error:
            silence(self._stream)
            # The kernel is judged to the end; the lost report is an error then.
            self.lost = self.lost or error
        except Exception:
            return

    return guarded


class QuietReporter:
    """Prints only the report at the end."""

    def __init__(self, stream: TextIO, conclude: Conclude = report_lines) -> None:
        self._stream = stream
        self._conclude = conclude
        self.lost: OSError | None = None

    def phase(self, text: str) -> None:
        """Print nothing."""

    def start(self, event: RunEvent, planned: Planned, before: Run | None = None) -> None:
        """Print nothing."""

    def begun(self, slug: str, case: str) -> None:
        """Print nothing."""

    def kernel(self, event: KernelEvent) -> None:
        """Print nothing."""

    def case(self, event: CaseEvent) -> None:
        """Print nothing."""

    def note(self, text: str) -> None:
        """Print nothing."""

    @_never_raises
    def finish(self, run: Run) -> None:
        """Print the report."""
        self._say(self._conclude(run, Style.of(self._stream)))

    def _say(self, lines: Sequence[str]) -> None:
        self._stream.write("".join(f"{line}\n" for line in lines))
        self._stream.flush()


class PlainReporter:
    """Prints a line from time to time: for pipes, logs and CI."""

    def __init__(self, stream: TextIO, conclude: Conclude = report_lines, *, verbose: bool = False) -> None:
        self._stream = stream
        self._conclude = conclude
        self._verbose = verbose
        self._style = Style.of(stream)
        self._run: Run | None = None
        self._began = time.monotonic()
        self._logged: dict[str, tuple[int, float]] = {}
        self._announced = 0
        self.lost: OSError | None = None

    @_never_raises
    def phase(self, text: str) -> None:
        """Print the current step."""
        self._say(self._style.wrap(text, then="  "))

    @_never_raises
    def start(self, event: RunEvent, planned: Planned, before: Run | None = None) -> None:
        """Begin to count, from the results of a resumed run."""
        self._run = resumed(event, before)
        self._began = time.monotonic()
        for slug, cases in self._run.cases.items():
            self._logged[slug] = (len(cases) * 10 // max(1, event.selected.get(slug, 0)), 0.0)

    def begun(self, slug: str, case: str) -> None:
        """Print nothing: the verdict will follow."""

    @_never_raises
    def kernel(self, event: KernelEvent) -> None:
        """Name the kernel and its machine."""
        assert self._run is not None
        self._run.add(event)
        machine = f"{event.machine} under {event.accelerator}" if event.machine else event.error
        facts = ", ".join(filter(None, (event.release, machine)))
        self._say(self._style.wrap(f"{event.title}: {facts}", then="  "))

    @_never_raises
    def case(self, event: CaseEvent) -> None:
        """Print an unexpected case at once, and progress every ten percent or ten seconds."""
        assert self._run is not None
        self._run.add(event)
        if self._verbose:
            self._say([verdict_of(self._run, event, self._style)])
        if not event.verdict.expected:
            self._announced += 1
            self._say(announcement(self._run, event, self._announced, self._style))
        slug, now = event.kernel, time.monotonic() - self._began
        done, total = len(self._run.cases[slug]), self._run.start.selected.get(slug, 0)
        tenth, last = self._logged.get(slug, (0, 0.0))
        if total and (done * 10 // total > tenth or now - last > _QUIET):
            self._logged[slug] = (done * 10 // total, now)
            bad = len(self._run.unexpected(slug)) or "nothing"
            spec = self._run.kernel(slug).title
            self._say([self._style.show(f"{spec}: {done} of {total} cases, {bad} unexpected, {now:.1f} s")])

    @_never_raises
    def note(self, text: str) -> None:
        """Print the note."""
        self._say(self._style.wrap(text, then="  "))

    @_never_raises
    def finish(self, run: Run) -> None:
        """Print the report."""
        self._say(["", *self._conclude(run, self._style)])

    def _say(self, lines: Sequence[str]) -> None:
        self._stream.write("".join(f"{line}\n" for line in lines))
        self._stream.flush()


class LiveReporter:
    """A screen at the bottom of the terminal: progress and the matrices; above it the unexpected cases."""

    def __init__(self, stream: TextIO, conclude: Conclude = report_lines, *, verbose: bool = False) -> None:
        self._stream = stream
        self._conclude = conclude
        self._verbose = verbose
        self._style = Style.of(stream)
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._run: Run | None = None
        self._planned: Planned = {}
        self._forecast = Forecast({})
        self._phase = ""
        self._running: dict[tuple[str, str], float] = {}
        """The start of each case without a verdict."""
        self._began = 0.0
        self._drawn: list[int] = []
        """The width of each line of the screen."""
        self._announced = 0
        self._pending: list[str] = []
        """Lines to print above the screen when it is drawn next."""
        self.lost: OSError | None = None

    @_never_raises
    def phase(self, text: str) -> None:
        """Show the current step, and for how long it runs."""
        with self._lock:
            self._phase, self._began = text, time.monotonic()
            self._draw()
        self._open()

    @_never_raises
    def start(self, event: RunEvent, planned: Planned, before: Run | None = None) -> None:
        """Open the screen."""
        with self._lock:
            self._planned, self._forecast = planned, Forecast(planned, before)
            self._run = resumed(event, before)
            self._began = time.monotonic()
        self._open()

    def _open(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._tick, name="live view", daemon=True)
            self._thread.start()

    @_never_raises
    def begun(self, slug: str, case: str) -> None:
        """Remember the start of a case."""
        with self._lock:
            self._running[slug, case] = time.monotonic()

    @_never_raises
    def kernel(self, event: KernelEvent) -> None:
        """Name the kernel's bar."""
        with self._lock:
            assert self._run is not None
            self._run.add(event)

    @_never_raises
    def case(self, event: CaseEvent) -> None:
        """Fill a cell; print an unexpected case at once."""
        with self._lock:
            assert self._run is not None
            self._run.add(event)
            self._running.pop((event.kernel, event.id), None)
            if self._verbose:
                # For the next tick: to draw the grids for each case would take longer than many a case does.
                self._pending.append(verdict_of(self._run, event, self._style))
            if not event.verdict.expected:
                self._announced += 1
                if told := announcement(self._run, event, self._announced, self._fitted):
                    self._draw(told)

    @_never_raises
    def note(self, text: str) -> None:
        """Print the note above the screen."""
        with self._lock:
            self._draw([self._style.paint(line, "faint") for line in self._fitted.wrap(text, then="  ")])

    @_never_raises
    def finish(self, run: Run) -> None:
        """Remove the screen and print the report in its place."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            self._run, self._phase = None, ""
            self._draw(self._conclude(run, self._style))

    @property
    def _fitted(self) -> Style:
        """The style for lines above the screen, as narrow as the terminal."""
        return replace(self._style, width=min(WIDTH, max(_NARROWEST, self._size().columns)))

    def _size(self) -> os.terminal_size:
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except OSError:  # not a terminal any more: the write will report the error
            return os.terminal_size((WIDTH, 24))
        return os.terminal_size((size.columns or WIDTH, size.lines or 24))

    def _tick(self) -> None:
        while not self._over.wait(_TICK):
            try:
                with self._lock:
                    self._draw()
            except Exception:
                return

    def _draw(self, above: Sequence[str] = ()) -> None:
        """Write permanent lines, and the new screen below them, over the old one, with one write(2)."""
        above, self._pending = [*self._pending, *above], []
        lines: list[str] = []
        (columns, rows), now = self._size(), time.monotonic()
        if self._run is not None:
            seconds = now - self._began
            longest = min(self._running, key=self._running.__getitem__, default=("", ""))
            running = (longest[1], now - self._running.get(longest, now))
            state = RunProgress(seconds, self._forecast.left(self._run, seconds), self._planned, running)
            lines = screen(self._run, state, columns, rows, self._style)
        elif self._phase:
            lines = waiting(self._phase, now - self._began, columns, self._style)
        # A terminal that became narrower has folded the lines that are now too wide.
        height = sum(max(1, math.ceil(width / columns)) for width in self._drawn)
        home = f"\x1b[{height}A\r" if height else "\r"
        # Each line is erased first, too: some terminals fold what was erased behind a line as if it were still there.
        self._stream.write(home + "".join(f"\x1b[2K{line}\x1b[K\n" for line in (*above, *lines)) + "\x1b[J")
        self._stream.flush()
        self._drawn = [len(_PAINT.sub("", line)) for line in lines]
