# SPDX-License-Identifier: GPL-2.0-only
"""How two kernels differ in themselves: commits, configuration symbols, origin."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from common.errors import HostError
from common.words import counted
from conformance.judge.needs import symbols_needed
from conformance.report.event_types import KernelEvent
from kernels.kernel import Kernel
from kernels.repository import git

_ELSEWHERE = ("commit", "config", "path", "repository", "sha256")
"""Facts that other sentences, or the spec, say better."""
_SHOWN = 8
"""Commits and symbols named at most; of the others only the number is given."""


def unlike(base: KernelEvent, head: KernelEvent, kernels: tuple[Kernel | None, Kernel | None]) -> tuple[str, ...]:
    """Return a sentence for each thing in which two kernels differ; nothing for one and the same."""
    if base.digest and base.digest == head.digest:
        return ("nothing: the two kernels are identical, byte for byte",)
    return tuple(_sentences(base, head, kernels))


def _sentences(base: KernelEvent, head: KernelEvent, kernels: tuple[Kernel | None, Kernel | None]) -> Iterator[str]:
    if base.release != head.release:
        yield f"release {base.release} -> {head.release}"
    for name in dict.fromkeys((*base.package, *head.package)):
        was, now = base.package.get(name, ""), head.package.get(name, "")
        if was != now and name not in _ELSEWHERE:
            yield f"{name} {was or 'none'} -> {now or 'none'}"
    yield from _commits(base.package, head.package)
    old, new = kernels
    if old is not None and new is not None and old.config and new.config:
        yield from _symbols(old.config, new.config)
    elif base.config_sha256 != head.config_sha256:
        yield "the configuration; the kernels are not available, so the differing symbols are unknown"


def _symbols(base: Mapping[str, str], head: Mapping[str, str]) -> Iterator[str]:
    differing = sorted(name for name in base.keys() | head.keys() if base.get(name) != head.get(name))
    if not differing:
        return
    needed = set(symbols_needed())
    # Of hundreds of symbols only those that cases need are named; a few are all named.
    telling = [name for name in differing if name in needed or len(differing) <= _SHOWN]
    named = ", ".join(f"{name} {base.get(name, 'n')} -> {head.get(name, 'n')}" for name in telling)
    which = named if len(telling) == len(differing) else f"of those that cases need: {named or 'none'}"
    yield f"{counted(len(differing), 'configuration symbol')}; {which}"


def _commits(base: Mapping[str, str], head: Mapping[str, str]) -> Iterator[str]:
    """Say which commits lie between two kernels built from git."""
    was, now = base.get("commit", ""), head.get("commit", "")
    if not was or not now or was == now:
        return
    yield f"commit {was[:12]} -> {now[:12]}"
    subjects = _log(head.get("repository", "") or head.get("path", ""), was, now)
    yield from subjects[:_SHOWN]
    if len(subjects) > _SHOWN:
        yield f"... and {len(subjects) - _SHOWN} more commits"


def _log(repository: str, was: str, now: str) -> Sequence[str]:
    # fmt: off
    arguments = ["-C", repository or os.curdir, "log", "--no-show-signature",
                 "--no-decorate", "--no-color", "--abbrev=12", '--format=  %h ("%s")', "--end-of-options",
                 f"{was}..{now}"]
    # fmt: on
    try:
        # It takes no newline off the ends but the last, and each line begins with two spaces.
        return ["  " + line.strip() for line in git(*arguments).splitlines()]
    except HostError:
        return ()
