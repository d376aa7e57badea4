# SPDX-License-Identifier: GPL-2.0-only
"""Patches: diffs, or mails with diffs, applied to a source tree as git has it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from common.errors import KernelError
from common.errors import UsageError
from kernels.repository import GitError
from kernels.repository import Repository
from kernels.repository import scratch

_MAIL = re.compile(rb"^(From |Subject: )", re.MULTILINE)
_DIFF = re.compile(rb"^(diff --git |--- \S)", re.MULTILINE)


def apply(repository: Repository, tree: str, patches: Sequence[Path], title: str) -> str:
    """Return the tree with the patches applied in their order; KernelError names one that does not apply."""
    if not patches:
        return tree
    with scratch() as folder:
        index = folder / "index"
        repository.run("read-tree", tree, index=index)
        for place, path in enumerate(patches):
            diffs = [diff for diff in _diffs(repository, path, folder / str(place)) if _DIFF.search(diff)]
            if not diffs:
                raise UsageError(f"{path} holds no diff", hint="give a diff, a mail with one, or an mbox of such mails")
            for number, diff in enumerate(diffs, 1):
                try:
                    repository.run("apply", "--cached", "--whitespace=nowarn", "-", index=index, stdin=diff)
                except GitError as error:
                    which = f"{path.name} ({number} of {len(diffs)})" if len(diffs) > 1 else path.name
                    raise KernelError(
                        f"{which} does not apply to {title}: {error}", hint="rebase it, or name the commit it is for"
                    ) from error
        return repository.run("write-tree", index=index)


def _diffs(repository: Repository, path: Path, folder: Path) -> list[bytes]:
    """Return a diff as it is, and the diffs of mails decoded as `git am` would."""
    data = path.read_bytes()
    if not _MAIL.search(data.partition(b"\n\n")[0]):
        return [data]
    folder.mkdir()
    repository.run("mailsplit", "-b", f"-o{folder}", path)
    found = []
    for mail in sorted(folder.iterdir()):
        diff = mail.with_suffix(".diff")
        repository.run("mailinfo", mail.with_suffix(".message"), diff, stdin=mail.read_bytes())
        found.append(diff.read_bytes())
    return found
