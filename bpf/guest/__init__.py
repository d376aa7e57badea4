# SPDX-License-Identifier: GPL-2.0-only
"""bpf(2) through ctypes. It runs in the guest, so it uses only the standard library."""
