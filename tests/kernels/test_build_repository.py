# SPDX-License-Identifier: GPL-2.0-only
"""The repository that a kernel is built from: it is only read, whatever its configuration says."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from common.errors import ExitCode, UsageError
from conformance.compare import identity
from kernels import origin
from kernels.resolve import resolve
from kernels.spec import parse
from tests.kernels import fakes
from tests.kernels.sources import BUILT, change, commit, failure, git

pytestmark = BUILT


@pytest.mark.parametrize("spec", ["tree:.", "tree:.@HEAD"])
def test_reading_a_repository_runs_nothing_that_it_names(linux: Path, tmp_path: Path, spec: str) -> None:
    """Reading runs no program that the repository's configuration names: filters, hooks, monitors, gpg."""
    canary = tmp_path / "canary"
    for name in ("post-index-change", "reference-transaction", "post-checkout", "run"):
        script = tmp_path / "hooks" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/sh\necho {name} $0 $* >> {canary}\ncat\n")
        script.chmod(0o755)
    (linux / ".gitattributes").write_text("*.c filter=evil\n")
    commit("Attributes")
    signed = git("cat-file", "commit", "HEAD").replace("\n\n", "\ngpgsig -----BEGIN PGP SIGNATURE-----\n x\n"
                                                      " -----END PGP SIGNATURE-----\n\n", 1)  # fmt: skip
    (tmp_path / "signed").write_text(signed)
    git("reset", "--quiet", git("hash-object", "-w", "-t", "commit", str(tmp_path / "signed")).strip())
    run = str(tmp_path / "hooks" / "run")
    for name, value in {
        "core.fsmonitor": run, "core.hooksPath": str(tmp_path / "hooks"), "log.showSignature": "true",
        "gpg.program": run, "filter.evil.clean": run, "filter.evil.smudge": run, "filter.evil.required": "true",
        "diff.external": run, "core.pager": run,
    }.items():  # fmt: skip
        git("config", name, value)
    change("net/core/skmsg.c")
    canary.unlink(missing_ok=True)

    found = origin.find(parse(spec), False, print)
    identity._log(str(linux), "HEAD~1", "HEAD")

    assert not canary.exists(), canary.read_text()
    assert found.tree
    git("log", "-1")
    assert canary.exists()


def test_no_submodule_is_looked_into(linux: Path, tmp_path: Path) -> None:
    """A submodule has a configuration of its own, whose filters git would run to see whether its files have changed."""
    canary, inner = tmp_path / "canary", linux / "inner"
    inner.mkdir()
    git("-C", str(inner), "init", "--quiet")
    (inner / "file").write_text("a\n")
    (inner / ".gitattributes").write_text("* filter=evil\n")
    git("-C", str(inner), "add", ".")
    git("-C", str(inner), "-c", "user.name=a", "-c", "user.email=a@invalid", "commit", "--quiet", "-m", "Inside")
    commit("A submodule")
    assert git("ls-files", "--stage", "inner").startswith("160000")
    change("net/core/skmsg.c")
    git("-C", str(inner), "config", "filter.evil.clean", f"echo >> {canary}; cat")
    os.utime(inner / "file", (1, 1))

    found = origin.find(parse("tree:."), False, print)

    assert not canary.exists()
    assert found.title.endswith("with uncommitted changes")
    git("status")
    assert canary.exists()


def test_a_partial_clone_says_what_to_fetch(linux: Path, tmp_path: Path) -> None:
    """A commit whose files were never fetched is named, with the command that fetches them."""
    change("net/core/skmsg.c")
    commit("Another")
    git("config", "uploadpack.allowFilter", "true")
    partial = tmp_path / "partial"
    git("clone", "--quiet", "--filter=blob:none", f"file://{linux}", str(partial))
    with pytest.raises(UsageError, match=r"is a partial clone, and 1 objects of [0-9a-f]{12} are not in it") as caught:
        resolve(f"tree:{partial}@HEAD~1")
    assert f"git -C {partial} archive" in caught.value.hint
    subprocess.run(["sh", "-c", caught.value.hint], check=True)
    assert resolve(f"tree:{partial}@HEAD~1").release == fakes.RELEASE


def test_a_linked_worktree_is_a_repository_too(linux: Path, tmp_path: Path) -> None:
    """If `.git` is a file, its repository is found."""
    git("worktree", "add", "--quiet", str(tmp_path / "other"))
    assert resolve(f"tree:{tmp_path / 'other'}").digest == resolve("tree:.").digest


def test_the_environment_of_a_git_hook_is_ignored(linux: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run by git itself, with its variables set, the suite still works on its own repository."""
    expected = resolve("tree:.@HEAD").digest
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "GIT_OBJECT_DIRECTORY"):
        monkeypatch.setenv(name, "/nowhere")
    assert resolve("tree:.@HEAD").digest == expected


def test_the_repository_and_the_revision_must_be_there(linux: Path, tmp_path: Path) -> None:
    """A missing repository, kernel or revision is wrong usage, with one sentence each."""
    assert str(failure("tree:.@v9.9")) == f"{linux} has no commit v9.9"
    assert str(failure("tree:.@--help")) == f"{linux} has no commit --help"
    (tmp_path / "bare").mkdir()
    bare = failure(f"tree:{tmp_path / 'bare'}")
    assert f"{tmp_path / 'bare'} is not a git repository" in str(bare)
    assert "a tree that is built already is given without tree:" in bare.hint
    git("clone", "--quiet", "--no-checkout", ".", str(tmp_path / "empty"))
    assert f"the working tree of {tmp_path / 'empty'} cannot be read" in str(failure(f"tree:{tmp_path / 'empty'}"))
    Path("Kbuild").unlink()
    assert str(failure("tree:.")) == f"{linux} is not a kernel tree"
    assert all(failure(f"tree:.@{rev}").exit_code == ExitCode.BROKEN for rev in ("v9.9", "@{u}"))
