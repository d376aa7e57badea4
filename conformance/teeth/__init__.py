# SPDX-License-Identifier: GPL-2.0-only
"""Faults put into a kernel to see which the suite finds."""
