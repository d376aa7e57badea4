# SPDX-License-Identifier: GPL-2.0-only
"""The command line: the arguments of every command, their defaults from files, and the manual made from them."""
