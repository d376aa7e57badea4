# SPDX-License-Identifier: GPL-2.0-only
"""`python -m conformance`: the `conform` command once everything it needs is installed."""

from __future__ import annotations

import sys

from conformance.cli import main

if __name__ == "__main__":
    sys.exit(main())
