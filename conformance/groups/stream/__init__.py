# SPDX-License-Identifier: GPL-2.0-only
"""The stream cases, their guest code, and their expectations."""
