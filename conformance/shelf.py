# SPDX-License-Identifier: GPL-2.0-only
"""`conform kernels`: what is cached, what the archive offers, fetch and prune."""

from __future__ import annotations

import argparse
import sys

from kernels import inventory
from kernels.resolve import resolve


def kernels(options: argparse.Namespace) -> int:
    """Carry out one action on the shelf of kernels and return the exit code."""
    actions = {"list": _list, "fetch": _fetch, "prune": _prune, None: _list}
    actions[options.action](options)
    return 0


def _fetch(options: argparse.Namespace) -> None:
    for spec in options.spec:
        kernel = resolve(spec, refresh=True, progress=_note)
        print(f"{spec}: {kernel.release} ({kernel.version})")


def _prune(options: argparse.Namespace) -> None:
    freed = inventory.prune(days=options.days)
    print(f"{freed >> 20} MiB freed")


def _list(_: argparse.Namespace) -> None:
    raise NotImplementedError


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
