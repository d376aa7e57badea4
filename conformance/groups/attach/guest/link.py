# SPDX-License-Identifier: GPL-2.0-only
"""Attach programs to maps by links (since 6.10), and see what each end of a link's life leaves behind.

Each function is a scenario for one `attach` type and `map`. Answers are `"ok"` or an errno; of a query `none`, `first`
or `second`, the program held. Where links are unknown, `create` is all there is.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from collections.abc import Mapping
from contextlib import ExitStack
from functools import wraps

from bpf.guest import links
from conformance.groups.attach.guest.scenario import create
from conformance.guestlib import kit
from conformance.guestlib.answers import attempt
from conformance.guestlib.answers import error_name
from conformance.guestlib.kit import Steps
from conformance.guestlib.kit import holder
from conformance.guestlib.kit import make_map
from conformance.guestlib.kit import program
from conformance.guestlib.patience import comes_true

_PATIENCE = 2.0
"""Seconds for what the kernel does behind our back: the last reference is dropped by a work item or after RCU."""


class _Linked:
    """A map and a link that holds `first` in it."""

    def __init__(self, params: Mapping[str, str], keep: ExitStack) -> None:
        self.keep = keep
        self.kind = params["attach"]
        self.number = kit.TYPES[self.kind]
        self.first = program(self.kind, "first").descriptor
        self.second = program(self.kind, "second").descriptor
        self.of_map = keep.enter_context(ExitStack())
        """What keeps the map open; the link outlives it."""
        self.map = make_map(self.of_map, params["map"])
        self.created, self.link = create(self.map, self.first, self.number)
        keep.callback(self.close)

    def close(self) -> None:
        """Close the link."""
        if self.link >= 0:
            os.close(self.link)
            self.link = -1

    def another(self, which: str) -> str:
        """Try one more link, which stays if it comes about."""
        answer, link = create(self.map, program(self.kind, which).descriptor, self.number)
        if link >= 0:
            self.keep.callback(os.close, link)
        return answer

    def holds(self) -> str:
        """Say which program the map holds."""
        return holder(self.map, self.kind)

    def info(self, link: int | None = None) -> str:
        """Say what the link says of itself."""
        kind, identity, target, attach_type = links.link_info(self.link if link is None else link)
        names = {program(self.kind, which).id: which for which in ("first", "second")}
        place = "no map" if not target else "the map" if target == links.map_id(self.map) else "another map"
        form = "sockmap" if kind == links.SOCKMAP_LINK else f"type {kind}"
        what = "its attach type" if attach_type == self.number else f"attach type {attach_type}"
        return f"{form}, {names.get(identity, 'another')}, {place}, {what}"


def _scenario(look: Callable[[_Linked], Steps]) -> Callable[[Mapping[str, str]], dict[str, Steps]]:
    """Make a scenario of what is seen of a link; where none can be created, that is all there is to see."""

    @wraps(look)
    def run(params: Mapping[str, str]) -> dict[str, Steps]:
        with ExitStack() as keep:
            it = _Linked(params, keep)
            steps = {"create": it.created}
            return {"steps": steps | look(it) if it.created == "ok" else steps}

    return run


def live(params: Mapping[str, str]) -> dict[str, Steps]:
    """Create a link, try everything it must keep out, close it."""
    with ExitStack() as keep:
        it = _Linked(params, keep)
        steps = {"create": it.created}
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
            steps |= {
                "closed: holds": it.holds(),
                "closed: create another": it.another("second"),
                "closed: another holds": it.holds(),
            }
        number = it.number
        steps["create with flags"] = attempt(links.create, make_map(keep, params["map"]), it.first, number, 1)
        return {"steps": steps}


@_scenario
def update(it: _Linked) -> Steps:
    """Update a link with right and wrong programs, old and new."""
    stranger = program("sk_skb_verdict" if it.kind == "sk_msg_verdict" else "sk_msg_verdict", "first")
    declared = program(it.kind, "second", declared=True)
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
        "new of another type": attempt(links.update, link, stranger.descriptor),
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
    number = links.map_id(it.map)
    it.of_map.close()
    steps = {"map closed: update": attempt(links.update, it.link, it.second)}
    steps["map closed: open it by its id"], it.map = _open_map(number)
    if it.map >= 0:
        steps["map opened: holds"] = it.holds()
        steps["map opened: info"] = it.info()
        os.close(it.map)
    it.close()
    steps["link closed: open the map in the end"] = _in_the_end(lambda: _try_map(number), "ENOENT")
    return steps


@_scenario
def pinned(it: _Linked) -> Steps:
    """Pin a link, close it, open it by its name, and let go of it for good."""
    path = f"{it.keep.enter_context(links.file_system())}/link"
    steps = {"pin": attempt(links.pin, it.link, path)}
    steps["pin again"] = attempt(links.pin, it.link, path)
    it.close()
    steps["closed: holds"] = it.holds()
    link = links.unpinned(path)
    steps["opened: info"] = it.info(link)
    steps["opened: update"] = attempt(links.update, link, it.second)
    os.close(link)
    steps["updated and closed: holds"] = it.holds()
    steps["removed"] = attempt(os.unlink, path)
    steps["removed: holds in the end"] = _in_the_end(it.holds, "none")
    return steps


def _in_the_end(ask: Callable[[], str], wanted: str) -> str:
    """Wait until the answer is the one wanted; return what it is then."""
    comes_true(lambda: ask() == wanted, _PATIENCE)
    return ask()


def _open_map(number: int) -> tuple[str, int]:
    try:
        return "ok", links.map_by_id(number)
    except OSError as error:
        return error_name(error.errno or 0), -1


def _try_map(number: int) -> str:
    answer, descriptor = _open_map(number)
    if descriptor >= 0:
        os.close(descriptor)
    return answer
