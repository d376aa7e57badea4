# SPDX-License-Identifier: GPL-2.0-only
"""ftrace's function graph around one call, with return values where the kernel can print them."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

TRACING = Path("/sys/kernel/tracing")
RING_KIB = 128
"""KiB per CPU: some thousand calls, and not more than the console can print in a second when the kernel dies."""

TEXT_LIMIT = 512 << 10

OPTIONS = ("funcgraph-retval", "funcgraph-proc", "funcgraph-abstime", "nofuncgraph-overhead")
"""Return values: a1be9ccc57f0 ("function_graph: Support recording and printing the return value of function"), 6.5,
where CONFIG_FUNCTION_GRAPH_RETVAL is set."""

DUMP_ON_OOPS = Path("/proc/sys/kernel/ftrace_dump_on_oops")


@contextlib.contextmanager
def traced(globs: Sequence[str]) -> Iterator[dict[str, str]]:
    """Trace the kernel's functions that match `globs`, in every context; the yielded dict gets the text as `trace`."""
    answer: dict[str, str] = {}
    if not globs:
        yield answer
        return
    try:
        _arm(globs)
    except OSError as error:
        answer["trace"] = f"no trace: {error}"
        yield answer
        return
    try:
        yield answer
    finally:
        _write("tracing_on", "0")
        answer["trace"] = (TRACING / "trace").read_text(errors="replace")[-TEXT_LIMIT:]
        _write("current_tracer", "nop")
        _write("set_ftrace_filter", "")
        DUMP_ON_OOPS.write_text("0")


def _arm(globs: Sequence[str]) -> None:
    if not (TRACING / "trace").exists():
        ctypes.CDLL(None).mount(b"tracefs", os.fsencode(TRACING), b"tracefs", 0, None)
    _write("tracing_on", "0")
    _write("current_tracer", "nop")
    _write("buffer_size_kb", str(RING_KIB))
    if not _filter(globs):
        raise OSError("the kernel has no function that matches " + " ".join(globs))
    tracers = (TRACING / "available_tracers").read_text().split()
    tracer = next((each for each in ("function_graph", "function") if each in tracers), None)
    if tracer is None:
        raise OSError("the kernel lacks CONFIG_FUNCTION_TRACER")
    _write("current_tracer", tracer)
    for option in OPTIONS:
        with contextlib.suppress(OSError):
            _write("trace_options", option)
    DUMP_ON_OOPS.write_text("1")
    _write("tracing_on", "1")


def _filter(globs: Sequence[str]) -> int:
    """Set the filter with one write, because close(2) is what costs; return the number of globs that match."""
    matched = 0
    filters = os.open(TRACING / "set_ftrace_filter", os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        for glob in globs:
            with contextlib.suppress(OSError):  # EINVAL: nothing matches
                os.write(filters, f"{glob}\n".encode())
                matched += 1
    finally:
        os.close(filters)
    return matched


def _write(name: str, text: str) -> None:
    (TRACING / name).write_text(text)
