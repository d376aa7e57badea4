# SPDX-License-Identifier: GPL-2.0-only
"""`conform kernels`: what is cached, what the archive offers, fetch and prune."""

from __future__ import annotations

import argparse
from itertools import groupby

from common import cache
from common.errors import HostError
from common.say import note
from common.say import say
from kernels import inventory
from kernels.version import Version


def kernels(options: argparse.Namespace) -> int:
    """Carry out one action on the shelf of kernels and return the exit code."""
    actions = {"fetch": _fetch, "prune": _prune}
    actions.get(options.action, _list)(options)
    return 0


def _fetch(options: argparse.Namespace) -> None:
    for spec in options.spec:
        kernel = inventory.fetch(spec, progress=note)
        say(f"{spec}: {kernel.release} (version {kernel.version})")


def _prune(options: argparse.Namespace) -> None:
    freed = inventory.prune(days=options.days or None)
    say(f"{freed >> 20} MiB freed")


def _list(_: argparse.Namespace) -> None:
    say(f"cached in {cache.root()}")
    for kernel in inventory.cached():
        names = ", ".join(kernel.specs) or "no longer the newest"
        say(f"  {kernel.release:28} {kernel.version:18} {kernel.bytes >> 20:5} MiB  {names}")
    for each in inventory.built():
        say(f"  {each.release:28} {each.title:40} {each.bytes >> 20:5} MiB  {each.spec}")
    try:
        offered = inventory.offered()
    except HostError as error:
        say(f"the archive cannot be asked: {error}")
        return
    say("offered by the archive")
    offered.sort(key=lambda each: (each.suite, each.cloud))
    for suite, group in groupby(offered, key=lambda each: each.suite):
        say(f"  {suite}")
        for branch, kernels_of_branch in groupby(group, key=_branch):
            newest, *older = kernels_of_branch
            more = f"  and {len(older)} older" if older else ""
            say(f"    {branch:14} {newest.release:30} {newest.bytes >> 20:5} MiB{more}")


def _branch(kernel: inventory.Offered) -> str:
    return f"{Version.parse(kernel.release).branch}{'/cloud' if kernel.cloud else ''}"
