# SPDX-License-Identifier: GPL-2.0-only
"""The options that `conform run` and pytest share, declared once."""

from __future__ import annotations

import argparse
import math
import os
import re
import shlex
from collections.abc import Callable, Container, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from common.errors import UsageError
from conformance.groups import cases
from conformance.judge.lists import Lists, read_lists
from conformance.run.option_table import DEFAULT_KERNEL, OPTIONS, REPEATABLE, Heading
from conformance.run.retries import EvidenceRequest, Repetition
from conformance.run.selection import Chosen, Wanted, require
from conformance.run.shard import Shard
from kernels.resolve import amend, parse
from vm.machine import MachineKind, MachineOptions

_WORKER_MEMORY = 150
"""MiB that a worker takes besides its guest's memory: pytest and QEMU itself."""

_RENAMED = {"--trace": "--conform-trace"}
"""Options with another name under pytest, which has its own option of that name."""


def add_options(
    parser: argparse.ArgumentParser,
    only: Container[str] | None = None,
    but: Container[str] = (),
    once: Container[str] = (),
) -> None:
    """Declare the shared options that a command understands, by groups; the others have their defaults.

    The help of those in `once` does not say that they may be repeated.
    """
    groups: dict[Heading, argparse._ArgumentGroup] = {}
    for option in OPTIONS:
        if option.name in but or (only is not None and option.name not in only):
            parser.set_defaults(**{option.destination: option.default})
            continue
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        settings = dict(option.settings)
        if option.name in once:
            settings["help"] = settings["help"].replace(REPEATABLE, "")
        groups[option.group].add_argument(option.name, dest=option.destination, **settings)


def add_pytest_options(add: Callable[..., Any]) -> None:
    """Declare the shared options through pytest's adding function."""
    for option in OPTIONS:
        add(_RENAMED.get(option.name, option.name), dest=option.destination, **option.settings)


def by_slug(specs: Sequence[str]) -> dict[str, str]:
    """Return slug to spec in the order given; of two different specs with one slug the second gets a number.

    An invalid spec gets a slug, too: resolving it reports the error.
    """
    named: dict[str, str] = {}
    for spec in dict.fromkeys(specs):
        try:
            slug = parse(spec).slug
        except UsageError:
            slug = re.sub(r"[^a-z0-9_.-]", "_", spec.lower())
        count = sum(each == slug or each.startswith(f"{slug}.") for each in named)
        named[f"{slug}.{count + 1}" if slug in named else slug] = spec
    return named


def specs_asked(namespace: Any) -> list[str]:
    """Return the kernel specs of a parsed command line; `--machine host` alone means the running kernel."""
    machine_is_host = namespace.conform_machine == MachineKind.HOST
    specs: list[str] = namespace.conform_kernel or ["host" if machine_is_host else DEFAULT_KERNEL]
    others = [spec for spec in specs if spec != "host"]
    if machine_is_host and others:
        raise UsageError(
            f"--machine host judges the running kernel, not {others[0]}",
            hint="leave --machine out",
        )
    build: dict[str, Any] = {
        "patches": namespace.conform_patch or (),
        "fragments": namespace.conform_config or (),
        "preset": namespace.conform_preset or "",
    }
    if any(build.values()) and not any(parse(spec).builds for spec in specs):
        raise UsageError(
            f"--patch, --config and --preset need a kernel that is built from source, but {specs[0]} is built already",
            hint="e.g. --kernel source:7.3, or --kernel tree:~/linux@v7.3",
        )
    return [amend(spec, **build) if parse(spec).builds else spec for spec in specs]


def machine_options(namespace: Any, preload: tuple[str, ...]) -> MachineOptions:
    """Read the machine options from a parsed command line."""
    return MachineOptions(
        kind=MachineKind(namespace.conform_machine),
        accelerator=namespace.conform_accel,
        cpus=namespace.conform_cpus,
        memory=namespace.conform_memory,
        append=namespace.conform_append,
        preload=preload,
    )


