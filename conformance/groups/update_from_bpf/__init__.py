# SPDX-License-Identifier: GPL-2.0-only
"""The update-from-BPF cases: what is asked, how, and what is expected."""
