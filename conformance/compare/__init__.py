# SPDX-License-Identifier: GPL-2.0-only
"""Two kernels side by side: what differs between what they show, and whether that is worse, better or neither."""
