# SPDX-License-Identifier: GPL-2.0-only
"""Observations made by hand: what a kernel shows for each outcome of a redirect."""

from __future__ import annotations

from typing import Any

from conformance.groups.redirect.cases import redirect_cases
from conformance.model import Case, KernelFacts
from kernels.version import Version

PHASES = {"byte": (1,), "kilobyte": (1024,), "burst": (1, 1500, 2, 64, 1000, 3, 700, 1)}
CASES = {case.name: case for case in redirect_cases()}


def case(name: str) -> Case:
    """Return a redirect case by name."""
    return CASES[name]


def facts(version: str, **config: str) -> KernelFacts:
    """Return the facts of a kernel."""
    return KernelFacts(Version.parse(version), config)


def each(sizes: tuple[int, ...]) -> list[Any]:
    """Return the messages received when every message arrives as it was sent."""
    ends = [sum(sizes[: number + 1]) for number in range(len(sizes))]
    return [[[end - size, size]] for size, end in zip(sizes, ends, strict=True)]


def merged(sizes: tuple[int, ...]) -> list[Any]:
    """Return the messages received when all arrive as one."""
    return [[[0, sum(sizes)]]]


def failed(**changes: Any) -> dict[str, Any]:
    """Return an observation whose set-up failed, without phases."""
    return {"socket": {"in": "ok", "out": "ok"}, "attach": [], "insert": {}, "phases": [], "errors": {}} | changes


def flowed(
    where: str | None,
    *,
    roles: tuple[str, ...] = ("in", "in_peer", "out", "out_peer"),
    attach: str = "sk_skb_verdict",
    send: str = "ok",
    verdict: str | None = "pass",
    once: bool = False,
    laps: int = 1,
    messages: Any = each,
) -> dict[str, Any]:
    """Return an observation in which data flowed to one role, or to none."""
    phases = []
    for number, (name, sizes) in enumerate(PHASES.items()):
        runs = {"pass": 0, "pass_bytes": 0, "drop": 0, "drop_bytes": 0}
        if verdict and not (once and number):
            runs[verdict] = 1 if once else laps * len(sizes)
            runs[f"{verdict}_bytes"] = sizes[0] if once else laps * sum(sizes)
        received: dict[str, Any] = {role: [] for role in roles}
        if where:
            received[where] = messages(sizes)
        phases.append(
            {
                "name": name,
                "sent": list(sizes),
                "send": list(sizes) if send == "ok" else [send] * len(sizes),
                "runs": runs,
                "received": received,
                "settled": True,
            }
        )
    return {
        "socket": {"in": "ok", "out": "ok"} if "out" in roles else {"in": "ok"},
        "attach": [[attach, "ok"]],
        "insert": {"in": "ok", "out": "ok"},
        "phases": phases,
        "errors": dict.fromkeys(roles, "ok"),
    }
