# SPDX-License-Identifier: GPL-2.0-only
"""The cases with kernel TLS, their guest code, and their expectations."""
