# SPDX-License-Identifier: GPL-2.0-only
"""Where the source of a kernel comes from: a git repository of the user, or Debian's source package."""

from __future__ import annotations

import lzma
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from common.errors import HostError, UsageError
from kernels.apt import Apt
from kernels.archive import Package, catalogue
from kernels.repository import GitError, Repository, filters, git, scratch
from kernels.spec import Spec, SpecSource
from kernels.version import Version

Progress = Callable[[str], None]

DAY = 24 * 3600.0
SUBMODULE = "160000 "
_TOP = "Kbuild"
"""A file at the top of each version of Linux, and hardly of anything else."""
"""The mode of a submodule's commit in a tree."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Source to build from."""

    name: str
    """Later states of the same source share the name and the build tree: only changed files are compiled again."""
    title: str
    """The name of this state of the source, for messages."""
    tree: str
    """The id of git's tree object."""
    repository: Repository
    """The repository with that tree."""
    facts: Mapping[str, str]


def find(spec: Spec, refresh: bool, progress: Progress) -> Origin:
    """Return the source that a spec names, without its patches."""
    if spec.source is SpecSource.TREE:
        return _of_repository(spec)
    return _of_package(spec, refresh, progress)


def _of_repository(spec: Spec) -> Origin:
    top = _top(spec)
    objects = Path(_ask(spec, "rev-parse", "--path-format=absolute", "--git-path", "objects"))
    commit = commit_of(spec)
    repository = Repository(objects)
    tree = repository.run("rev-parse", f"{commit}^{{tree}}")
    subject = _ask(spec, "show", "--no-patch", "--format=%s", commit)
    facts = {"commit": commit, "subject": subject, "repository": str(top)}
    title = commit[:12]
    if not spec.revision:
        working = _working_tree(spec, objects, repository)
        if working != tree:
            tree = working
            title += " with uncommitted changes"
            facts["uncommitted"] = f"tree {tree[:12]}"
    _check_whole(spec, commit)
    if _TOP not in repository.run("ls-tree", "--name-only", tree).splitlines():
        raise _not_linux(spec)
    return Origin(str(top), f"{top.name} at {title}", tree, repository, facts)


def _top(spec: Spec) -> Path:
    return Path(_ask(spec, "rev-parse", "--show-toplevel"))


def _check_whole(spec: Spec, commit: str) -> None:
    """Check that a partial clone has all files to build; nothing is fetched from its remote."""
    try:
        git("-C", spec.wanted, "config", "--get-regexp", r"^remote\..*\.promisor$")
    except GitError:
        return
    listed = _ask(spec, "rev-list", "--objects", "--missing=print", "--no-walk", commit).splitlines()
    if lacking := sum(line.startswith("?") for line in listed):
        raise UsageError(
            f"{spec.wanted} is a partial clone, and {lacking} objects of {commit[:12]} are not in it",
            hint=f"git -C {spec.wanted} archive {commit[:12]} > /dev/null   # fetches them",
        )


