# SPDX-License-Identifier: GPL-2.0-only
"""A Kernel turned into a Machine. Knows QEMU and virtme-ng; knows nothing of pytest or sockets."""
