# SPDX-License-Identifier: GPL-2.0-only
"""Tests of the suite itself; those marked vm boot kernels."""
