# SPDX-License-Identifier: GPL-2.0-only
"""Workers on other machines, which pytest-xdist reaches over ssh: their kernels, and the loss of a worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from common import cache
from common.errors import HostError
from kernels.kernel import Kernel
from kernels.resolve import resolve


def here() -> tuple[str, str]:
    """Name this machine and its cache: a worker with the same name finds our kernels and templates."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip(), str(cache.root())


def resolve_here(kernels: Mapping[str, Kernel]) -> dict[str, Kernel]:
    """Resolve the controller's kernels on this machine; HostError if a spec names another build here."""
    found = {}
    for slug, kernel in kernels.items():
        mine = resolve(kernel.spec)
        if mine.digest != kernel.digest:
            raise HostError(
                f"{kernel.spec} is {mine.release} ({mine.digest[:12]}) here, but {kernel.release}"
                f" ({kernel.digest[:12]}) on the machine that started the run",
                hint="refresh both with ./conform kernels fetch, or name the exact version",
            )
        found[slug] = mine
    return found


def outlive_lost_machines(session: Any, note: Callable[[str], None]) -> None:
    """Let xdist's session continue without a worker that cannot be restarted.

    xdist replaces a worker that died; if its whole machine is gone that fails, and would end the whole session.
    """
    replace = session._clone_node  # noqa: SLF001 - xdist has no other seam for it

    def replaced(node: Any) -> Any:
        try:
            return replace(node)
        except Exception as error:
            note(f"lost a machine; the others continue: {node.gateway.spec}: {type(error).__name__}")
            return None

    session._clone_node = replaced  # noqa: SLF001
