# SPDX-License-Identifier: GPL-2.0-only
"""The insertion cases: what is asked, how, and what is expected."""
