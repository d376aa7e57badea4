# SPDX-License-Identifier: GPL-2.0-only
"""Select the cases for each kernel by their names alone: no test, kernel or machine exists yet.

A pattern of `--case` names the cases whose id, `group/name`, it matches; the group or the name alone will do. `*`, `?`
and `[...]` are those of the shell. A pattern that is an id names this case and no other.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import translate

from common.errors import UsageError
from conformance.groups import GROUPS
from conformance.judge.lists import EVERYTHING, Lists
from conformance.model import Case
from conformance.run.shard import WHOLE, Shard

LISTING = "list the cases with: ./conform list --case '*'"

Chosen = Mapping[str, Mapping[str, Case]]
"""The cases for each kernel, by slug and case id, in the suite's order."""

_STRESSING = frozenset(group.name for group in GROUPS.values() if group.stress)
"""The groups that run only with --stress."""
_NEAR = 3
"""Ids suggested for one that does not exist."""
_CANDIDATES = 40
"""Ids with the most common words that are compared letter by letter; comparing all takes a second."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The case selection of a command line; each part only removes cases."""

    globs: tuple[str, ...] = ()
    """Patterns; a case must match one of them. Empty for all cases."""
    expression: str = ""
    """The expression of `-k`, in pytest's grammar; empty for all."""
    lists: Lists = EVERYTHING
    shard: Shard = WHOLE
    stressed: bool = False
    """Whether the hammer's cases are asked, too."""

    def __str__(self) -> str:
        """Return it as the options of a command line."""
        parts = [f"--case {shlex.quote(each)}" for each in self.globs]
        parts += [f"-k {shlex.quote(self.expression)}"] * bool(self.expression)
        return " ".join([*parts, *["--allowlist"] * (self.lists.allow is not None)])


def choose(wanted: Wanted, slugs: Iterable[str], universe: Sequence[Case]) -> Chosen:
    """Choose from all cases; UsageError for a pattern of no known case, or an expression that cannot be read."""
    admitted = admitting(wanted, [case.id for case in universe])
    reads = _reader(wanted.expression)
    asked = [case for case in universe if admitted(case)]
    return {slug: {case.id: case for case in asked if reads(slug, case)} for slug in slugs}


def checked(wanted: Wanted, universe: Sequence[Case]) -> Wanted:
    """Return the selection; UsageError for a pattern that names no case, or an expression that cannot be read."""
    for pattern in wanted.globs:
        _check_pattern(pattern, wanted, universe)
    _reader(wanted.expression)
    return wanted


def admitting(wanted: Wanted, known: Iterable[str] = ()) -> Callable[[Case], bool]:
    """Return a function that tells whether a case is selected, apart from `-k`; `known` as in matcher."""
    names = matcher(wanted.globs, known)
    return lambda case: (
        names(case.id)
        and (wanted.stressed or case.group not in _STRESSING)
        and wanted.lists.selects(case.id)
        and wanted.shard.holds(case.id)
    )


def require(wanted: Wanted, slugs: Sequence[str], universe: Sequence[Case]) -> Chosen:
    """Check that at least one case is selected, unless the shard is empty; UsageError names the option to blame."""
    checked(wanted, universe)
    chosen = choose(wanted, slugs, universe)
    if count(chosen) or count(choose(replace(wanted, shard=WHOLE), slugs, universe)):
        return chosen
    hammering = choose(replace(wanted, shard=WHOLE, stressed=True), slugs, universe)
    if count(hammering):
        number = len({name for cases in hammering.values() for name in cases})
        raise _needs_stress(number, str(wanted))
    raise UsageError(f"no case matches {wanted}", hint=LISTING)


def count(chosen: Chosen) -> int:
    """Count the cases of all kernels."""
    return sum(map(len, chosen.values()))


def matcher(globs: Iterable[str], known: Iterable[str] = ()) -> Callable[[str], bool]:
    """Return a function that tells whether any pattern names a case id; without patterns, all are.

    Patterns that are among the `known` ids match only themselves.
    """
    patterns = frozenset(globs)
    if not patterns:
        return lambda _: True
    exact = patterns.intersection(known)
    loose = "|".join(translate(pattern) for pattern in patterns - exact)
    if not loose:
        return exact.__contains__
    pattern = re.compile(loose)
    return lambda name: name in exact or any(map(pattern.match, (name, *name.split("/", 1))))


def nearest(pattern: str, known: Iterable[str]) -> list[str]:
    """Return the ids most similar to a pattern, best first; none if nothing is similar."""
    from difflib import get_close_matches

    words = set(_words(pattern))
    shared = {name: len(words.intersection(_words(name))) for name in known}
    ranked = sorted((name for name in shared if shared[name]), key=lambda name: -shared[name])
    # If no word matches, compare letters.
    return get_close_matches(pattern, ranked[:_CANDIDATES] or list(shared), _NEAR)


def named(pattern: str, universe: Sequence[Case]) -> list[Case]:
    """Return the cases that one pattern names."""
    names = matcher([pattern], [case.id for case in universe])
    return [case for case in universe if names(case.id)]


def only_stressed(found: Sequence[Case]) -> bool:
    """Tell whether all these cases are asked only with --stress."""
    return all(case.group in _STRESSING for case in found)


def _check_pattern(pattern: str, wanted: Wanted, universe: Sequence[Case]) -> None:
    """Raise UsageError for a pattern that names no case, or only cases that need --stress."""
    found = named(pattern, universe)
    if not found:
        near = nearest(pattern, [case.id for case in universe])
        hint = f"did you mean {' or '.join(near)}?" if near else LISTING
        raise UsageError(f"--case {shlex.quote(pattern)} names no case", hint=hint)
    if not wanted.stressed and only_stressed(found):
        raise _needs_stress(len(found), f"--case {shlex.quote(pattern)}")


def _needs_stress(number: int, asked: str) -> UsageError:
    cases = "one case, which needs" if number == 1 else f"{number} cases, which all need"
    return UsageError(f"{asked} matches {cases} --stress SECONDS", hint="e.g. --stress 5 --cpus 2")


def _reader(expression: str) -> Callable[[str, Case], bool]:
    """Return a function that matches `-k` as pytest does: words are parts of the names of a test and its parents."""
    if not expression.strip():
        return lambda slug, case: True
    # pytest has no public name for it; without -k, importing it would cost every start a tenth of a second.
    from _pytest.mark.expression import Expression

    try:
        compiled = Expression.compile(expression.lstrip())
    except SyntaxError as error:
        at = f"at column {error.offset}: " if error.offset else ""
        raise UsageError(
            f"-k {shlex.quote(expression)} is not an expression: {at}{error.msg}",
            hint="e.g. -k 'redirect and not vsock'",
        ) from error
    except RecursionError as error:
        raise UsageError(
            "the expression of -k is nested too deeply", hint="e.g. -k 'redirect and not vsock'"
        ) from error

    def reads(slug: str, case: Case) -> bool:
        names = "\n".join(_names(slug, case)).lower()

        def is_part(word: str, /, **arguments: str | int | bool | None) -> bool:
            if arguments:
                raise UsageError(
                    f"-k {shlex.quote(expression)} has arguments",
                    hint="-k takes parts of case ids, joined by and, or, not",
                )
            return word.lower() in names

        return compiled.evaluate(is_part)

    return reads


def _names(slug: str, case: Case) -> Iterator[str]:
    """Return the names of a case's test and of its parents, as pytest's -k sees them."""
    yield from ("conformance", "cases", f"test_{case.group}.py", f"test_{case.group}[{slug}-{case.name}]")


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", text.lower()) if word]
