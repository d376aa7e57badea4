# SPDX-License-Identifier: GPL-2.0-only
"""The commands of `conform`, one per file."""
