# SPDX-License-Identifier: GPL-2.0-only
"""The script of the web page, in a real browser."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace

import pytest

from conformance.report import html
from conformance.report.html import render
from tests.conformance import report_runs

Browse = Callable[[str, str], str]


@pytest.fixture
def browse(tmp_path_factory: pytest.TempPathFactory) -> Browse:
    """Return the page that a real browser renders at an anchor."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium is not installed")
    folder = tmp_path_factory.mktemp(
        "c"
    )  # short, because the browser creates a socket in it, whose path is limited to 107 characters
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


def test_the_script_shows_reasons_in_place(browse: Browse, monkeypatch: pytest.MonkeyPatch) -> None:
    """An opened cell shows its reason, though the page has each reason only once."""
    monkeypatch.setattr(html, "_WORDS", -1)
    page = render(report_runs.healthy())
    (cell,) = re.findall('<div id="(cell-[^"]*)"', page)[:1]
    assert (page.count("every pair is allowed"), browse(page, cell).count("every pair is allowed")) == (1, 2)


@pytest.fixture
def doing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Run a script in pages once they are loaded, like a reader's actions."""
    plain = html._file

    def do(what: str) -> None:
        monkeypatch.setattr(html, "_file", lambda name: plain(name) + (what if name.endswith(".js") else ""))

    return do


ENTER = 'search.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" }));'


def test_the_search_says_what_it_found_and_leads_there(browse: Browse, doing: Callable[[str], None]) -> None:
    """The number of hits is shown, rows without a hit are hidden, and Enter opens and marks the first hit."""
    run = report_runs.healthy()
    names = ("teardown/delete-sockmap-tcp4-in-none-empty", "teardown/delete-sockhash-udp6-in-none-empty")
    cases = [replace(run.cases["debian-6.12"][0], id=name, group="teardown", name=name[9:]) for name in names]
    cases = [replace(case, params={"a": str(at)}, observed=f"o{at}") for at, case in enumerate(cases)]
    run.cases["debian-6.12"] += cases
    doing('search.value = "SOCKHASH-udp6-in"; search.dispatchEvent(new Event("input"));')
    looked = browse(render(run), "")
    assert re.search(r'<span role="status">1 row, 1 case</span>', looked)
    assert re.search(r'<section aria-labelledby="matrix" hidden', looked)
    doing(f'search.value = "SOCKHASH-udp6-in"; search.dispatchEvent(new Event("input")); {ENTER}')
    led = browse(render(run), "")
    assert re.findall(r'<li id="([^"]*)"[^>]*class="hit"', led) == [names[1]]
    assert '<span role="status">1 of 1 row</span>' in led
    doing('search.value = "nothing like that"; search.dispatchEvent(new Event("input"));')
    assert '<span role="status">no rows</span>' in browse(render(run), "")


def test_the_comparison_is_in_the_address(browse: Browse, doing: Callable[[str], None]) -> None:
    """A comparison has its own link, and the link opens the comparison."""
    page = render(report_runs.planted())
    doing('document.title = [chosen("one"), chosen("two"), $("#varying").checked].join(" ");')
    assert "<title>debian-5.10 debian-6.12 true<" in browse(
        render(report_runs.planted()), "compare=debian-5.10..debian-6.12&varying"
    )
    assert "<title>  false<" in browse(render(report_runs.planted()), "compare=nothing..like-that")
    doing(
        '$("#one-1").click(); $("#two-0").click();'
        'addEventListener("hashchange", () => { document.title = location.hash; });'
    )
    assert "<title>#compare=debian-6.12..debian-5.10<" in browse(render(report_runs.planted()), "")
    assert "compare=" not in page.split("<script>")[0]
