# SPDX-License-Identifier: GPL-2.0-only
"""The insertion cases, their guest code, and their expectations."""
