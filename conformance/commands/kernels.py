# SPDX-License-Identifier: GPL-2.0-only
"""`conform kernels`: list cached and available kernels, fetch and prune."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

from common import cache
from common.errors import HostError
from common.say import note, say
from conformance.run.consent import ask
from kernels import inventory
from kernels.version import Version


def kernels(options: argparse.Namespace) -> int:
    """Carry out one action on the cached and installed kernels and return the exit code."""
    actions = {"fetch": _fetch, "prune": _prune}
    actions.get(options.action, _list)(options)
    return 0


def _fetch(options: argparse.Namespace) -> None:
    for spec in options.spec:
        kernel = inventory.fetch(spec, progress=note)
        say(f"{spec}: {kernel.release} (version {kernel.version})")


def _prune(options: argparse.Namespace) -> None:
    days = options.days or None
    found = inventory.prunable(days=days)
    names = {kernel.path: kernel.release for kernel in inventory.cached()}
    total = 0
    for entry in found:
        total += (size := cache.size(entry))
        say(f"  {size >> 20:6} MiB  {entry.relative_to(cache.root())}  {names.get(entry, '')}".rstrip())
    say(f"  {total >> 20:6} MiB  in all, below {cache.root()}")
    if not options.dry_run:
        count = f"{len(found)} {'entry' if len(found) == 1 else 'entries'}"
        if found:
            ask(f"kernels prune removes {count} of the cache", "Remove them?", yes=options.yes)
        say(f"{inventory.prune(days=days) >> 20} MiB freed")


def _list(options: argparse.Namespace) -> None:
    if options.json:
        say(json.dumps(_object()))
        return
    say(f"cached in {cache.root()}")
    for kernel in inventory.cached():
        names = ", ".join(kernel.specs) or "no longer the newest"
        say(f"  {kernel.release:28} {kernel.version:18} {kernel.bytes >> 20:5} MiB  {names}")
    for each in inventory.built():
        say(f"  {each.release:28} {each.title:40} {each.bytes >> 20:5} MiB  {each.spec}")
    try:
        offered = inventory.offered()
    except HostError as error:
        say(f"cannot query the archive: {error}")
        return
    say("offered by the archive")
    offered.sort(key=lambda each: (each.suite, each.cloud))
    for suite, group in groupby(offered, key=lambda each: each.suite):
        say(f"  {suite}")
        for branch, kernels_of_branch in groupby(group, key=_branch):
            newest, *older = kernels_of_branch
            more = f"  and {len(older)} older" if older else ""
            say(f"    {branch:14} {newest.release:30} {newest.bytes >> 20:5} MiB{more}")


def _object() -> dict[str, list[dict[str, object]]]:
    """Return the cached and the offered kernels; no offers if the archive cannot be asked."""
    try:
        offered = inventory.offered()
    except HostError as error:
        note(f"conform: cannot query the archive: {error}")
        offered = []
    return {
        "cached": [_plain(asdict(each)) for each in inventory.cached()],
        "built": [_plain(asdict(each)) for each in inventory.built()],
        "offered": [_plain(asdict(each)) for each in offered],
    }


def _plain(values: Mapping[str, object]) -> dict[str, object]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def _branch(kernel: inventory.Offered) -> str:
    return f"{Version.parse(kernel.release).branch}{'/cloud' if kernel.cloud else ''}"
