# SPDX-License-Identifier: GPL-2.0-only
"""The ancillary cases, their guest code, and their expectations."""
