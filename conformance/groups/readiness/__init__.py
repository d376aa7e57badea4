# SPDX-License-Identifier: GPL-2.0-only
"""The cases about poll(2), FIONREAD and recv(2): their guest code and their expectations."""
