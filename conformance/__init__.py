# SPDX-License-Identifier: GPL-2.0-only
"""The conformance suite for SOCKMAP and SOCKHASH."""

__version__ = "0.1.0"
