# SPDX-License-Identifier: GPL-2.0-only
"""The guest side of the cases: standard library only, and no opinion."""
