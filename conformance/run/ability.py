# SPDX-License-Identifier: GPL-2.0-only
"""Sockets that a guest cannot create although the configuration has them: a module is missing or refused.

A kernel whose vsock.ko has another vermagic has no fault in SOCKMAP. So a failed case is a skip if the guest
cannot create one of its sockets, and the reason names the module. The guest is asked only then: a sound kernel would
pay for it with each clone, and what it logs while its first socket is created belongs to the case.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any, Final

import kernels.modules
from conformance.guestlib.able import FEATURES, SYMBOLS
from conformance.judge.needs import needs_of
from conformance.model import Case
from kernels.kernel import Kernel
from vm.machine import CallStatus, Reply

PROBE: Final = "conformance.guestlib.able:lacking"

_MODULES: Final[Mapping[str, str]] = {
    "IPV6": "ipv6",
    "UNIX": "unix",
    "VSOCKETS": "vsock",
    "VSOCKETS_LOOPBACK": "vsock_loopback",
    "PACKET": "af_packet",
    "IP_SCTP": "sctp",
    "AF_KCM": "kcm",
    "SMC": "smc",
    "TIPC": "tipc",
    "TLS": "tls",
}
"""The module of a symbol that is `m`."""

_LONGEST: Final = 100
"""Characters of an error's name at most."""

Ask = Callable[[str, Mapping[str, Any]], Reply]


class Abilities:
    """The sockets that the guest of one kernel can create; asked after a case failed, once for each symbol."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        """Why a socket cannot be created, by CONFIG symbol; empty if it can."""

    def lacking(self, kernel: Kernel, case: Case, ask: Ask) -> Mapping[str, str]:
        """Return the symbols that the case needs and the guest does not support, each with the reason.

        `ask` calls a function in the guest. ConformError where there is no guest.
        """
        wanted = _wanted(case, SYMBOLS if kernel.config else SYMBOLS + FEATURES)
        unknown = [symbol for symbol in dict.fromkeys(wanted) if symbol not in self._known]
        if unknown:
            reply = ask(PROBE, {"symbols": unknown, "modules": not kernel.is_host})
            # A guest that does not answer: its cases will find out why.
            value = reply.value if reply.status is CallStatus.ANSWERED and isinstance(reply.value, dict) else {}
            lacking, refused = (_texts(value.get(name)) for name in ("lacking", "refused"))
            for symbol in unknown:
                self._known[symbol] = _why(kernel, symbol, lacking[symbol], refused) if symbol in lacking else ""
        return self.known(case)

    def known(self, case: Case) -> Mapping[str, str]:
        """Return the same, from earlier answers of the guest only."""
        return {symbol: why for symbol in _wanted(case, SYMBOLS + FEATURES) if (why := self._known.get(symbol))}


def _wanted(case: Case, symbols: Container[str]) -> list[str]:
    return [need.symbol for need in needs_of(case) if need.symbol in symbols]


def _why(kernel: Kernel, symbol: str, error: str, refused: Mapping[str, str]) -> str:
    """Say why a socket cannot be created; names the module if there should be one."""
    if symbol in FEATURES:
        return f"the guest's kernel seems to be built without CONFIG_{symbol}: {error}"
    module = _MODULES.get(symbol, "")
    if module in refused:
        return f"the guest's kernel refuses its module {module}: {refused[module]}"
    if not module or kernel.config.get(symbol, "m") != "m" or kernel.is_host:
        return f"the guest cannot make a socket of CONFIG_{symbol}: {error}"
    if kernel.modules is None:
        return f"the kernel came without modules, so its module {module} is missing"
    if module not in kernels.modules.names(kernel.modules, kernel.release):
        return f"the kernel's module {module} is missing"
    return f"the kernel's module {module} is not loaded: {error}"


def _texts(value: object) -> dict[str, str]:
    """Return the entries whose value is text; nothing from a guest is trusted."""
    return {str(name): str(each)[:_LONGEST] for name, each in value.items()} if isinstance(value, dict) else {}
