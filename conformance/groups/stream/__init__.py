# SPDX-License-Identifier: GPL-2.0-only
"""The cases about the order, completeness and end of streams: their guest code and their expectations."""
