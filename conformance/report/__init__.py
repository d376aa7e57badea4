# SPDX-License-Identifier: GPL-2.0-only
"""Reports: pure functions of the event log."""
