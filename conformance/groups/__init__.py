# SPDX-License-Identifier: GPL-2.0-only
"""Every case there is, in a stable order: a group is one line and one module here."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Final

from conformance.groups.attach import cases as attach
from conformance.groups.attach.cases import attach_cases
from conformance.groups.enrol import cases as enrol
from conformance.groups.enrol.cases import enrol_cases
from conformance.groups.hammer import cases as hammer
from conformance.groups.hammer.cases import hammer_cases
from conformance.groups.insert import cases as insert
from conformance.groups.insert.cases import insert_cases
from conformance.groups.kinds import FAMILIES
from conformance.groups.leaks import cases as leaks
from conformance.groups.leaks.cases import leak_cases
from conformance.groups.redirect import cases as catalogue
from conformance.groups.redirect.cases import redirect_cases
from conformance.groups.steer import cases as steer
from conformance.groups.steer.cases import steer_cases
from conformance.groups.survive import cases as survive
from conformance.groups.survive.cases import survive_cases
from conformance.groups.teardown import cases as teardown
from conformance.groups.teardown.cases import teardown_cases
from conformance.groups.update_from_bpf import cases as update_from_bpf
from conformance.groups.update_from_bpf.cases import update_from_bpf_cases
from conformance.model import Case

GROUPS: Final[Mapping[str, Callable[[], tuple[Case, ...]]]] = {
    "redirect": redirect_cases,
    "insert": insert_cases,
    "attach": attach_cases,
    "update_from_bpf": update_from_bpf_cases,
    "enrol": enrol_cases,
    "steer": steer_cases,
    "teardown": teardown_cases,
    "leaks": leak_cases,
    "survive": survive_cases,
    "hammer": hammer_cases,
}

Families = Mapping[str, Sequence[str]]
"""Values of a parameter by a name that rows may use for all of them."""
_FAMILIES: Final[Mapping[str, Families]] = {"teardown": teardown.FAMILIES}
"""The families of a group beside those of the kinds."""


def families_of(group: str) -> Families:
    """Return what rows about a group may use in place of values of a parameter."""
    return {**FAMILIES, **_FAMILIES.get(group, {})}


PROMISES: Final[Mapping[str, str]] = {
    "redirect": catalogue.PROMISE,
    "insert": insert.PROMISE,
    "attach": attach.PROMISE,
    "update_from_bpf": update_from_bpf.PROMISE,
    "enrol": enrol.PROMISE,
    "steer": steer.PROMISE,
    "teardown": teardown.PROMISE,
    "leaks": leaks.PROMISE,
    "survive": survive.PROMISE,
    "hammer": hammer.PROMISE,
}
"""What a kernel promises with each group, in one sentence."""


def cases() -> tuple[Case, ...]:
    """List every case of every group."""
    return tuple(case for group in GROUPS.values() for case in group())
