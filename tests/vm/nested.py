# SPDX-License-Identifier: GPL-2.0-only
"""Run by test_nested_kvm.py inside of a guest with a working /dev/kvm; prints one JSON object.

`python -m tests.vm.nested RESULTS KERNEL...` makes a template and two clones of each kernel under KVM. It asks
the clones for their clock and for random bytes, and runs about ten cases with `conform run`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from kernels.resolve import resolve
from vm.launch import Plan, open_machine, prepare
from vm.machine import MachineOptions
from vm.template import Template

CASES: Final = "redirect/sockmap-ingress-to-egress-tcp4-*"
CODE: Final = """
import os, time

def ask(arguments):
    return {"time": time.time(), "random": os.urandom(16).hex()}
"""


def asked(spec: str, results: str) -> dict[str, Any]:
    """Return the answers of two clones of a kernel, facts about their template, and the verdicts of some cases.

    The cases come first: a clone whose clock was not set then shows a time that is long past.
    """
    kernel = resolve(spec)
    options = MachineOptions(accelerator="kvm", preload=("vsock_loopback",))
    bundle = {"nested_question": CODE}
    info = prepare(kernel, options, bundle, lambda machine: None)
    saved = time.time()
    run = judge(spec, results)
    answers = []
    for _ in range(2):
        opened = time.time()
        machine = open_machine(kernel, options, bundle=bundle)
        try:
            reply = machine.call("nested_question:ask", {}, deadline=10.0)
            answers.append({"value": reply.value, "opened": opened, "after": time.time(), "status": reply.status})
            template = Template.read(Path(machine.info.template))
        finally:
            machine.close()
    plans = {name: Plan(kernel, MachineOptions(accelerator=name), print) for name in ("kvm", "tcg")}
    clones = {
        "accelerator": info.accelerator,
        "why": info.why,
        "factor": info.factor,
        "boot_seconds": info.boot_seconds,
        "saved": saved,
        "answers": answers,
        "state_bytes": template.state.stat().st_size,
        "keys": {name: plan.key for name, plan in plans.items()},
    }
    return {"clones": clones, "run": run}


def judge(spec: str, results: str) -> dict[str, Any]:
    """Return the exit code and output of a run of some cases."""
    # fmt: off
    command = [
        sys.executable, "-P", "-m", "conformance", "run",
        "--kernel", spec,
        "--accel", "kvm",
        "--case", CASES,
        "-n", "1",
        "--results", results,
    ]
    # fmt: on
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return {"code": done.returncode, "tail": (done.stdout + done.stderr)[-2000:]}


if __name__ == "__main__":
    folder, *specs = sys.argv[1:]
    print(json.dumps({spec: asked(spec, f"{folder}/{number}") for number, spec in enumerate(specs)}))
