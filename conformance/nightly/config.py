# SPDX-License-Identifier: GPL-2.0-only
"""Read conform.toml strictly: the default file has every key that is allowed, with its type."""

from __future__ import annotations

import argparse
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from common import infile
from common.errors import UsageError
from common.values import WORKERS, Bounds
from conformance.groups import cases
from conformance.judge.lists import read_lists
from conformance.report.formats import FORMATS
from conformance.run.deadline import seconds_of
from conformance.run.option_table import CPUS, MEMORY, STRESS
from conformance.run.options import add_options, by_slug
from conformance.run.selection import LISTING, named, nearest, only_stressed
from kernels.resolve import parse
from kernels.spec import Preset, amend

NAME: Final = "conform.toml"
DEFAULT: Final = Path(__file__).with_name("default.toml")

_HINT: Final = "`./conform config` prints every key with its default"
_FOLDER: Final = "outputs.folder"
_BOUNDS: Final[Mapping[str, Bounds]] = {
    "hammer.seconds": STRESS,
    "machines.cpus": CPUS,
    "machines.memory": MEMORY,
    "machines.workers": WORKERS,
}
_LISTS: Final = {"allow": "--allowlist", "deny": "--denylist", "splats": "--splatlist"}
_MACHINES: Final = {"cpus": "--cpus", "memory": "--memory", "accelerator": "--accel", "append": "--append"}


@dataclass(frozen=True, slots=True)
class MatrixConfig:
    """The content of a conform.toml."""

    kernels: tuple[str, ...]
    """Specs; a kernel built from source appears once for each preset."""
    arguments: tuple[str, ...]
    """Options of `conform run` about lists and machines."""
    cases: tuple[str, ...]
    """Patterns of `--case`; empty for all."""
    hammered: str
    """The kernel on which each pair of socket kinds is stressed, one of `kernels`; empty for none."""
    workers: int
    folder: Path
    formats: tuple[str, ...]

    def options(self, shard: str = "", cases: Sequence[str] = (), seed: int = 0) -> argparse.Namespace:
        """Return the options for `conform run`; `cases` of the command line replace those of the file.

        `seed` is the random seed of the hammer; all shards of a run need the same.
        """
        parser = argparse.ArgumentParser()
        add_options(parser)
        arguments = [f"--kernel={spec}" for spec in self.kernels] + [f"--shard={shard}"] * bool(shard)
        arguments += [f"--case={pattern}" for pattern in cases or self.cases]
        namespace = parser.parse_args([*arguments, *self.arguments])
        namespace.k = None
        if self.hammered:
            namespace.conform_seed = seed
            (slug,) = (slug for slug, spec in by_slug(self.kernels).items() if spec == self.hammered)
            namespace.k = f"not test_hammer or test_hammer[{slug}-"
        namespace.n = str(self.workers or "auto")
        namespace.pytest_arguments = []
        return namespace


def read(path: Path) -> MatrixConfig:
    """Read a configuration; UsageError names the file and the key that is wrong."""
    try:
        given = infile.toml(path)
    except OSError as error:
        hint = f"./conform config > {NAME}"
        raise UsageError(f"cannot read {path}: {error.strerror}", hint=hint) from error
    except ValueError as error:
        raise UsageError(f"{path} is not TOML: {error}", hint=_HINT) from error
    values = _merge(path, tomllib.loads(DEFAULT.read_text(encoding="utf-8")), given)
    try:
        seconds_of(values["deadline"])
    except UsageError as error:
        raise UsageError(f"{path}: 'deadline': {error}", hint=error.hint) from error
    return MatrixConfig(
        kernels=tuple(dict.fromkeys(_kernels(path, values))),
        arguments=tuple(_arguments(path, values)),
        cases=_cases(path, values),
        hammered=_hammered(path, values),
        workers=values["machines"]["workers"],
        folder=_beside(path, _FOLDER, values["outputs"]["folder"]),
        formats=_known(path, "outputs.formats", values["outputs"]["formats"], list(FORMATS)),
    )


def _merge(path: Path, default: Mapping[str, Any], given: Mapping[str, Any], table: str = "") -> dict[str, Any]:
    """Merge the given values over the defaults; keys and types must be those of the defaults."""
    for key, value in given.items():
        name = f"{table}{key}"
        if key not in default:
            raise UsageError(f"{path}: there is no key {name!r}", hint=_HINT)
        wanted = default[key]
        texts = isinstance(value, list) and all(isinstance(each, str) for each in value)
        if type(value) is not type(wanted) or (isinstance(value, list) and not texts):
            words = {str: "a string", int: "a number", list: "a list of strings", dict: "a table"}
            raise UsageError(f"{path}: {name!r} is {words[type(wanted)]}, not {value!r:.60}", hint=_HINT)
        _check_value(path, name, value)
    return {
        key: _merge(path, wanted, given.get(key, {}), f"{table}{key}.")
        if isinstance(wanted, dict)
        else given.get(key, wanted)
        for key, wanted in default.items()
    }


