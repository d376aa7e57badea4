# SPDX-License-Identifier: GPL-2.0-only
"""What guest code of several groups shares."""
