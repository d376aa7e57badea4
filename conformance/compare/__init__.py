# SPDX-License-Identifier: GPL-2.0-only
"""Compare two kernels: which cases differ, and whether head is better, worse or neither."""
