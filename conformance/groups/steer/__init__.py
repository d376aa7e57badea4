# SPDX-License-Identifier: GPL-2.0-only
"""The steering cases, their guest code, and their expectations."""
