# SPDX-License-Identifier: GPL-2.0-only
"""The cache: entries are complete or absent, built once, unlocked by death, and write errors are clear."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common import cache
from common.errors import ExitCode, HostError

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return cache.root()


def spawn(program: str) -> subprocess.Popen[str]:
    """Start Python on `program` in this cache."""
    return subprocess.Popen([sys.executable, "-c", program], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)


SLOW = """
from common import cache
def build(path):
    path.mkdir()
    (path / "half").write_text("half")
    print("building", flush=True)
    input()
cache.publish(cache.root() / "things" / "one", build)
"""


def test_root_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache is below XDG_CACHE_HOME if that is an absolute path, else below ~/.cache."""
    assert cache.root() == tmp_path / "sockmap-conformance"
    monkeypatch.setenv("HOME", "/nowhere")
    for other in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", other)
        assert cache.root() == Path("/nowhere/.cache/sockmap-conformance")


def test_publish_builds_once(home: Path) -> None:
    """A published entry is not built again."""
    calls = []

    def build(path: Path) -> None:
        calls.append(path)
        path.write_text("content")

    for _ in range(2):
        assert cache.publish(home / "things" / "one", build).read_text() == "content"
    assert len(calls) == 1


def test_failed_build_leaves_nothing(home: Path) -> None:
    """A build that fails leaves neither an entry nor a temporary."""

    def build(path: Path) -> None:
        path.mkdir()
        (path / "half").write_text("half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        cache.publish(home / "things" / "one", build)
    assert not (home / "things" / "one").exists()
    assert list((home / "partial").iterdir()) == []


def test_two_at_once_build_once(home: Path, tmp_path: Path) -> None:
    """Of processes that want the same entry at once, one builds and all get it."""
    log = tmp_path / "log"
    program = f"""
from common import cache
def build(path):
    with open({str(log)!r}, "a") as log:
        log.write("built\\n")
    path.write_text("content")
print(cache.publish(cache.root() / "things" / "one", build).read_text())
"""
    children = [spawn(program) for _ in range(4)]
    assert [child.communicate(timeout=20)[0] for child in children] == ["content\n"] * 4
    assert log.read_text() == "built\n"


def test_killed_builder_is_survived(home: Path) -> None:
    """A builder killed half-way has published nothing, holds no lock, and its files are removed by the next."""
    child = subprocess.Popen(
        [sys.executable, "-c", SLOW], cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    child.stdout.readline()
    partial = home / "partial" / "things@one"
    assert (partial / "half").exists()
    assert cache.sweep() == []  # its builder lives: the temporary stays
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=20)
    assert not (home / "things" / "one").exists()
    assert cache.sweep() == [partial.name]
    assert not partial.exists()
    cache.publish(home / "things" / "one", lambda path: path.mkdir())
    assert list((home / "things" / "one").iterdir()) == []


def test_taken_lock_is_reported(home: Path) -> None:
    """A caller that does not wait for a lock learns that it is taken."""
    with cache.lock("key") as first, cache.lock("key", wait=False) as second, cache.lock("other", wait=False) as third:
        assert (first, second, third) == (True, False, True)


def test_write_replaces_at_once(home: Path) -> None:
    """A file written again is replaced, not truncated: a process that has it open still reads the old one."""
    cache.write(home / "note", b"old")
    with (home / "note").open("rb") as reader:
        cache.write(home / "note", b"new")
        assert reader.read() == b"old"
    assert (home / "note").read_bytes() == b"new"


def test_discard_and_size(home: Path) -> None:
    """A discarded entry is gone with all its bytes."""

    def build(path: Path) -> None:
        path.mkdir()
        (path / "file").write_bytes(bytes(100_000))

    cache.publish(home / "things" / "one", build)
    assert cache.size(home / "things" / "one") >= 100_000
    cache.discard(home / "things" / "one")
    cache.discard(home / "things" / "never")
    assert not (home / "things" / "one").exists()
    assert list((home / "partial").iterdir()) == []


def test_full_disk_is_explained(home: Path) -> None:
    """A disk that fills up while caching is one sentence with the path, a hint, and nothing left behind."""

    def build(path: Path) -> None:
        path.symlink_to("/dev/full")  # every write to it fails with ENOSPC
        path.write_bytes(b"x")

    with pytest.raises(HostError, match="no space left") as caught:
        cache.publish(home / "things" / "one", build)
    assert "prune" in caught.value.hint
    assert "XDG_CACHE_HOME" in caught.value.hint
    assert caught.value.exit_code == ExitCode.BROKEN
    assert list((home / "partial").iterdir()) == []


def test_file_in_place_of_the_cache_is_explained(home: Path) -> None:
    """The error for a cache directory that cannot be made names the directory and a solution, for root, too."""
    home.write_text("in the way")
    with pytest.raises(HostError, match=str(home)) as caught:
        cache.write(home / "note", b"x")
    assert "XDG_CACHE_HOME" in caught.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_forbidden_cache_is_explained(tmp_path: Path) -> None:
    """A cache directory without permission to write says so."""
    tmp_path.chmod(0o500)
    with pytest.raises(HostError, match="permission denied"):
        cache.write(cache.root() / "note", b"x")


@pytest.mark.parametrize("place", ["/proc", "/proc/self/nosuch", "/dev/null", "/var/" + "x" * 300])
def test_odd_caches_are_explained(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that cannot be created is one sentence with its name."""
    monkeypatch.setenv("XDG_CACHE_HOME", place)
    with pytest.raises(HostError, match="cannot write") as caught, cache.lock("x"):
        pass
    assert place in str(caught.value)
    assert "XDG_CACHE_HOME" in caught.value.hint


@pytest.mark.parametrize("place", ["/var/a\nb", '/var/a"b', "/var/\udcff"])
def test_names_that_nobody_can_quote_are_explained(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache path that apt's configuration cannot hold is refused."""
    monkeypatch.setenv("XDG_CACHE_HOME", place)
    with pytest.raises(HostError, match="the cache cannot be in") as caught:
        cache.root()
    assert str(caught.value).isprintable()


def test_a_user_without_a_home_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may run as a user id without an account."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", str)
    with pytest.raises(HostError, match="there is no home directory") as caught:
        cache.root()
    assert "XDG_CACHE_HOME" in caught.value.hint
