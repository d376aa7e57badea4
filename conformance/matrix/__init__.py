# SPDX-License-Identifier: GPL-2.0-only
"""Many kernels at once, night after night: what to judge, in which order, and what it has come to over time."""
