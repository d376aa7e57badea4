# SPDX-License-Identifier: GPL-2.0-only
"""The update-from-BPF cases, their guest code, and their expectations."""
