# SPDX-License-Identifier: GPL-2.0-only
"""The attachment cases, their guest code, and their expectations."""
