# SPDX-License-Identifier: GPL-2.0-only
"""Kernel specs resolved to artifacts: image, modules, configuration, provenance. Knows nothing of QEMU."""
