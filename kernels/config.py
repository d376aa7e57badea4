# SPDX-License-Identifier: GPL-2.0-only
"""Kernel configurations: read them, and say what is missing."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from common.errors import KernelError
from kernels import unpack
from kernels.kernel import Kernel
from kernels.modules import names
from kernels.vmlinux import CONFIG_LIMIT

_SET = re.compile(r"^CONFIG_(\w+)=(.*)$", re.MULTILINE)


def parse(text: str) -> dict[str, str]:
    """Read the text of a .config: `{"BPF_SYSCALL": "y"}`, strings without their quotes, unset symbols absent."""
    return {symbol: value.strip('"') for symbol, value in _SET.findall(text)}


def read(path: Path) -> dict[str, str]:
    """Read a .config, plain or gzipped; KernelError if the file is not a configuration."""
    with path.open("rb") as file:
        data = file.read(CONFIG_LIMIT + 1)
    if len(data) > CONFIG_LIMIT:
        raise KernelError(f"the configuration {path} is larger than {CONFIG_LIMIT >> 20} MiB", hint="give a .config")
    try:
        text = unpack.whole(data, CONFIG_LIMIT) if data[:2] == b"\x1f\x8b" else data
    except unpack.TooLargeError as error:
        raise KernelError(f"the configuration {path} is {error}", hint="give a .config") from error
    except unpack.CorruptError as error:
        raise KernelError(f"the configuration {path} is damaged: {error}", hint="copy it again") from error
    return parse(text.decode("utf-8", "replace"))


def missing(config: Mapping[str, str], symbols: Iterable[str]) -> list[str]:
    """Return those of `symbols` that are neither built in nor a module, in their order."""
    return [symbol for symbol in symbols if config.get(symbol) not in ("y", "m")]


def check_bootable(kernel: Kernel) -> None:
    """Raise KernelError naming every missing symbol and module that all cases need.

    A kernel whose configuration is unknown passes: the boot will tell.
    """
    if not kernel.config:
        return
    needs = _needs()
    lacking = [f"CONFIG_{symbol}" for symbol in missing(kernel.config, needs["judge"])]
    if not kernel.is_host:
        lacking += [f"CONFIG_{symbol}" for symbol in missing(kernel.config, needs["boot"])]
        have = names(kernel.modules, kernel.release) if kernel.modules else frozenset()
        lacking += [
            f"{module}.ko (CONFIG_{symbol}=m)"
            for symbol, module in needs["module"].items()
            if kernel.config.get(symbol) == "m" and module not in have
        ]
    if lacking:
        raise KernelError(
            f"{kernel.spec} ({kernel.release}) lacks {', '.join(lacking)}, without which no case can be judged",
            hint="enable them and build again (in a kernel tree, `vng --kconfig` makes a configuration that fits)",
        )


@cache
def _needs() -> Mapping[str, Mapping[str, str]]:
    return tomllib.loads(Path(__file__).with_name("needs.toml").read_text())
