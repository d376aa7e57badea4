# SPDX-License-Identifier: GPL-2.0-only
"""Runs for the tests of reports: real results, and made-up failures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from conformance.groups.redirect.cases import redirect_cases
from conformance.model import Case, Verdict
from conformance.report.event_types import CaseEvent, FinishEvent, KernelEvent, RunEvent
from conformance.report.events import Run, read
from conformance.report.formats import FORMATS

GOLDEN = Path(__file__).parent / "golden"
"""The expected reports; `python -m tests.conformance.report_runs` rewrites them, to be reviewed in the diff."""
LAYOUTS = ("plain", "same_map", "parser", "self", "peer")
"""The layouts of the runs that are reported: one more layout of the suite leaves these runs as they are."""

Observe = Callable[[Case], str]

START = RunEvent(
    started="2026-11-22T20:29:00Z",
    command=("./conform", "run"),
    suite_commit="cefbac1d02f3",
    bpf_objects={"redirect.bpf.o": "ab" * 32},
    host_kernel="6.18.44",
    host_cpus=2,
    host_memory=24000,
)


def kernel(branch: str, release: str, **more: Any) -> KernelEvent:
    """Describe one of Debian's kernels in a TCG clone."""
    event = KernelEvent(
        spec=f"debian:{branch}",
        slug=f"debian-{branch}",
        release=release,
        version=release.partition("+")[0].partition("-")[0],
        banner=f"Linux version {release} (debian-kernel@lists.debian.org) (gcc-14 (Debian 14.2.0-19) 14.2.0) #1 SMP",
        digest="5d" * 32,
        config_sha256="c0" * 32,
        package={"package": f"linux-image-{release}", "suite": "bookworm-backports"},
        machine="clone",
        accelerator="tcg",
        why="/dev/kvm opens, but a probe boot on it died",
        factor=3.14,
        boot_seconds=8.02,
        template="cached",
        template_seconds=0.02,
        tools={"qemu": "7.2.22", "virtme-ng": "1.42"},
    )
    return replace(event, **more)


KERNEL_6_12 = kernel("6.12", "6.12.107+deb12-amd64")
KERNEL_5_10 = kernel("5.10", "5.10.0-36-amd64", version="5.10.223")


def observe_6_12(case: Case) -> str:
    """Return the outcome on 6.12."""
    kind, out = case.params["in"], case.params["out"]
    match case.params["mode"]:
        case "send-to-local" if kind.startswith("tcp"):
            return "refused-EACCES" if out.startswith("vsock") else "delivered"
        case "send-to-egress" if kind.startswith("tcp"):
            return "delivered" if out.startswith("tcp") else "refused-EACCES"
        case "send-to-local" | "send-to-egress":
            return "native"
        case "ingress-to-local" if out.startswith("vsock"):
            return "dropped"
    return "circulates" if case.params["layout"] == "peer" else "delivered"


def observe_5_10(case: Case) -> str:
    """Return the outcome on 5.10."""
    kind, out, mode = case.params["in"], case.params["out"], case.params["mode"]
    if any(each.startswith(("unix", "vsock")) for each in (kind, out)):
        return "not-inserted-EOPNOTSUPP"
    if kind.startswith("udp"):
        return "native"
    if out.startswith("tcp"):
        return "delivered"
    return "refused-EACCES" if mode.startswith("send") else "dropped"


def judged(kernel: KernelEvent, case: Case, observed: str, **more: Any) -> CaseEvent:
    """Make the event of a case that passed, unless `more` says otherwise."""
    event = CaseEvent(
        kernel=kernel.slug,
        group=case.group,
        name=case.name,
        id=case.id,
        nodeid=f"conformance/cases/test_redirect.py::test_redirect[{kernel.slug}-{case.name}]",
        params=case.params,
        verdict=Verdict.PASS,
        expected=observed,
        observed=observed,
        reason="since 6.4 every pair is allowed (commit 1234567890ab, 6.4)",
        seconds=0.017,
        repeat=f"./conform run --kernel {kernel.spec} --case {case.id}",
    )
    return replace(event, **more)


def passing(kernel: KernelEvent, observe: Observe) -> list[CaseEvent]:
    """Make the events of a kernel on which every redirect case of LAYOUTS passes."""
    asked = (case for case in redirect_cases() if case.params["layout"] in LAYOUTS)
    return [judged(kernel, case, observe(case)) for case in asked]


def finished(*parts: tuple[KernelEvent, list[CaseEvent]], code: int = 0) -> Run:
    """Gather a run that ended by itself."""
    run = Run(replace(START, selected={kernel.slug: len(cases) for kernel, cases in parts}))
    for kernel, cases in parts:
        run.add(kernel)
        for case in cases:
            run.add(case)
    run.add(FinishEvent(exit_code=code, seconds=14.2))
    return run


