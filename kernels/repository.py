# SPDX-License-Identifier: GPL-2.0-only
"""Source trees in git: our own repository in the cache, which may borrow objects of the user's.

Nothing is ever written to the user's repository: no object, no index, no branch, no worktree.
"""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from common import cache
from common.errors import HostError

_MODE = {True: b"100755", False: b"100644"}


class GitError(HostError):
    """git failed: the sentence is the first line of its message, the hint the whole message."""


NEUTRAL = {
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.pager": "cat",
    "core.sshCommand": "false",
    "core.attributesFile": os.devnull,
    "log.showSignature": "false",
    "diff.external": "",
    "gpg.program": "false",
    "gpg.ssh.program": "false",
    "gpg.x509.program": "false",
    "protocol.allow": "never",
}
"""Settings that keep git from running programs that a foreign repository's configuration names."""


def git(*arguments: str | Path, environment: dict[str, str] | None = None, stdin: bytes = b"") -> str:
    """Run git and return its output; GitError with its message if it fails.

    No program is run that the configuration of a repository or of the user names.
    """
    program = shutil.which("git")
    if program is None:
        raise HostError("git is not installed; the suite keeps kernel sources in it", hint="apt-get install git")
    done = subprocess.run(
        [program, *_settings(), *(os.fspath(argument) for argument in arguments)],
        env=_environment(environment or {}),
        input=stdin,
        capture_output=True,
        check=False,
    )
    message = done.stderr.decode("utf-8", "replace").strip()
    if "No space left on device" in message:
        raise HostError(
            f"no space left below {cache.root()}",
            hint="free some, run `./conform kernels prune`, or set XDG_CACHE_HOME",
        )
    if done.returncode:
        first = message.partition("\n")[0].removeprefix("fatal: ").removeprefix("error: ")
        raise GitError(first or f"git ended with status {done.returncode}", hint=f"git says: {message}")
    return done.stdout.decode("utf-8", "surrogateescape").strip()


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    # A bisection or a hook sets variables that point at its own repository.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {**inherited, **_ALONE, "LC_ALL": "C", **more}


_ALONE = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",
}


def _settings() -> Iterator[str]:
    for name, value in NEUTRAL.items():
        yield from ("-c", f"{name}={value}")
    for folder in _trusted():
        yield from ("-c", f"safe.directory={folder}")


@functools.cache
def _trusted() -> tuple[str, ...]:
    """Return the safe.directory entries of the user's git configuration, which is otherwise ignored."""
    found = (
        subprocess.run(
            ["git", "config", scope, "--null", "--get-all", "safe.directory"],
            capture_output=True, text=True, errors="surrogateescape", check=False, cwd="/",
        ).stdout.split("\0")
        for scope in ("--system", "--global")
    )  # fmt: skip
    return tuple(filter(None, itertools.chain.from_iterable(found)))


def filters(repository: str) -> Iterator[str]:
    """Yield the options that turn off a repository's own filters, which are programs that it names."""
    try:
        named = git("-C", repository, "config", "--null", "--name-only", "--get-regexp", r"^filter\..*")
    except GitError:  # there are none
        return
    for name in sorted({each.rpartition(".")[0] for each in named.split("\0") if each}):
        for key, value in (("clean", ""), ("smudge", ""), ("process", ""), ("required", "false")):
            yield from ("-c", f"{name}.{key}={value}")


class Repository:
    """Our own repository."""

    def __init__(self, borrowed: Path | None = None) -> None:
        """Open it, or create it; `borrowed` is an object store that it may read, too."""

        def build(folder: Path) -> None:
            git("init", "--quiet", "--bare", folder)
            # Compressing all blobs would take a minute and save little.
            git("--git-dir", folder, "config", "core.compression", "1")
            git("--git-dir", folder, "config", "gc.auto", "0")

        self.path = cache.publish(cache.root() / "sources", build)
        self._environment = {"GIT_DIR": str(self.path)}
        if borrowed is not None:
            self._environment["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = str(borrowed)

    def run(self, *arguments: str | Path, index: Path | None = None, stdin: bytes = b"") -> str:
        """Run git in it."""
        own = {"GIT_INDEX_FILE": str(index)} if index else {}
        return git(*arguments, environment={**self._environment, **own}, stdin=stdin)

    def known(self, name: str) -> str:
        """Return the tree imported under a name, or ""."""
        try:
            return self.run("rev-parse", "--verify", "--quiet", f"refs/imported/{name}^{{tree}}")
        except GitError:
            return ""

    def import_tar(self, stream: IO[bytes], name: str) -> str:
        """Import the content of an uncompressed tar with one top directory, and return the tree."""
        with cache.lock("sources"):
            for left in (self.path / "objects" / "pack").glob("tmp_*"):
                left.unlink()  # a killed process left it
            # fmt: off
            command = [
                "git", *_settings(), "fast-import",
                "--quiet",
                "--done",
                "--depth=0",
            ]
            # fmt: on
            environment = _environment(self._environment)
            with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
                assert process.stdin is not None
                # An interrupted import leaves nothing: without "done" at the end git drops its input.
                with suppress(BrokenPipeError):
                    _feed(stream, name, process.stdin)
                _, message = process.communicate()
        if process.returncode:
            reason = message.decode("utf-8", "replace").strip().partition("\n")[0]
            raise HostError(f"the source {name} cannot be imported: {reason}", hint=f"is there space in {self.path}?")
        return self.known(name)

    def check_out(self, tree: str, folder: Path, index: Path) -> None:
        """Check `tree` out to `folder`, touching only changed files; ignored files stay."""
        folder.mkdir(parents=True, exist_ok=True)
        index.with_name(f"{index.name}.lock").unlink(missing_ok=True)  # a killed git left it
        self.run("--work-tree", folder, "read-tree", "--reset", "-u", tree, index=index)

    def changed(self, old: str, new: str) -> list[str]:
        """Return the paths in which two trees differ."""
        return self.run("diff-tree", "-r", "--name-only", "--no-renames", old, new).splitlines()


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a temporary directory, one at a time; removed later even if its user was killed."""
    with cache.lock("scratch"):
        path = cache.root() / "partial" / "scratch"
        cache.remove(path)
        with cache.explained(path):
            path.mkdir(parents=True)
        try:
            yield path
        finally:
            cache.remove(path)


def _feed(stream: IO[bytes], name: str, into: IO[bytes]) -> None:
    into.write(f"commit refs/imported/{name}\ncommitter conform <conform> 0 +0000\ndata 0\n".encode())
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            path = member.name.removeprefix("./").partition("/")[2]
            content = archive.extractfile(member) if member.isreg() else None
            if content is not None:
                mode, data = _MODE[bool(member.mode & 0o100)], content.read()
            elif member.issym():
                mode, data = b"120000", member.linkname.encode()
            else:
                continue
            into.write(b"M %s inline %s\ndata %d\n" % (mode, path.encode("utf-8", "surrogateescape"), len(data)))
            into.write(data)
            into.write(b"\n")
    into.write(b"done\n")
