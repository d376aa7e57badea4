# SPDX-License-Identifier: GPL-2.0-only
"""bpf(2) through ctypes: runs in the guest, standard library only."""
