# SPDX-License-Identifier: GPL-2.0-only
"""`python -m conformance`: the `conform` command once everything it needs is installed."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run `conform` with a safe module path, also for the Python processes that it starts."""
    os.environ["PYTHONSAFEPATH"] = "1"
    if os.path.basename(sys.argv[0]) != "__main__.py":
        os.environ["CONFORM_STARTED_AS"] = sys.argv[0]  # the script of an installed package; common.program.VARIABLE
    from conformance import cli

    return cli.main()


if __name__ == "__main__":
    if not sys.flags.safe_path:
        # `python -m` puts the current directory first in sys.path, and that may be an untrusted kernel tree.
        sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.exit(main())
