# SPDX-License-Identifier: GPL-2.0-only
"""From a machine's reply to a verdict."""
