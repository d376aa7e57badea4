# SPDX-License-Identifier: GPL-2.0-only
"""The cases about full buffers, closed targets and full maps: their guest code and their expectations."""
