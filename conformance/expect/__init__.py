# SPDX-License-Identifier: GPL-2.0-only
"""The support matrix as data, and the judge."""
