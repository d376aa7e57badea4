# SPDX-License-Identifier: GPL-2.0-only
"""This host: what a run needs, how it is installed, and what is missing. Standard library only."""
