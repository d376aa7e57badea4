# SPDX-License-Identifier: GPL-2.0-only
"""The steering cases: what is asked, how, and what is expected."""
