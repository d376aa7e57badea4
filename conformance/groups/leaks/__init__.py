# SPDX-License-Identifier: GPL-2.0-only
"""The leak cases, their guest code, and their expectations."""
