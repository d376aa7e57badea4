# SPDX-License-Identifier: GPL-2.0-only
"""The survival cases, their guest code, and their expectations."""
