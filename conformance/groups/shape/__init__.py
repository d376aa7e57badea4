# SPDX-License-Identifier: GPL-2.0-only
"""The cases about programs that change what is sent or received, their guest code, and their expectations."""
