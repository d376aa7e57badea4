# SPDX-License-Identifier: GPL-2.0-only
"""Reports of the kernel in its log: find, classify, title and fingerprint them. Pure functions."""

from conformance.judge.klog.report import TRUNCATED, Report
from conformance.judge.klog.scan import Scanner, find_reports, find_splat, is_header
from conformance.judge.klog.taint import alarming, meaning

__all__ = ["TRUNCATED", "Report", "Scanner", "alarming", "find_reports", "find_splat", "is_header", "meaning"]
