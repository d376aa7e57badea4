# SPDX-License-Identifier: GPL-2.0-only
"""The enrolment cases, their guest code, and their expectations."""
