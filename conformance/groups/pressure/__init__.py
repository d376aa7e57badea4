# SPDX-License-Identifier: GPL-2.0-only
"""The pressure cases, their guest code, and their expectations."""
