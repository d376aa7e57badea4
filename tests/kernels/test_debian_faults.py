# SPDX-License-Identifier: GPL-2.0-only
"""Archives that are unreachable, closed, unsigned or tampered with, broken packages, and a full disk."""

from __future__ import annotations

import base64
import functools
import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from common.errors import ExitCode, HostError
from kernels import apt
from kernels.resolve import resolve
from tests.kernels import fakes

CHECKOUT = Path(__file__).parents[2]

pytestmark = fakes.NEEDS_APT

IN_SMALL_CACHE = """
from pathlib import Path
from common import cache
from common.errors import HostError
from kernels import apt
from kernels.resolve import resolve
apt.ETC = Path({etc!r})
try:
    resolve("debian:6.12")
except HostError as error:
    print(error, error.hint, [*cache.root().glob("partial/*"), *cache.root().glob("kernels/*")], sep=" | ")
"""


def test_an_old_resolution_is_used_when_the_archive_is_away(stocked: fakes.FakeArchive, own_cache: Path) -> None:
    """After a day the archive is asked again; if it is unreachable, the earlier resolution is used, with a note."""
    messages: list[str] = []
    with stocked.served():
        first = resolve("debian:6.12", progress=messages.append)
    assert not any("Failed" in line for line in messages)  # suites that it does not have are not reported
    memory = own_cache / "resolved" / "debian-6.12.json"
    note = json.loads(memory.read_text())
    memory.write_text(json.dumps({**note, "when": note["when"] - 2 * 24 * 3600}))
    shutil.rmtree(own_cache / "apt")
    assert resolve("debian:6.12", progress=messages.append) == first
    assert any("does not answer" in line and "using the kernel found 2" in line for line in messages)


def test_old_index_serves_when_the_archive_is_away(stocked: fakes.FakeArchive, own_cache: Path) -> None:
    """A kernel fetched by another spec is found in yesterday's index while the archive is away, with a warning."""
    messages: list[str] = []
    with stocked.served():
        first = resolve("debian:6.12")
    (catalogue,) = (own_cache / "apt").glob("offers-*.json")
    catalogue.write_text(json.dumps({**json.loads(catalogue.read_text()), "made": 0}))
    assert resolve("debian:6.12.95", progress=messages.append).digest == first.digest
    assert any("Failed to fetch" in line for line in messages)


def test_unreachable(archive: fakes.FakeArchive) -> None:
    """An unreachable archive is a host error that names it."""
    with archive.served():
        pass
    with pytest.raises(HostError, match=r"archive does not answer.*127.0.0.1") as caught:
        resolve("debian:6.12")
    assert "network" in caught.value.hint
    assert caught.value.exit_code == ExitCode.BROKEN


def test_no_archive(archive: fakes.FakeArchive) -> None:
    """Without a Debian archive in apt's sources the error says so."""
    (archive.etc / "sources.list").write_text("deb http://127.0.0.1:9/other jammy main\n")
    with pytest.raises(HostError, match="name no Debian archive"):
        resolve("debian:6.12")


@pytest.mark.parametrize("harm", ["truncated", "tampered"])
def test_harmed_download(stocked: fakes.FakeArchive, own_cache: Path, harm: str) -> None:
    """A package that differs from the index is refused; nothing of it stays, and a correct one is accepted later."""
    deb = next(stocked.pool.iterdir())
    sound = deb.read_bytes()
    deb.write_bytes(sound[:-100] if harm == "truncated" else sound[:-100] + bytes(100))
    with pytest.raises(HostError, match=r"is not what the signed index promises") as caught:
        resolve("debian:6.12")
    assert "try again" in caught.value.hint
    assert caught.value.exit_code == ExitCode.BROKEN
    assert list((own_cache / "partial").iterdir()) == []
    assert not list(own_cache.glob("kernels/*"))
    deb.write_bytes(sound)
    assert resolve("debian:6.12").release == fakes.RELEASE


def test_tampered_index(stocked: fakes.FakeArchive) -> None:
    """An index that does not match the release file is not used."""
    index = stocked.root / "dists/bookworm/main/binary-amd64/Packages"
    index.write_bytes(index.read_bytes().replace(b"kmod", b"evil"))
    with pytest.raises(HostError, match="archive does not answer"):
        resolve("debian:6.12")


