# SPDX-License-Identifier: GPL-2.0-only
"""The KTAP report, read by the kernel's own parser: tools/testing/kunit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common import cache
from conformance.model import Verdict
from conformance.report import ktap
from conformance.report.events import Run
from kernels import origin, repository
from kernels.apt import Apt
from kernels.archive import catalogue
from tests.conformance import report_runs

# Nothing is booted, but the package with the parser has 150 MB.
pytestmark = pytest.mark.vm

BRANCH = "6.12"
HOME = "tools/testing/kunit"
"""Its path in a kernel tree, which it needs to run."""
STATUS = {Verdict.PASS: "PASS", Verdict.XFAIL: "PASS", Verdict.SKIP: "SKIP"}
"""The parser's status for a verdict; FAIL for any other."""


def extract(folder: Path) -> None:
    """Take tools/testing/kunit out of Debian's package of the source."""
    package = origin.choose(BRANCH, catalogue(max_age=30 * origin.DAY).sources)
    with repository.scratch() as scratch:
        deb = scratch / "source.deb"
        Apt().download(package.uri, package.sha256, deb)
        command = ["dpkg-deb", "--fsys-tarfile", str(deb)]
        with (
            subprocess.Popen(command, stdout=subprocess.PIPE) as process,
            tarfile.open(fileobj=process.stdout, mode="r|") as outer,
            tarfile.open(fileobj=origin._inner(outer), mode="r|") as inner,
        ):
            (folder / HOME).mkdir(parents=True)
            for member in inner:
                path = Path(member.name)
                content = inner.extractfile(member) if path.match(f"{HOME}/*.py") else None
                if content is not None:
                    (folder / HOME / path.name).write_bytes(content.read())


@pytest.fixture(scope="module")
def kunit() -> Path:
    """Return the kernel's kunit.py; extracted once, then kept in the cache."""
    return cache.publish(cache.root() / "tests" / f"kunit-{BRANCH}", extract) / HOME / "kunit.py"


def parsed(kunit: Path, text: str, tmp_path: Path) -> dict[str, Any]:
    """Let the parser read a report; return its result with its errors."""
    target = tmp_path / "parsed.json"
    command = [sys.executable, "-B", str(kunit), "parse", f"--json={target}"]
    # Python does not search the parser's folder for modules under `./conform test`.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, env=environment)
    assert not done.stderr
    understood: dict[str, Any] = json.loads(target.read_text())
    assert "[ERROR]" not in done.stdout, done.stdout
    return understood


def statuses(group: dict[str, Any], *above: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the path and the status of every case in a group."""
    for case in group["test_cases"]:
        yield (*above, case["name"]), case["status"]
    for each in group["sub_groups"]:
        yield from statuses(each, *above, each["name"])


@pytest.mark.parametrize("make", report_runs.RUNS.values(), ids=report_runs.RUNS)
def test_the_kernels_parser_accepts_it(make: Any, kunit: Path, tmp_path: Path) -> None:
    """It finds every case under its kernel and group, with the right status, and no error in the report."""
    run: Run = make()
    found = dict(statuses(parsed(kunit, ktap.render(run), tmp_path)))
    judged = {
        (slug, case.group, case.name): STATUS.get(case.verdict, "FAIL")
        for slug, cases in run.cases.items()
        for case in cases
    }
    dead = {(slug,): "FAIL" for slug in run.slugs if run.kernel(slug).error}
    assert found == judged | dead


def test_the_parser_finds_an_error(kunit: Path, tmp_path: Path) -> None:
    """A report with a wrong count is not accepted."""
    text = ktap.render(report_runs.healthy())
    assert "ok 300 " in text
    with pytest.raises(AssertionError, match="Expected test number 300 but found 3000"):
        parsed(kunit, text.replace("ok 300 ", "ok 3000 "), tmp_path)
