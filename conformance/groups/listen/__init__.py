# SPDX-License-Identifier: GPL-2.0-only
"""The cases about listening sockets: their guest code and their expectations."""