def planned_for(run: Run) -> dict[str, frozenset[str]]:
    """Return the ids of a run's cases, by kernel."""
    return {slug: frozenset(case.id for case in cases) for slug, cases in run.cases.items()}


def healthy() -> Run:
    """6.12 as it is: four collapsed grids."""
    return finished((KERNEL_6_12, passing(KERNEL_6_12, observe_6_12)))


def old() -> Run:
    """5.10 as it is: neither UNIX nor VSOCK can be inserted."""
    return finished((KERNEL_5_10, passing(KERNEL_5_10, observe_5_10)))


def families_differ() -> Run:
    """6.12 that loses all data received over TCP and IPv6, in one mode."""
    lost: dict[str, Any] = {"verdict": Verdict.FAIL, "observed": "dropped"}
    cases = [
        replace(case, **lost) if (case.params["mode"], case.params["in"]) == ("ingress-to-egress", "tcp6") else case
        for case in passing(KERNEL_6_12, observe_6_12)
    ]
    return finished((KERNEL_6_12, cases), code=1)


SICK: dict[str, dict[str, Any]] = {
    "sockmap-ingress-to-egress-tcp4-unix_stream": {
        "verdict": Verdict.FAIL,
        "observed": "other",
        "differences": (
            "burst: wanted 16 messages on out_peer in order, got 15: message 3 is missing",
            "burst: wanted nothing on in_peer, got 1 message of 512 bytes (message 3)",
        ),
    },
    "sockhash-ingress-to-local-vsock_seqpacket-vsock_seqpacket": {
        "verdict": Verdict.HANG,
        "expected": "a healthy kernel",
        "observed": "hang",
        "reason": "every case leaves the kernel healthy",
        "differences": ("the case did not end by its deadline",),
    },
    "sockmap-send-to-local-tcp4-udp4": {
        "verdict": Verdict.SPLAT,
        "expected": "a healthy kernel",
        "observed": "splat",
        "reason": "every case leaves the kernel healthy",
        "differences": ("the kernel logged: WARNING: at net/core/skmsg.c sk_psock_backlog",),
        "log": tuple(
            {"sequence": 700 + each, "level": 4, "microseconds": 9000 + each, "text": text}
            for each, text in enumerate(
                ["------------[ cut here ]------------"]
                + ["WARNING: CPU: 0 PID: 99 at net/core/skmsg.c:690 sk_psock_backlog+0x2bd/0x340 with a long tail"]
                + [f" ? frame_{number}+0x1/0x2" for number in range(12)]
            )
        ),
    },
    "sockmap-send-to-local-tcp6-udp6": {
        "verdict": Verdict.XFAIL,
        "observed": "dropped",
        "reason": "known since 6.9",
    },
}
"""The failures of a made-up 6.12, by the name of the case."""


def sick() -> Run:
    """6.12 with a failure, a hang, a splat, a known defect and a skipped kind; and a 5.10 that does not boot."""
    cases = []
    skip: dict[str, Any] = {"verdict": Verdict.SKIP, "observed": "skip", "reason": "CONFIG_UNIX is not set"}
    for case in passing(KERNEL_6_12, observe_6_12):
        change = skip if case.params["in"] == "unix_dgram" else SICK.get(case.name, {})
        cases.append(replace(case, **change))
    error, hint = "debian:5.10 did not boot: no message within 60 s", "look at its console: ./conform run --machine vng"
    dead = replace(KERNEL_5_10, machine="", error=error, hint=hint)
    return finished((KERNEL_6_12, cases), (dead, []), code=1)


def planted() -> Run:
    """Return what a real run of debian:5.10 and debian:6.12 logged, with faults planted in the scenarios.

    On 6.12: data sent elsewhere, once only in a clone that had seen other cases (flaky); a warning; a panic; a scenario
    that raises; a row about a defect that does not show. On both: a warning that a list of known splats knows. Not
    planted are two known defects, and a kind of socket that no guest has.
    """
    return read(GOLDEN / "planted.jsonl")


RUNS: dict[str, Callable[[], Run]] = {
    "healthy": healthy,
    "old": old,
    "families_differ": families_differ,
    "sick": sick,
    "planted": planted,
}

if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name, make in RUNS.items():
        (GOLDEN / f"{name}.txt").write_text(FORMATS["text"].render(make()), encoding="utf-8")
    for name in sorted(FORMATS.keys() - {"text", "html"}):
        (GOLDEN / f"planted.{name}").write_text(FORMATS[name].render(planted()), encoding="utf-8")
