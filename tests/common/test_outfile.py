# SPDX-License-Identifier: GPL-2.0-only
"""A run writes only to the named files, whatever links are planted there."""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from common import outfile
from common.errors import HostError
from conformance.compare import store as comparison
from conformance.report import store as report
from conformance.report import summary
from conformance.report.events import NAME, EventLog
from conformance.run import artifacts
from conformance.run.results import Claim
from tests.conformance import report_runs

BAD = report_runs.sick().unexpected()[0]


@pytest.fixture(name="secret")
def _secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("keep")
    return path


def test_a_file_is_replaced_at_once(tmp_path: Path) -> None:
    """The old content stays until the new one is complete, and no temporary is left."""
    outfile.replace(tmp_path / "x", b"one")
    outfile.replace(tmp_path / "x", b"two")
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"x": b"two"}


def test_a_link_is_refused(tmp_path: Path, secret: Path) -> None:
    """A link in place of a report is an error that says so, and its target is unchanged."""
    (tmp_path / "report").symlink_to(secret)
    with pytest.raises(HostError, match=r"cannot write the report .*: it is a symbolic link"):
        report.store(tmp_path / "report", b"x")
    assert secret.read_text() == "keep"


def test_a_link_below_dev_is_refused(secret: Path) -> None:
    """Every user may write to /dev/shm: a link there is refused like any other."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        link = Path(folder) / "report.html"
        link.symlink_to(secret)
        with pytest.raises(OSError, match="symbolic link"):
            outfile.replace(link, b"x")
    assert secret.read_text() == "keep"


def test_what_is_created_must_be_new(tmp_path: Path, secret: Path) -> None:
    """An existing file or link, even a dangling one, is refused."""
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for path in (secret, tmp_path / "link"):
        with pytest.raises(FileExistsError):
            outfile.create(path, b"x")
    assert not (tmp_path / "nowhere").exists()


def test_a_device_is_written_straight(tmp_path: Path) -> None:
    """`--output /dev/stdout` is a link that may be followed, and a pipe is not a file to replace."""
    outfile.replace(Path("/dev/null"), b"x")
    assert Path("/dev/null").is_char_device()
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    outfile.replace(tmp_path / "pipe", b"x")
    assert os.read(reader, 9) == b"x"
    os.close(reader)


@pytest.mark.parametrize("name", [NAME, summary.NAME, comparison.NAME])
def test_a_link_in_the_results_is_not_followed(name: str, tmp_path: Path, secret: Path) -> None:
    """The log, the summary and the comparison are never written elsewhere."""
    results = tmp_path / "results"
    results.mkdir()
    (results / name).symlink_to(secret)
    write: dict[str, Callable[[], object]] = {
        NAME: lambda: EventLog(results / NAME),
        summary.NAME: lambda: summary.write_summary(report_runs.sick(), results),
        comparison.NAME: lambda: comparison.store([], results),
    }
    with pytest.raises(HostError, match="symbolic link"):
        write[name]()
    assert secret.read_text() == "keep"


@pytest.mark.parametrize("part", ["cases", "cases/debian-6.12", f"cases/debian-6.12/{BAD.id}"])
def test_evidence_stays_in_the_results(part: str, tmp_path: Path) -> None:
    """No folder on the way to the evidence of a case is a link."""
    results, elsewhere = tmp_path / "results", tmp_path / "elsewhere"
    kept = elsewhere / Path("cases", BAD.kernel, BAD.id, artifacts.LOG).relative_to(part)
    kept.parent.mkdir(parents=True)
    kept.write_text("keep")
    (results / part).parent.mkdir(parents=True)
    (results / part).symlink_to(elsewhere)
    with pytest.raises(HostError, match="cannot write the evidence"):
        artifacts.store(results, BAD)
    assert [each for each in elsewhere.rglob("*") if each.is_file()] == [kept]
    assert kept.read_text() == "keep"


def test_a_file_of_the_evidence_is_no_link(tmp_path: Path, secret: Path) -> None:
    """No file of the evidence is a link."""
    folder = tmp_path / artifacts.folder_of(BAD.kernel, BAD.id)
    folder.mkdir(parents=True)
    (folder / artifacts.SERIAL).symlink_to(secret)
    with pytest.raises(HostError, match="symbolic link"):
        artifacts.store(tmp_path, BAD)
    assert secret.read_text() == "keep"


def test_a_results_folder_is_no_link(tmp_path: Path) -> None:
    """A folder named with --results that is a link is refused, with a hint which names are accepted."""
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(HostError, match="is a symbolic link") as refused:
        Claim(tmp_path / "link")
    assert "leads to" in refused.value.hint


@pytest.mark.parametrize("write", [outfile.create, outfile.replace])
def test_a_disk_that_is_full_keeps_no_half_of_a_file(write: Callable[[Path, bytes], None], tmp_path: Path) -> None:
    """A trace that ends in the middle would pass for a whole one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write(tmp_path / "trace.txt", bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert not list(tmp_path.iterdir())
