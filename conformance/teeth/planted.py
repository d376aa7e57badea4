# SPDX-License-Identifier: GPL-2.0-only
"""A plugin of pytest: a run whose kernels have one fault of faults.patch, chosen in each clone after it has started.

    SOCKMAP_FAULT=17 ./conform run --kernel SPEC ... -- -p conformance.teeth.planted

pytest's workers load the plugin, too, and so choose the same fault. A fault that is chosen on the kernel's command line
needs a boot of its own, which takes longer than it takes to find most faults. Here all faults share the template of the
kernel without any, and the warm-up of the template never meets a fault.
"""

from __future__ import annotations

import os
from typing import Final

from common.errors import KernelError
from conformance.guestlib.kernel_fault import choose
from conformance.run import machine_pool
from vm.machine import CallStatus, Machine

VARIABLE: Final = "SOCKMAP_FAULT"
_CHOOSE: Final = f"{choose.__module__}:{choose.__name__}"
_DEADLINE: Final = 1.0


def plant(number: str) -> None:
    """Have every machine that this process starts from now on choose a fault before it is asked anything."""

    def ask(machine: Machine) -> None:
        reply = machine.call(_CHOOSE, {"number": number}, deadline=_DEADLINE)
        if reply.status is not CallStatus.ANSWERED or reply.value != number:
            raise KernelError(
                f"the kernel does not take fault {number}: {reply.error or reply.value!r}",
                hint="does it have the patch conformance/teeth/faults.patch?",
            )

    machine_pool.plant(ask)


if VARIABLE in os.environ:
    plant(os.environ[VARIABLE])
