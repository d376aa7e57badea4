# SPDX-License-Identifier: GPL-2.0-only
"""The script of the web page, in a real browser."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable

import pytest

from conformance.report import html
from conformance.report.html import render
from tests.conformance import report_runs

Browse = Callable[[str, str], str]


@pytest.fixture
def browse(tmp_path_factory: pytest.TempPathFactory) -> Browse:
    """Return what a real browser makes of a page at an anchor."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium is not installed")
    folder = tmp_path_factory.mktemp("c")  # short, for the browser makes a socket in it, whose path has 107 characters
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}", "--dump-dom"]
    here = os.environ | {"TMPDIR": str(folder)}

    def show(page: str, anchor: str) -> str:
        file = folder / "report.html"
        file.write_text(page, encoding="utf-8")
        where = f"{file.as_uri()}#{anchor}"
        return subprocess.run(
            [*command, where], check=True, capture_output=True, text=True, timeout=60, env=here
        ).stdout

    return show


def test_the_script_runs_under_the_policy(browse: Browse) -> None:
    """In a real browser the page's own policy lets its script run, which adds the search."""
    page = render(report_runs.finished())
    assert 'placeholder="Find a case"' not in page
    assert 'placeholder="Find a case"' in browse(page, "")


def test_the_script_tells_reasons_in_place(browse: Browse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the drawer of a cell is opened, its reason is there, though the page has it once for all cells."""
    monkeypatch.setattr(html, "_WORDS", -1)
    page = render(report_runs.healthy())
    (cell,) = re.findall('<div id="(cell-[^"]*)"', page)[:1]
    assert (page.count("every pair is allowed"), browse(page, cell).count("every pair is allowed")) == (1, 2)
