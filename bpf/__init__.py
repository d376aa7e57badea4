# SPDX-License-Identifier: GPL-2.0-only
"""BPF programs in C, their build, and the guest-side loader."""
