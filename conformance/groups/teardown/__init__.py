# SPDX-License-Identifier: GPL-2.0-only
"""The teardown cases, their guest code, and their expectations."""
