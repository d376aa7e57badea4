# SPDX-License-Identifier: GPL-2.0-only
"""The readiness cases, their guest code, and their expectations."""