class _Guarded(SimpleHTTPRequestHandler):
    """Serves only clients with the password."""

    def do_GET(self) -> None:
        """Serve a file, or ask for the password."""
        if self.headers.get("Authorization") == "Basic " + base64.b64encode(b"me@home:s3cret/x").decode():
            super().do_GET()
        else:
            self.send_error(401)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def test_passwords_stay_where_they_are(stocked: fakes.FakeArchive, own_cache: Path) -> None:
    """A login in apt's sources opens the archive, and is in no file that others may read and in no error."""
    stale = own_cache / "apt" / "offers-0123456789abcdef.json"
    stale.parent.mkdir(parents=True)
    stale.write_text("http://me%40home:s3cret%2Fx@127.0.0.1/")
    handler = functools.partial(_Guarded, directory=str(stocked.root))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        address = f"http://me%40home:s3cret%2Fx@127.0.0.1:{server.server_port}"
        (stocked.etc / "sources.list").write_text(f"deb [trusted=yes] {address} {stocked.suite} main\n")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            messages: list[str] = []
            kernel = resolve("debian:6.12", progress=messages.append)
        finally:
            server.shutdown()
            thread.join()
    assert kernel.release == fakes.RELEASE
    with pytest.raises(HostError) as caught:
        resolve("debian:6.12", refresh=True, progress=messages.append)
    archives, provenance = repr(apt.Apt().archives), json.dumps(dict(kernel.provenance))
    shown = [*messages, str(caught.value), caught.value.hint, archives, provenance]
    for secret in ("s3cret", "me%40home", "me@home"):
        assert not [text for text in shown if secret in text]
        for path in (path for path in own_cache.rglob("*") if path.is_file()):
            if path.stat().st_mode & 0o077:
                assert secret.encode() not in path.read_bytes(), path
    assert (own_cache / "apt" / "auth.conf").stat().st_mode & 0o777 == 0o600


def test_logins_are_taken_out_of_what_apt_says() -> None:
    """Not even a password with an @ in it, nor that of a proxy, is shown."""
    said = apt.errors("E: Failed to fetch http://u:p@x@relay:3128/a b\nE: GPG error: https://host/x\n")
    assert said == ["Failed to fetch http://relay:3128/a b", "GPG error: https://host/x"]


def test_unsigned_archive(stocked: fakes.FakeArchive) -> None:
    """An unsigned archive is not used unless the machine's own sources trust it."""
    sources = stocked.etc / "sources.list"
    sources.write_text(sources.read_text().replace("[trusted=yes] ", ""))
    with pytest.raises(HostError, match="is not signed"):
        resolve("debian:6.12")


def test_broken_package(archive: fakes.FakeArchive, tmp_path: Path) -> None:
    """A broken package that matches the index is refused with its name."""
    deb = tmp_path / f"linux-image-{fakes.RELEASE}.deb"
    deb.write_bytes(b"no package at all")
    archive.add(deb)
    with pytest.raises(HostError, match=f"{deb.name.replace('+', '.')} cannot be unpacked"):
        resolve("debian:6.12")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
@pytest.mark.parametrize("kilobytes", [20, 400, 2000], ids=["index", "download", "unpack"])
def test_full_disk(archive: fakes.FakeArchive, tmp_path: Path, kilobytes: int) -> None:
    """A disk that fills up during a fetch gives one sentence and a hint, and no file is left."""
    folder = f"lib/modules/{fakes.RELEASE}/kernel/net/tls"
    big = {f"{folder}/tls.ko": os.urandom(600_000), f"{folder}/big.ko": bytes(3_000_000)}
    archive.add(fakes.package(tmp_path, f"linux-image-{fakes.RELEASE}", big))
    small = tmp_path / "small"
    small.mkdir()
    # fmt: off
    done = subprocess.run([
        "unshare", "--mount",
        "sh", "-c", 'mount -t tmpfs -o size=$0k tmpfs "$XDG_CACHE_HOME" && exec "$@"', str(kilobytes),
        sys.executable, "-c", IN_SMALL_CACHE.format(etc=str(archive.etc)),
    ], cwd=CHECKOUT, env={**os.environ, "XDG_CACHE_HOME": str(small)}, capture_output=True, text=True, check=False)
    # fmt: on
    if "permission denied" in done.stderr or "not permitted" in done.stderr:
        pytest.skip("no mount namespace here")
    sentence, hint, left = done.stdout.strip().split(" | ")
    assert sentence.startswith(f"no space left while writing {small}")
    assert "free some space" in hint
    assert left == "[]"
