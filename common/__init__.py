# SPDX-License-Identifier: GPL-2.0-only
"""What every package may use: the error hierarchy and the content-addressed cache."""
