# SPDX-License-Identifier: GPL-2.0-only
"""The web page: well-formed, self-contained, complete, accessible, deterministic, small, and safe from foreign text."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest

from conformance.groups import cases as catalogue
from conformance.model import Case, KernelFacts, LogEntry, TryEntry, Verdict
from conformance.report import html
from conformance.report.event_types import CaseEvent
from conformance.report.events import Run
from conformance.report.html import evidence, render
from conformance.report.html.behaviour import COMPARED
from conformance.report.html.names import labels
from kernels.version import Version
from tests.conformance import report_runs
from tests.conformance.expectations import expected_event

ELSEWHERE = re.compile(r"https://([a-z0-9-]+\.)*kernel\.org/")
"""Links that a reader may follow; the page loads nothing."""
VOID = {"meta", "link", "input", "br"}
HOSTILE = "</script></style><script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{ 7*7 }}\x00\x1b[2J\u202e\ud800"


class Page(HTMLParser):
    """A parsed page; fails on elements that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        assert len({name for name, _ in attributes}) == len(attributes), f"an attribute twice in {tag}"
        self.tags.append((tag, {name: value or "" for name, value in attributes}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Check that it ends the element opened last."""
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        """Collect what can be read."""
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    def every(self, tag: str) -> list[dict[str, str]]:
        """Return the attributes of each such element."""
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def ids(self) -> list[str]:
        """Return every id."""
        return [attributes["id"] for _, attributes in self.tags if "id" in attributes]

    @property
    def text(self) -> str:
        """Return what can be read."""
        return "".join(self.words)


def many() -> Run:
    """Two kernels and every group; one kernel lacks UNIX and has faults, retries and a known defect."""
    old, new = report_runs.KERNEL_5_10, report_runs.KERNEL_6_12
    cases = report_runs.sick().cases[new.slug]
    others = [case for case in catalogue() if case.group != "redirect"][::5]
    cases += [stepped(case, {"insert": "ok", "lookup": f"answer {at % 90}"}) for at, case in enumerate(others)]
    differences = ("wanted insert to give ok, got EPERM",)
    cases[-1] = replace(cases[-1], verdict=Verdict.FAIL, observed="insert EPERM", differences=differences)
    before = report_runs.passing(old, report_runs.observe_5_10)
    before += [replace(case, kernel=old.slug) for case in cases if case.group != "redirect"][::2]
    return report_runs.finished((old, before), (new, cases), code=1)


def stepped(case: Case, steps: dict[str, str]) -> CaseEvent:
    """Make the event of a case judged step by step."""
    observed = ", ".join(f"{step} {answer}" for step, answer in steps.items())
    return report_runs.judged(report_runs.KERNEL_6_12, case, observed, observation={"steps": steps})


RUNS: dict[str, Callable[[], Run]] = {**report_runs.RUNS, "many": many, "nothing": report_runs.finished}


@cache
def text_of(name: str) -> str:
    """Return the page of a run."""
    return render(RUNS[name]())


@cache
def page_of(name: str) -> Page:
    """Return the page of a run, taken apart."""
    return Page(text_of(name))


@pytest.mark.parametrize("name", RUNS)
def test_the_page_is_sound(name: str) -> None:
    """Every page is well-formed, has each id once, and each link leads to one of them."""
    text, page = text_of(name), page_of(name)
    assert text.startswith("<!DOCTYPE html>\n")
    assert [each for each, count in Counter(page.ids).items() if count > 1] == []
    assert not any(re.search(r"\s", each) for each in page.ids)
    targets = {each["href"].removeprefix("#") for each in page.every("a") if not ELSEWHERE.match(each["href"])}
    assert targets - set(page.ids) <= {"-"}
    named = [attributes[name] for _, attributes in page.tags for name in ("aria-labelledby",) if name in attributes]
    assert set(named) <= set(page.ids)


@pytest.mark.parametrize("name", RUNS)
def test_the_page_loads_nothing(name: str) -> None:
    """No attribute and no style sheet refers to anything outside of the page, and its policy forbids that."""
    text, page = text_of(name), page_of(name)
    loading = {"src", "srcset", "action", "data", "poster", "background", "ping", "formaction"}
    for tag, attributes in page.tags:
        assert not attributes.keys() & loading, tag
        assert not any("://" in each for name, each in attributes.items() if (tag, name) != ("a", "href"))
        href = attributes.get("href", "#")
        assert href.startswith(("#", "data:,")) or (tag == "a" and ELSEWHERE.match(href))
        assert not any(each.startswith("on") or each == "style" for each in attributes)
    assert not re.search(r"url\(|@import|//", text[text.index("<style>") : text.index("</style>")].replace("*/\n", ""))
    policy = page.every("meta")[1]["content"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


@pytest.mark.parametrize("name", RUNS)
def test_the_page_speaks(name: str) -> None:
    """A screen reader finds a language, landmarks, headings in order, captions, header cells with scope, and names."""
    page = page_of(name)
    names = [tag for tag, _ in page.tags]
    assert page.every("html") == [{"lang": "en"}]
    assert [names.count(each) for each in ("header", "main", "footer", "h1")] == [1, 1, 1, 1]
    assert all(attributes.get("aria-label") for attributes in page.every("nav"))
    levels = [int(tag[1]) for tag in names if re.fullmatch(r"h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert names.count("table") == names.count("caption")
    assert all(attributes.get("scope") for attributes in page.every("th"))
    assert all("aria-label" in attributes for attributes in page.every("a") if "cell-" in attributes["href"])
    assert all(
        "aria-label" in each or "aria-labelledby" in each for _, each in page.tags if each.get("role") == "region"
    )


def test_every_case_has_an_anchor() -> None:
    """Each case has its id as anchor, and `id@kernel` where its evidence is shown."""
    run, ids = many(), set(page_of("many").ids)
    assert {case.id for each in run.cases.values() for case in each} <= ids
    assert {f"{case.id}@{case.kernel}" for case in run.unexpected()} <= ids


def test_an_unexpected_case_is_shown_in_full() -> None:
    """The page has its expectation, observation, reason, differences, log, tries and command."""
    run, page = report_runs.sick(), page_of("sick").text
    for case in run.unexpected():
        for words in (case.expected, case.reason, *case.differences, case.repeat, *(line["text"] for line in case.log)):
            assert str(words) in page, words
    assert "debian:5.10 did not boot: no message within 60 s" in page
    assert "CONFIG_UNIX is not set" in page


def test_one_failure_among_many_is_seen() -> None:
    """A cell that stands for several cases shows the one of them that failed, and says how many did."""
    run = report_runs.healthy()
    cases = run.cases["debian-6.12"]
    at = next(at for at, case in enumerate(cases) if case.name == "sockhash-ingress-to-egress-tcp6-unix_stream")
    cases[at] = replace(cases[at], verdict=Verdict.FAIL, observed="dropped")
    page = Page(render(run))
    bad = [attributes["aria-label"] for attributes in page.every("a") if attributes.get("class") == "bad"]
    assert bad == ["UNEXPECTED in 1 of 4: dropped silently"]


def test_kernels_can_be_compared() -> None:
    """Cases that differ between two kernels are marked for the pair, which has a style rule and a count."""
    text, page = text_of("many"), page_of("many")
    run = many()
    old, new = ({case.id: case for case in cases} for cases in run.cases.values())
    differ = [
        case.id
        for case in new.values()
        if case.id not in old or (case.verdict, case.observed) != (old[case.id].verdict, old[case.id].observed)
    ]
    assert f"{len(differ)} cases differ between debian:5.10 and debian:6.12." in page.text
    assert "body:has(#one-0:checked):has(#two-1:checked) :is(.b:not([data-d~=ab])" in text
    marked = {attributes.get("data-d", "") for tag, attributes in page.tags if attributes.get("class") in ("b", "s")}
    assert marked == {"", "ab"}
    rows = re.findall(r'<tbody class="b"( data-d="ab")?>(.*?)</tbody>', text, re.DOTALL)
    for mark, row in rows:
        assert all((each in differ) == bool(mark) for each in re.findall(r'<li id="([^"]*)"', row))


def test_kernels_of_one_spec_have_different_names() -> None:
    """Kernels of one spec have different names, and differences of kernels beyond the comparison are marked, too."""
    kernels = [replace(report_runs.KERNEL_6_12, slug=f"debian-6.12.{number}") for number in range(COMPARED + 1)]
    run = report_runs.finished(
        *((kernel, report_runs.passing(kernel, report_runs.observe_6_12)[:8]) for kernel in kernels)
    )
    last = run.cases[kernels[-1].slug]
    last[0] = replace(last[0], verdict=Verdict.FAIL, observed="dropped")
    page = Page(render(run))
    assert [each["id"] for each in page.every("input") if each.get("name") == "two" and "id" in each] == [
        f"two-{number}" for number in range(COMPARED)
    ]
    assert [each["data-d"] for each in page.every("td") if "data-d" in each] == ["-"] * (1 + len(kernels))
    assert all(f"debian:6.12 (debian-6.12.{number})" in page.text for number in range(len(kernels)))


def test_tries_and_defects_are_shown() -> None:
    """A flaky case shows its tries, the log of each once, and a known defect is counted by kernel."""
    run = report_runs.healthy()
    cases = run.cases["debian-6.12"]
    said: LogEntry = {"microseconds": 2000000, "text": "said on the first try"}
    again: LogEntry = {"text": "said on the second"}
    tries: tuple[TryEntry, ...] = (
        {"verdict": Verdict.PASS, "observed": "delivered", "times": 3, "fresh": False, "log": (said,)},
        {"verdict": Verdict.FAIL, "observed": "dropped", "times": 1, "fresh": True, "log": (again,)},
    )
    cases[0] = replace(cases[0], verdict=Verdict.FAIL, observed="dropped", flaky=True, tries=tries, log=(said,))
    cases[1] = replace(cases[1], verdict=Verdict.XFAIL, deviation="too-early", reason="it comes too early")
    cases[2] = replace(cases[2], log=(said,))
    page = Page(render(run))
    assert "pass: delivered, 3 times" in page.text
    assert "fail: dropped, in a fresh clone" in page.text
    assert page.text.count("said on the first try") == page.text.count("said on the second") == 1
    assert "[    2.000000] said on the first try" in page.text
    assert f"kernel log: the same as in {cases[0].id} on debian:6.12" in page.text
    assert "too-earlyit comes too early" + cases[1].id + "1" in page.text


def test_labels_fold_what_belongs_together() -> None:
    """A folded line stands for all combinations of the values that it names, and for no other."""
    every = {"map": ["sockmap", "sockhash"], "kind": ["tcp4", "tcp6", "udp4"], "state": ["a", "b", "c", "d", "e"]}
    product = [dict(zip(every, values, strict=True)) for values in itertools.product(*every.values())]
    words = [[part.words for part in line] for line in labels(product, every)]
    assert words == [["any map", "any kind", "any state"]]
    some = [params for params in product if params["kind"] != "udp4" or params["state"] in "ab"]
    words = [[part.words for part in line] for line in labels(some, every)]
    assert words == [["any map", "any kind but udp4", "any state but a, b"], ["any map", "any kind", "a, b"]]


def spoilt(number: int, case: CaseEvent) -> CaseEvent:
    """Put hostile text into whatever an event of a case can hold; into the id of every second case."""
    names = ("name", "expected", "observed", "reason", "error", "console", "repeat", "deviation")
    words: dict[str, Any] = dict.fromkeys(names, HOSTILE)
    words["differences"] = (HOSTILE,)
    words["log"] = ({"sequence": 1, "level": 4, "microseconds": 1, "text": HOSTILE},)
    words["tries"] = ({"verdict": Verdict.FAIL, "observed": HOSTILE, "times": 2, "fresh": True},)
    words["params"] = {HOSTILE: HOSTILE}
    words["observation"] = {"steps": {HOSTILE: f"{HOSTILE}{number}"}}
    words |= {"id": f"{HOSTILE}{number}", "group": HOSTILE} if number % 2 else {}
    return replace(case, **words, kernel=HOSTILE + case.kernel)


def test_a_log_cannot_reach_the_page() -> None:
    """Whatever a log holds, in whichever field, the page has the same elements and shows it letter by letter."""
    run = many()
    start = {"started": HOSTILE, "command": (HOSTILE,), "suite_commit": HOSTILE, "tools": {HOSTILE: HOSTILE}}
    bad = Run(replace(run.start, **start, selected={HOSTILE: 7}, bpf_objects={HOSTILE: HOSTILE}))  # type: ignore[arg-type]
    names = ("spec", "release", "version", "banner", "machine", "accelerator", "why", "error", "hint", "digest")
    for slug, kernel in run.kernels.items():
        words: dict[str, Any] = dict.fromkeys(names, HOSTILE)
        bad.add(replace(kernel, slug=HOSTILE + slug, notes=(HOSTILE,), package={HOSTILE: HOSTILE}, **words))
        for number, case in enumerate(run.cases[slug]):
            bad.add(spoilt(number, case))
    text = render(bad)
    assert all(each.isprintable() or each == "\n" for each in text)
    page = Page(text)
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in page_of("many").tags} | {"mark", "em", "ol"}
    assert len(page.every("script")) == len(page.every("style")) == 1
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert not any(re.search(r"[\s\"<>]", each) for each in page.ids)
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7*7 }}\\x00\\x1b[2J\\u202e\\ud800" in page.text


def test_strange_ids_stay_apart() -> None:
    """Ids that are no valid anchors get valid, unique ones."""
    run = report_runs.healthy()
    cases = run.cases["debian-6.12"]
    for number, name in enumerate(("a b", "a\tb", "a_b", "main", 'x"y')):
        cases[number] = replace(cases[number], id=name, group="", verdict=Verdict.FAIL)
    page = Page(render(run))
    assert max(Counter(page.ids).values()) == 1
    assert not any(re.search(r"[\s\"]", each) for each in page.ids)


def test_the_page_is_a_function_of_the_log() -> None:
    """The same log makes the same page, in whatever order its cases came to their verdicts."""
    run, other = report_runs.sick(), report_runs.sick()
    other.cases = {slug: cases[::-1] for slug, cases in other.cases.items()}
    assert render(run) == text_of("sick") == render(other)


def catalogued(*versions: str) -> Run:
    """Make a run of the whole catalogue on kernels that do what is expected of them."""
    parts = []
    for version in versions:
        kernel, facts = report_runs.kernel(version, f"{version}-amd64"), KernelFacts(Version.parse(version), {})
        parts.append((kernel, [expected_event(kernel, case, facts) for case in catalogue()]))
    return report_runs.finished(*parts)


def test_the_page_stays_small() -> None:
    """A page of five kernels with every case there is has at most 110 bytes a case, and each case is in it."""
    versions = ("5.10.262", "6.1.192", "6.12.117", "6.18.44", "7.3.4")
    text = render(catalogued(*versions))
    assert len(text.encode()) < 110 * len(catalogue()) * len(versions)
    assert {case.id for case in catalogue()} <= set(re.findall('<li id="([^"]*)">', text))


def test_many_reasons_are_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reasons are given in place; in a large page each is given once, and a number links to it."""
    run = report_runs.healthy()
    event = stepped(Case("insert", "x", "", {"question": "socket"}), {"insert": "ok"})
    run.add(replace(event, reason='so (0123456789ab "bpf: One", since 6.1); and so'))
    run.add(replace(event, id="insert/y", observed="no", reason="and so; not so"))
    assert 'so (0123456789ab "bpf: One", since 6.1); and so' in Page(render(run)).text
    monkeypatch.setattr(html, "_WORDS", 10)
    page = Page(render(run))
    assert page.text.count("and so") == page.text.count("not so") == page.text.count("bpf: One") == 1
    assert page.text.count("every pair is allowed") == 1
    assert page.text.count("reason 1") == len([each for each in page.ids if each.startswith("cell-")])
    assert "reasons 2, 3" in page.text
    assert "reasons 3, 4" in page.text
    assert {"r1", "r2", "r3", "r4", "reason-list"} <= set(page.ids)


def test_a_kernel_on_which_all_fails_makes_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much failed, evidence has limited room, and every case is still named."""
    run = report_runs.healthy()
    log = tuple(LogEntry(microseconds=number, text=f"line {number} " + "x" * 80) for number in range(1000))
    run.cases["debian-6.12"] = [
        replace(
            case, verdict=Verdict.SPLAT, observed="splat", log=({"text": case.name}, *log), differences=("y" * 300,)
        )
        for case in run.cases["debian-6.12"]
    ]
    sizes = []
    for room in (50_000, 150_000):
        monkeypatch.setattr(evidence, "_ROOM", room)
        text = render(run)
        sizes.append(len(text))
        assert {f"{case.id}@debian-6.12" for case in run.unexpected()} <= set(Page(text).ids)
    monkeypatch.setattr(evidence, "_NAMES", 10)
    assert len([each for each in Page(render(run)).ids if "@" in each]) == text.count('<details class="drawer"') + 10
    assert 0.5 < (sizes[1] - sizes[0]) / 100_000 < 1.5
    assert "… 841 lines above" in text


def test_logs_are_bounded() -> None:
    """The page has the part of a long log around the first report, and only the size of one with too long lines."""
    lines = [f"line {number} of the log" for number in range(1000)]
    lines[500] = "BUG: kernel NULL pointer dereference, address: 0000000000000000"
    run = report_runs.healthy()
    cases = run.cases["debian-6.12"]
    for at, texts in enumerate((lines, ["x" * 10_000] * 100)):
        log = tuple(LogEntry(text=text) for text in texts)
        cases[at] = replace(cases[at], verdict=Verdict.SPLAT, observed="splat", log=log)
    text = render(run)
    assert re.findall(r"line (\d+) of the log", text) == [str(each) for each in range(488, 648) if each != 500]
    assert "… 488 lines above" in text
    assert "… 352 lines below" in text
    assert "kernel log: 100 lines in the event log, for which the page has no room" in text
    assert "xxx" not in text
