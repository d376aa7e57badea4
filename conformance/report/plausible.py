# SPDX-License-Identifier: GPL-2.0-only
"""Check that an event with the right types can come from this suite; reports rely on that."""

from __future__ import annotations

import itertools
import re
from datetime import datetime
from pathlib import PurePosixPath

from conformance.report.event_types import CaseEvent, Event, KernelEvent, RunEvent
from kernels.version import Version

_NAME = re.compile(r"(?!\.\.?$)[a-z0-9_.-]{1,200}")
"""A slug, a group or a case: valid as a file name, an anchor and an attribute."""
_PLACE = re.compile(r"{0}\n{0}\n{0}\n{0}/{0}".format(r"(?!\.\.?[\n/]|\.\.?$)[a-z0-9_.-]{1,200}"))
"""A slug, a group, a case and its id, one a line."""

_LATEST = 1 << 62
"""Microseconds; a float holds as many."""
_CHOICE = ("chose", "among", "rows")


def checked(event: Event) -> Event:
    """Check the values of an event and return it; ValueError names the field."""
    match event:
        case RunEvent():
            _check_run(event)
        case KernelEvent():
            _check_kernel(event)
        case CaseEvent():
            _check_case(event)
    return event


def _check_run(event: RunEvent) -> None:
    try:
        began = datetime.fromisoformat(event.started)
    except ValueError as error:
        raise ValueError(f"`started` cannot be {event.started!r}") from error
    if began.tzinfo is None:
        raise ValueError("`started` has no time zone")
    for slug in (*event.selected, *event.quick):
        _check_name("selected", slug)
    for slug, choice in event.quick.items():
        if lacking := [name for name in _CHOICE if name not in choice]:
            raise ValueError(f"`quick` of {slug} needs {', '.join(lacking)}")


def _check_kernel(event: KernelEvent) -> None:
    _check_name("slug", event.slug)
    if event.version:
        Version.parse(event.version)


def _check_case(event: CaseEvent) -> None:
    # There are thousands of events: one match for the values that are nearly always right.
    if not _PLACE.fullmatch(f"{event.kernel}\n{event.group}\n{event.name}\n{event.id}"):
        for name in ("kernel", "group", "name"):
            _check_name(name, getattr(event, name))
        for part in event.id.partition("/")[::2]:
            _check_name("id", part)
    if event.log or event.tries:
        for line in itertools.chain(event.log, *(each.get("log", ()) for each in event.tries)):
            if abs(line.get("microseconds", 0)) > _LATEST:
                raise ValueError("`microseconds` of a line of the log is too large")
    if event.evidence:
        evidence = PurePosixPath(event.evidence)
        if evidence.is_absolute() or ".." in evidence.parts:
            raise ValueError("`evidence` lies outside the results")
    if event.observation and not isinstance(event.observation.get("steps") or {}, dict):
        raise ValueError("`steps` of the observation is not an object")


def _check_name(name: str, value: str) -> None:
    if not _NAME.fullmatch(value):
        raise ValueError(f"`{name}` cannot be {value[:80]!r}")
