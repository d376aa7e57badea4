# SPDX-License-Identifier: GPL-2.0-only
"""The cases as parametrised pytest tests."""
