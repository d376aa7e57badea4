# SPDX-License-Identifier: GPL-2.0-only
"""The listener cases, their guest code, and their expectations."""
