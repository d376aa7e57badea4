# SPDX-License-Identifier: GPL-2.0-only
"""The stress cases, their guest code, and their expectations."""
