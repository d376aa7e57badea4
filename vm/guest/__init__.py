# SPDX-License-Identifier: GPL-2.0-only
"""The agent that runs in the guest; it uses only the standard library."""
