# SPDX-License-Identifier: GPL-2.0-only
"""The stored speed of the suite, and what has become slower since."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from common.errors import UsageError

PATH = Path(__file__).parents[1] / "benchmark.toml"

TENTH = 0.1
"""Changes up to this share are ignored."""

_HEAD = """\
# SPDX-License-Identifier: GPL-2.0-only
# Written by `./conform benchmark --save`. Each figure is the median time of a measure, divided by the time of a fixed
# computation (conformance/run/yardstick.py) just before and after it, so that figures of different machines can be
# compared. They still depend on the number of CPUs, and on KVM.
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """The times of the measures, in units of the yardstick, by name of the measure."""

    cpus: int = 0
    yardstick: float = 0.0
    """Seconds that the yardstick took."""
    ratios: Mapping[str, float] = field(default_factory=dict)

    def updated(self, newer: Figures) -> Figures:
        """Return these figures, updated by new ones."""
        return replace(newer, ratios={**self.ratios, **newer.ratios})


def read(path: Path = PATH) -> Figures:
    """Read the figures, none if there is no file; UsageError if they make no sense."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Figures()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _bad(path, str(error)) from error
    if unknown := content.keys() - {"cpus", "yardstick", "ratio"}:
        raise _bad(path, f"there is no {min(unknown)}")
    cpus, ratios = content.get("cpus", 0), content.get("ratio", {})
    if type(cpus) is not int or cpus < 0:
        raise _bad(path, f"cpus cannot be {cpus!r}")
    if not isinstance(ratios, dict):
        raise _bad(path, f"ratio cannot be {ratios!r}")
    yardstick = _number(path, "yardstick", content.get("yardstick", 0.0))
    return Figures(cpus, yardstick, {name: _number(path, name, value) for name, value in ratios.items()})


def write(figures: Figures, path: Path = PATH) -> None:
    """Write the figures; UsageError if they cannot be written."""
    lines = [f"cpus = {figures.cpus}", f"yardstick = {figures.yardstick:.3f}", "", "[ratio]"]
    lines += [f"{name} = {ratio:.3f}" for name, ratio in figures.ratios.items()]
    try:
        path.write_text(_HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"cannot write the figures {path.name}: {error.strerror}", hint="use a checkout that you can write to"
        ) from error


def compared(saved: Figures, now: Figures) -> Iterator[str]:
    """Return a sentence for each measure that became slower or faster by more than a tenth."""
    common = [name for name in now.ratios if saved.ratios.get(name)]
    changes = {name: now.ratios[name] / saved.ratios[name] - 1 for name in common}
    slower = {name: change for name, change in changes.items() if change > TENTH}
    faster = {name: change for name, change in changes.items() if change < -TENTH}
    if saved.cpus not in (0, now.cpus):
        yield f"the stored figures were measured on {saved.cpus} CPUs, these on {now.cpus}: compare with care"
    for word, which in (("slower", slower), ("faster", faster)):
        if which:
            measures = (
                f"{name} {abs(change):.0%} ({saved.ratios[name]:.2f}, now {now.ratios[name]:.2f} yardsticks)"
                for name, change in which.items()
            )
            yield f"{word} by more than a tenth: {', '.join(measures)}"
    if common and not slower and not faster:
        yield f"nothing changed by more than a tenth: {', '.join(common)}"
    if new := [name for name in now.ratios if name not in common]:
        yield f"no stored figure for: {', '.join(new)}"


def _number(path: Path, name: str, value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        raise _bad(path, f"{name} cannot be {value!r}")
    return float(value)


def _bad(path: Path, why: str) -> UsageError:
    return UsageError(f"{path.name} does not hold figures that `benchmark --save` wrote: {why}", hint="save them again")
