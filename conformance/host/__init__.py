# SPDX-License-Identifier: GPL-2.0-only
"""This machine: what a run needs of it, how that gets there, what is wrong with it. Standard library only."""