def repetition(namespace: Any) -> Repetition:
    """Return the repetition options of a parsed command line."""
    # With --tries, --repeat or --isolation case, every case is tried exactly so.
    asked = namespace.conform_tries, namespace.conform_repeat, namespace.conform_until_fail or None
    return Repetition(
        tries=namespace.conform_tries or Repetition().tries,
        sparing=not any(asked) and namespace.conform_isolation != "case",
        repeat=namespace.conform_repeat or (math.inf if namespace.conform_until_fail else 1),
        until_fail=namespace.conform_until_fail,
        isolated=namespace.conform_isolation == "case",
    )


def evidence_request_of(namespace: Any) -> EvidenceRequest | None:
    """Return the evidence options of a parsed command line; UsageError if there is no results folder for it."""
    if not (namespace.conform_trace or namespace.conform_dump):
        return None
    if not namespace.conform_results:
        raise UsageError("--trace and --dump write into the results folder", hint="name one with --results DIR")
    return EvidenceRequest(
        Path(namespace.conform_results).absolute(), trace=namespace.conform_trace, dump=namespace.conform_dump
    )


def workers(namespace: Any) -> int:
    """Return the number of machines that processors and memory of this host allow."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") >> 20
    by_memory = memory // (int(namespace.conform_memory) + _WORKER_MEMORY)
    by_cpus = len(os.sched_getaffinity(0)) // int(namespace.conform_cpus)
    return max(1, min(by_cpus, by_memory))


def lists_of(namespace: Any) -> Lists:
    """Read the lists of a parsed command line; UsageError names file and line of an entry that is wrong."""
    files = [getattr(namespace, f"conform_{name}") or () for name in ("allowlist", "denylist", "splatlist")]
    return read_lists(*files, universe=[case.id for case in cases()]) if any(files) else Lists()


def shard_of(namespace: Any) -> Shard:
    """Return the share of a parsed command line; by default all cases."""
    return Shard.parse(namespace.conform_shard or "1/1")


def wanted_of(namespace: Any, expression: str) -> Wanted:
    """Return the case selection of a parsed command line; `expression` is that of -k."""
    return Wanted(
        globs=tuple(dict.fromkeys(namespace.conform_case or ())),
        expression=expression or "",
        lists=lists_of(namespace),
        shard=shard_of(namespace),
        stressed=namespace.conform_stress > 0,
    )


def expression_of(namespace: Any) -> str:
    """Return the -k of a parsed command line, which may be among pytest's arguments."""
    rest: list[str] = namespace.pytest_arguments
    words = [value for option, value in pairwise(rest) if option == "-k"]
    words += [each[2:] for each in rest if each.startswith("-k") and len(each) > 2]
    return (words[-1] if words else namespace.k) or ""


def collects_elsewhere(namespace: Any) -> bool:
    """Return whether a parsed command line makes pytest collect anything but the suite's cases."""
    rest: list[str] = namespace.pytest_arguments
    return any(Path(each.split("::")[0]).exists() for each in rest if not each.startswith("-"))


def chosen_of(namespace: Any) -> Chosen | None:
    """Select the cases of a parsed command line; UsageError if there are none.

    Other pytest arguments may remove some of them. None if pytest collects something else.
    """
    if collects_elsewhere(namespace):
        return None
    wanted = wanted_of(namespace, expression_of(namespace))
    return require(wanted, list(by_slug(specs_asked(namespace))), cases())


def as_arguments(namespace: Any) -> list[str]:
    """Write the shared options of a parsed command line as arguments again."""
    arguments: list[str] = []
    for option in OPTIONS:
        name, value = option.name, getattr(namespace, option.destination)
        if option.settings.get("action") == "append":
            arguments += [f"{name}={item}" for item in value or ()]
        elif option.settings.get("action") == "store_true":
            arguments += [_RENAMED.get(name, name)] * value
        elif value is not None and value != option.default:
            arguments.append(f"{name}={value}")
    return arguments


def repeat_command(namespace: Any) -> str:
    """Return the command that runs the suite again with the same machines, without kernel, case and results."""
    in_spec = ("--patch=", "--config=", "--preset=")
    left = ["--kernel=", "--case=", "--results=", "--shard=", "--conform-trace", "--dump", "--total-deadline="]
    left += ["--quick", *in_spec]
    if not namespace.conform_stress:
        left.append("--seed=")
    kept = [each for each in as_arguments(namespace) if not each.startswith(tuple(left))]
    return shlex.join(["./conform", "run", *kept])