def commit_of(spec: Spec) -> str:
    """Return the commit that a `tree:` spec names; UsageError if there is none."""
    wanted = spec.revision or "HEAD"
    try:
        # Not through _ask: git's message about an unknown revision is three lines about paths.
        return git("-C", spec.wanted, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{wanted}^{{commit}}")
    except GitError as error:
        raise UsageError(
            f"{spec.wanted} has no commit {wanted}", hint=f"git -C {spec.wanted} log --oneline; perhaps fetch it first"
        ) from error


def check_linux(spec: Spec, commit: str) -> None:
    """Raise UsageError unless a commit of a `tree:` spec's repository is one of Linux."""
    if _TOP not in _ask(spec, "ls-tree", "--full-tree", "--name-only", commit).splitlines():
        raise _not_linux(spec)


def _not_linux(spec: Spec) -> UsageError:
    return UsageError(f"{spec.wanted} is not a kernel tree", hint="give the top of a git repository of Linux")


def _working_tree(spec: Spec, objects: Path, repository: Repository) -> str:
    """Return the tracked files as they are in the working tree; only our own repository is written to."""
    index = Path(_ask(spec, "rev-parse", "--path-format=absolute", "--git-path", "index"))
    with scratch() as folder:
        environment = {
            "GIT_INDEX_FILE": str(folder / "index"),
            "GIT_OBJECT_DIRECTORY": str(repository.path / "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(objects),
        }
        try:
            # With the user's index, and its time, git need not read 90,000 files to find the one that changed.
            shutil.copy2(index, folder / "index")
            off = [*filters(spec.wanted)]
            listed = git(
                "-C", spec.wanted, "ls-files", "--full-name", "--stage", "-z", ":/", environment=environment
            ).split("\0")
            # git would look into submodules, by their own configurations, which may name programs.
            modules = [each.partition("\t")[2] for each in listed if each.startswith(SUBMODULE)]
            but = [f":(exclude,top,literal){each}" for each in modules]
            git("-C", str(_top(spec)), *off, "add", "--update", "--", ":/", *but, environment=environment)
            return git("-C", spec.wanted, *off, "write-tree", environment=environment)
        except (GitError, OSError) as error:
            raise UsageError(
                f"the working tree of {spec.wanted} cannot be read: {error}",
                hint=f"commit what you want built, and give tree:{spec.wanted}@HEAD",
            ) from error


def _ask(spec: Spec, *arguments: str) -> str:
    try:
        return git("-C", spec.wanted, *arguments)
    except GitError as error:
        hint = "tree: needs a git repository of Linux; a tree that is built already is given without tree:"
        if "safe.directory" in error.hint:
            hint = f"git config --global --add safe.directory {spec.wanted}"
        raise UsageError(f"{spec.wanted} is not a git repository: {error}", hint=hint) from error


def _of_package(spec: Spec, refresh: bool, progress: Progress) -> Origin:
    package = choose(spec.wanted, catalogue(max_age=0 if refresh else DAY).sources)
    repository = Repository()
    tree = repository.known(package.sha256)
    if not tree:
        progress(f"{spec.text}: downloading {package.name} ({package.size / 1e6:.0f} MB)")
        with scratch() as folder:
            file = folder / "source.deb"
            Apt().download(package.uri, package.sha256, file)
            progress(f"{spec.text}: unpacking {package.name} {package.version}")
            tree = _import(file, package, repository)
    facts = {
        "package": package.name,
        "version": package.version,
        "suite": package.suite,
        "sha256": package.sha256,
    }
    return Origin(package.name, f"{package.name} {package.version}", tree, repository, facts)


def choose(wanted: str, sources: tuple[Package, ...]) -> Package:
    """Return the newest source package for a version or a suite; UsageError names others."""
    for package in sources:
        upstream = package.version.partition("-")[0]
        names = {package.version, upstream, package.suite, package.alias, Version.parse(package.version).branch}
        if wanted in names:
            return package
    have = dict.fromkeys(f"source:{Version.parse(package.version).branch}" for package in sources)
    raise UsageError(
        f"no suite of the archive has the source of {wanted}", hint=f"there is: {', '.join(have) or 'none at all'}"
    )


def _import(file: Path, package: Package, repository: Repository) -> str:
    # fmt: off
    command = [
        "dpkg-deb",
        "--fsys-tarfile", str(file),
    ]
    # fmt: on
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                return repository.import_tar(_inner(archive), package.sha256)
        except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
            raise HostError(f"{package.name} cannot be unpacked: {error}", hint="try again") from error
        finally:
            process.stdout.close()


def _inner(archive: tarfile.TarFile) -> IO[bytes]:
    for member in archive:
        content = archive.extractfile(member) if member.name.endswith(".tar.xz") else None
        if content is not None:
            return lzma.LZMAFile(content)
    raise tarfile.TarError("it holds no .tar.xz")
