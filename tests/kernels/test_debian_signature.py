# SPDX-License-Identifier: GPL-2.0-only
"""Archives whose release file is forged: apt verifies it, and nothing that is not signed becomes a kernel."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import ExitCode, HostError
from kernels.resolve import resolve
from tests.kernels import fakes

pytestmark = [fakes.NEEDS_APT, pytest.mark.skipif(not shutil.which("gpg"), reason="gpg is not installed")]


class Signer:
    """Somebody with a key."""

    def __init__(self, home: Path) -> None:
        self._command = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--yes", "--passphrase", ""]
        self._home = home
        self._run("--quick-gen-key", "archive <archive@example.org>", "ed25519", "sign", "never")

    @property
    def key(self) -> Path:
        """The public half of the key, in a file."""
        path = self._home / "key.gpg"
        self._run("--output", str(path), "--export")
        return path

    def sign(self, suite: Path, *, inline: bool) -> None:
        """Sign a suite's release file, in one file with it or beside it."""
        how = (
            ["--clearsign", "--output", "InRelease"]
            if inline
            else ["--armor", "--detach-sign", "--output", "Release.gpg"]
        )
        self._run(*how, "Release", cwd=suite)

    def _run(self, *arguments: str, cwd: Path | None = None) -> None:
        subprocess.run([*self._command, *arguments], cwd=cwd, check=True, capture_output=True)


@pytest.fixture
def signers() -> Iterator[tuple[Signer, Signer]]:
    """Return the archive's owner and somebody else; the socket of gpg's agent needs a short path."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        yield Signer(Path(one)), Signer(Path(other))
        for home in (one, other):
            subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False)


def _forge(release: Path) -> None:
    """Have a release file vouch for another date, as a replayed or edited one does."""
    release.write_text(release.read_text().replace("02 Jan 2026", "03 Jan 2026"))


@pytest.mark.parametrize("inline", [True, False], ids=["InRelease", "Release.gpg"])
@pytest.mark.parametrize("forgery", ["none", "edited", "stranger"])
def test_a_release_file(
    stocked: fakes.FakeArchive, own_cache: Path, signers: tuple[Signer, Signer], forgery: str, inline: bool
) -> None:
    """Only the key that the machine trusts vouches for it; a file edited since is refused, and nothing of it stays."""
    owner, stranger = signers
    sources = stocked.etc / "sources.list"
    sources.write_text(sources.read_text().replace("[trusted=yes]", f"[signed-by={owner.key}]"))
    suite = stocked.root / "dists" / stocked.suite
    (stranger if forgery == "stranger" else owner).sign(suite, inline=inline)
    if forgery == "edited":
        _forge(suite / ("InRelease" if inline else "Release"))
    if inline:
        (suite / "Release").unlink()

    if forgery == "none":
        assert resolve("debian:6.12").release == fakes.RELEASE
        return
    with pytest.raises(HostError) as refused:
        resolve("debian:6.12")

    said = "BADSIG" if forgery == "edited" else "NO_PUBKEY"
    assert str(refused.value).startswith("the Debian archive cannot be trusted: GPG error: ")
    assert said in str(refused.value)
    assert "signed-by" in refused.value.hint
    assert refused.value.exit_code == ExitCode.BROKEN
    assert not list(own_cache.glob("kernels/*"))