def _check_value(path: Path, name: str, value: Any) -> None:
    """Raise UsageError for a number out of bounds, and for a text that no command line can hold."""
    if isinstance(value, int) and (wrong := _BOUNDS[name].wrong(value)):
        raise UsageError(f"{path}: {name!r} {wrong}", hint=_HINT)
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, str) and "\0" in each:
            raise UsageError(f"{path}: {name!r} cannot hold a NUL character", hint="remove it")


def _cases(path: Path, values: Mapping[str, Any]) -> tuple[str, ...]:
    for pattern in values["cases"]:
        found = named(pattern, cases())
        if not found:
            near = nearest(pattern, [case.id for case in cases()])
            hint = f"did you mean {' or '.join(near)}?" if near else LISTING
            raise UsageError(f"{path}: 'cases': {pattern!r} names no case", hint=hint)
        if only_stressed(found) and not values["hammer"]["seconds"]:
            raise UsageError(
                f"{path}: 'cases': {pattern!r} names only cases of the hammer, and 'hammer.seconds' is 0",
                hint="seconds = 5",
            )
    return tuple(values["cases"])


def _kernels(path: Path, values: Mapping[str, Any]) -> Iterator[str]:
    presets = _known(path, "presets", values["presets"], [str(preset) for preset in Preset])
    if not values["kernels"] or not presets:
        empty = "presets" if values["kernels"] else "kernels"
        raise UsageError(f"{path}: {empty!r} is empty, so there is nothing to judge", hint=_HINT)
    for spec in values["kernels"]:
        if spec.partition(",")[0].strip() == "host":
            raise UsageError(
                f"{path}: 'kernels' cannot have 'host': a file must not start cases on the running kernel",
                hint="./conform run --kernel host",
            )
        try:
            builds = parse(spec).builds
        except UsageError as error:
            raise UsageError(f"{path}: 'kernels': {error}", hint=error.hint) from error
        yield from (amend(spec, preset=preset) for preset in presets) if builds else (spec,)


def _hammered(path: Path, values: Mapping[str, Any]) -> str:
    """Return the kernel that is hammered; with several presets, the last of them."""
    kernel = values["hammer"]["kernel"]
    if kernel and kernel not in values["kernels"]:
        raise UsageError(f"{path}: 'hammer.kernel' is {kernel!r}, which is none of 'kernels'", hint=_HINT)
    if not values["hammer"]["seconds"]:
        return ""
    return list(_kernels(path, {**values, "kernels": [kernel or values["kernels"][-1]]}))[-1]


def _arguments(path: Path, values: Mapping[str, Any]) -> Iterator[str]:
    yield from _lists(path, values["lists"])
    machines = values["machines"]
    _known(path, "machines.accelerator", [machines["accelerator"]], ["auto", "kvm", "tcg"])
    yield f"--total-deadline={values['deadline']}"
    yield f"--stress={values['hammer']['seconds']}"
    yield from (f"{option}={machines[key]}" for key, option in _MACHINES.items())


def _lists(path: Path, values: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield the options of all lists; each list is read here, so that an error names its key."""
    for key, option in _LISTS.items():
        files = [os.fspath(_beside(path, f"lists.{key}", each)) for each in values[key]]
        one = {each: files if each == key else () for each in _LISTS}
        try:
            read_lists(*one.values(), universe=[case.id for case in cases()])
        except UsageError as error:
            raise UsageError(f"{path}: 'lists.{key}': {error}", hint=error.hint) from error
        yield from (f"{option}={each}" for each in files)


def _beside(path: Path, name: str, value: str) -> Path:
    """Return a path that the file names; UsageError unless it is below the file's own folder.

    The file may be part of a change that is not reviewed yet: it must not choose files to overwrite, or to be read and
    quoted in an error.
    """
    if not value:
        raise UsageError(f"{path}: {name!r} holds an empty path", hint=_HINT)
    leads = path.parent / value
    if not leads.resolve().is_relative_to(path.parent.resolve()):
        hint = "name a path below the file's folder" + ("; --results DIR may be any" if name == _FOLDER else "")
        raise UsageError(f"{path}: {name!r} leads out of the file's folder: {value!r}", hint=hint)
    if name == _FOLDER and leads.exists() and not leads.is_dir():
        raise UsageError(f"{path}: {name!r} is {value!r}, which is not a folder", hint="name a folder, or a new one")
    return leads


def _known(path: Path, name: str, values: list[str], known: list[str]) -> tuple[str, ...]:
    for value in values:
        if value not in known:
            raise UsageError(f"{path}: {name!r} cannot be {value!r}", hint=f"it can be {', '.join(known)}")
    return tuple(values)
