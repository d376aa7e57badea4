# SPDX-License-Identifier: GPL-2.0-only
"""The guest's side of the cases about programs that change messages and packets."""
