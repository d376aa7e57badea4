# SPDX-License-Identifier: GPL-2.0-only
"""The guest's side of the cases about programs that change what is sent or received."""
