# SPDX-License-Identifier: GPL-2.0-only
"""The attachment cases: what is asked, how, and what is expected."""
