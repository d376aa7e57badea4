# SPDX-License-Identifier: GPL-2.0-only
"""Run the agent where it is not init: on the host in fresh namespaces, or in a stock virtme-ng guest."""

from __future__ import annotations

import sys

from vm.guest import agent, setup


def main(arguments: list[str]) -> None:
    """Serve on the descriptor given as the only argument, or on the control port."""
    setup.raise_loopback()
    setup.raise_limits()
    agent.main(int(arguments[0]) if arguments else None)


if __name__ == "__main__":
    main(sys.argv[1:])
