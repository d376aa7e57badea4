# SPDX-License-Identifier: GPL-2.0-only
"""Cases and their steps in words, from `expect/words.toml`.

A step has the words of `step`. One that has none is taken apart at a blank, a comma, a colon or a hyphen: a part before
or behind has words in `when`, and the rest in `step`, or is split again. A step of the control has the words of
the same step of the case.
"""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from conformance.model import Case

_FILE = Path(__file__).with_name("words.toml")
_JOINT = re.compile(r", |: | |-")
_NUMBER = re.compile(r"\d+")
_ERRNO = re.compile(r"\bE[A-Z0-9]{2,}$")
_ANY = "*"
_OF_CONTROL = "control "
"""The prefix of a step of the control: OF_CONTROL of judge/steps.py, which must not be imported here."""


def about(case: Case) -> str:
    """Say in a sentence what a case does."""
    words = _words()[case.group]["about"]
    first = next(iter(case.params.values()), _ANY)
    return words.get(first, words.get(_ANY, "")).format_map(defaultdict(str, case.params))


def brief(case: Case) -> str:
    """Say what a case does in one line or two; empty if words.toml does not."""
    tables = _words().get(case.group, {})
    if _ANY in tables.get("brief", {}):
        return tables["brief"][_ANY].format_map(defaultdict(str, case.params))
    return about(case).partition(". ")[0].removesuffix(".") if tables else ""


def step_words(group: str, step: str) -> str:
    """Say what a step is; empty if words.toml does not."""
    tables, numbers = _words().get(group, {}), _NUMBER.findall(step)
    text = ", ".join(tables[table][key] for table, key in used_by(group, step))
    text = text.replace("{step}", _JOINT.split(step)[0])
    return re.sub(r"\bN\b", lambda _: numbers.pop(0) if numbers else "N", text)


def used_by(group: str, step: str) -> tuple[tuple[str, str], ...]:
    """Return the table and key of each piece that makes up the words of a step; nothing if it has none."""
    tables, step = _words().get(group, {}), step.removeprefix(_OF_CONTROL)
    return next((found for key in (step, _NUMBER.sub("N", step)) if (found := _pieces_of(tables, key))), ())


def _pieces_of(tables: Mapping[str, Mapping[str, str]], key: str) -> tuple[tuple[str, str], ...]:
    steps, when = tables.get("step", {}), tables.get("when", {})
    if key in steps:
        return (("step", key),)
    for joint in _JOINT.finditer(key):
        head, tail = key[: joint.start()], key[joint.end() :]
        for part, rest in ((tail, head), (head, tail)):
            if part in when and (found := _pieces_of(tables, rest)):
                return (*found, ("when", part))
    return (("step", _ANY),) if _ANY in steps and not _JOINT.search(key) else ()


def answer_words(answers: Iterable[str]) -> dict[str, str]:
    """Return the words for those of some answers that have any, in the order of `expect/answers.toml`."""
    pieces = {part.strip() for answer in answers for part in re.split(r", |: | \(|\)", answer)}
    kinds = {_ERRNO.sub("E...", piece) for piece in pieces}
    return {word: meaning for word, meaning in _answers().items() if word in kinds}


def values(case: Case) -> Iterator[tuple[str, str, str]]:
    """Yield name, value and words of each parameter of a case whose value needs words."""
    meanings = _words()[case.group].get("value", {})
    for name, value in case.params.items():
        if words := meanings.get(f"{name} {value}"):
            yield name, value, words


def order(group: str, step: str) -> tuple[int, str]:
    """Return a sort key for steps: the order of words.toml."""
    (_, key), *_ = used_by(group, step) or (("", ""),)
    return list(_words()[group]["step"]).index(key) if key else -1, step


def pieces() -> Iterator[tuple[str, str, str]]:
    """Yield group, table and key of each entry of words.toml."""
    for group, tables in _words().items():
        for table in ("step", "when", "value"):
            yield from ((group, table, key) for key in tables.get(table, {}))


@cache
def _answers() -> Mapping[str, str]:
    return tomllib.loads(_FILE.with_name("answers.toml").read_text(encoding="utf-8"))


@cache
def _words() -> Mapping[str, Mapping[str, Mapping[str, str]]]:
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))
