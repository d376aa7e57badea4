# SPDX-License-Identifier: GPL-2.0-only
"""Attach programs to maps by links (since 6.10), and see what the map holds at each stage of a link's life.

Each function is a scenario for one `attach` type and `map`. Answers are `"ok"` or an errno; of a query `none`, `first`
or `second`, the program held. Without links to maps, the only step is `create`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from bpf.guest import links, maps
from conformance.groups.attach.guest.scenario import create, holder
from conformance.guestlib import procfs
from conformance.guestlib.answers import Steps, attempt, opens, outcome, wait_until
from conformance.guestlib.fixture import TYPES, Fixture, Map, Scenario, counting, scenario

_PATIENCE = 2.0
"""Seconds for delayed work: a work item or RCU drops the last reference."""


class _Linked:
    """A map and a link that holds `first` in it."""

    def __init__(self, params: Mapping[str, str], keep: Fixture) -> None:
        self.keep = keep
        self.kind = params["attach"]
        self.number = TYPES[self.kind]
        self.first = counting(self.kind, "first").descriptor
        self.second = counting(self.kind, "second").descriptor
        self.map = keep.map(params["map"])
        self.created, self.link = create(keep, self.map, self.first, self.number)

    def close(self) -> None:
        """Close the link."""
        self.keep.drop(self.link)

    def another(self, which: str) -> str:
        """Try to create one more link; it stays if that succeeds."""
        return create(self.keep, self.map, counting(self.kind, which).descriptor, self.number)[0]

    def holds(self) -> str:
        """Say which program the map holds."""
        return holder(self.map, self.kind)

    def info(self, link: int | None = None) -> str:
        """Return the link's information."""
        kind, identity, target, attach_type = links.link_info(self.link if link is None else link)
        names = {counting(self.kind, which).id: which for which in ("first", "second")}
        place = "no map" if not target else "the map" if target == maps.info(self.map).id else "another map"
        form = "sockmap" if kind == links.SOCKMAP_LINK else f"type {kind}"
        what = "its attach type" if attach_type == self.number else f"attach type {attach_type}"
        return f"{form}, {names.get(identity, 'another')}, {place}, {what}"


def _scenario(look: Callable[[_Linked], Steps]) -> Scenario:
    """Make a scenario of a function about a link; if no link can be created, the only step is `create`."""

    @scenario
    def run(keep: Fixture, params: Mapping[str, str], steps: Steps) -> None:
        it = _Linked(params, keep)
        steps["create"] = it.created
        if it.created == "ok":
            steps |= look(it)

    return run


@scenario
def live(keep: Fixture, params: Mapping[str, str], steps: Steps) -> None:
    """Create a link, try everything that it must refuse, close it."""
    it = _Linked(params, keep)
    steps["create"] = it.created
    if it.created == "ok":
        steps |= {
            "info": it.info(),
            "holds": it.holds(),
            "create another": it.another("second"),
            "attach over it": attempt(links.attach, it.map, it.second, it.number),
            "detach under it": attempt(links.detach, it.map, it.first, it.number),
            "still holds": it.holds(),
        }
        it.close()
        steps["closed: holds"] = it.holds()
        steps["closed: create another"] = it.another("second")
        steps["closed: another holds"] = it.holds()
    steps["create with flags"] = attempt(links.create, keep.map(params["map"]), it.first, it.number, 1)


@_scenario
def update(it: _Linked) -> Steps:
    """Update a link with right and wrong programs, old and new."""
    other = counting("sk_skb_verdict" if it.kind == "sk_msg_verdict" else "sk_msg_verdict", "first")
    declared = counting(it.kind, "second", declared=True)
    link, first, second = it.link, it.first, it.second
    return {
        "update": attempt(links.update, link, second),
        "updated: info": it.info(),
        "updated: holds": it.holds(),
        "update to the same": attempt(links.update, link, second),
        "old is right": attempt(links.update, link, first, links.F_REPLACE, second),
        "old was right: holds": it.holds(),
        "old is wrong": attempt(links.update, link, second, links.F_REPLACE, second),
        "old is no program": attempt(links.update, link, second, links.F_REPLACE, it.map),
        "old without the flag": attempt(links.update, link, second, 0, first),
        "unknown flag": attempt(links.update, link, second, 1 << 7),
        "new of another type": attempt(links.update, link, other.descriptor),
        "new of another attach type": attempt(links.update, link, declared.descriptor),
        "new is no program": attempt(links.update, link, it.map),
        "not by a link": attempt(links.update, it.map, second),
        "after all that: holds": it.holds(),
        "after all that: info": it.info(),
    }


@_scenario
def detach(it: _Linked) -> Steps:
    """Detach a link that stays open, and use the place it leaves."""
    steps = {
        "detach": attempt(links.detach_link, it.link),
        "detached: holds": it.holds(),
        "detached: info": it.info(),
        "detached: update": attempt(links.update, it.link, it.second),
        "detach again": attempt(links.detach_link, it.link),
        "attach": attempt(links.attach, it.map, it.second, it.number),
        "attached: holds": it.holds(),
        "create over it": it.another("first"),
        "created: holds": it.holds(),
    }
    it.close()
    steps["closed: holds"] = it.holds()
    return steps


@_scenario
def hold(it: _Linked) -> Steps:
    """Close the map while the link lives, find it again, then close the link."""
    number = maps.info(it.map).id
    it.keep.drop(it.map)
    steps = {"map closed: update": attempt(links.update, it.link, it.second)}
    opened = outcome(maps.open_by_id, number)
    steps["map closed: open it by its id"] = opened if isinstance(opened, str) else "ok"
    if isinstance(opened, int):
        it.map = Map(it.keep.keep(opened))
        steps["map opened: holds"] = it.holds()
        steps["map opened: info"] = it.info()
        it.keep.drop(it.map)
    it.close()
    steps["link closed: open the map in the end"] = _in_the_end(lambda: opens(maps.open_by_id, number), "ENOENT")
    return steps


@_scenario
def pinned(it: _Linked) -> Steps:
    """Pin a link, close it, open it by its name, then unpin and close it."""
    path = f"{it.keep.enter_context(procfs.file_system('bpf'))}/link"
    steps = {"pin": attempt(maps.pin, it.link, path)}
    steps["pin again"] = attempt(maps.pin, it.link, path)
    it.close()
    steps["closed: holds"] = it.holds()
    link = maps.open_pinned(path)
    steps["opened: info"] = it.info(link)
    steps["opened: update"] = attempt(links.update, link, it.second)
    os.close(link)
    steps["updated and closed: holds"] = it.holds()
    steps["removed"] = attempt(os.unlink, path)
    steps["removed: holds in the end"] = _in_the_end(it.holds, "none")
    return steps


def _in_the_end(ask: Callable[[], str], wanted: str) -> str:
    """Wait until the answer is the one wanted; return the last answer."""
    wait_until(lambda: ask() == wanted, _PATIENCE)
    return ask()
