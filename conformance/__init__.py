# SPDX-License-Identifier: GPL-2.0-only
"""The cases: what a SOCKMAP kernel must do."""

__version__ = "0.1.0"
