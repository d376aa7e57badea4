# SPDX-License-Identifier: GPL-2.0-only
"""A run: pytest's plugin, the controller, machines, retries, artifacts."""
