# SPDX-License-Identifier: GPL-2.0-only
"""Every kernel of a conform.toml, for nightly runs."""
