# SPDX-License-Identifier: GPL-2.0-only
"""The redirect cases, their guest code, and their expectations."""
