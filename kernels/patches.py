# SPDX-License-Identifier: GPL-2.0-only
"""Patches: diffs, or mails with diffs, applied to a source tree as git has it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from common.errors import KernelError, UsageError
from kernels import unpack
from kernels.repository import GitError, Repository, scratch

_LIMIT = 64 << 20
"""Bytes of a gzipped mailbox, unpacked."""

_NUMBER = re.compile(r"\[[^\]]*\b(?P<number>\d{1,4})/(?P<of>\d{1,4})\]")
"""A mail's place in its series."""
_REPLY = re.compile(r"(?:re|aw|antw|sv)(?:\[\d+\])?:", re.IGNORECASE)

_MAIL = re.compile(rb"^(From |Subject: )", re.MULTILINE)
_DIFF = re.compile(rb"^(diff --git |--- \S)", re.MULTILINE)


_NO_DIFF_HINT = "give a diff, a mail with one, or an mbox of such mails"


def check_patch(path: Path) -> None:
    """Raise UsageError for a file that cannot be a patch: without a mail, and without a diff."""
    data = _content(path)
    if not _is_mail(data) and not _DIFF.search(data):
        raise UsageError(f"{path} holds no diff", hint=_NO_DIFF_HINT)


def apply(repository: Repository, tree: str, patches: Sequence[Path], title: str, tell: Callable[[str], None]) -> str:
    """Return the tree with the patches applied in their order; KernelError names one that does not apply.

    `tell` receives a sentence about each mail of a mailbox that is left out.
    """
    if not patches:
        return tree
    with scratch() as folder:
        index = folder / "index"
        repository.run("read-tree", tree, index=index)
        for place, path in enumerate(patches):
            diffs = [diff for diff in _diffs(repository, path, folder / str(place), tell) if _DIFF.search(diff)]
            if not diffs:
                raise UsageError(f"{path} holds no diff", hint=_NO_DIFF_HINT)
            for number, diff in enumerate(diffs, 1):
                try:
                    _apply(repository, index, diff)
                except GitError as error:
                    which = f"{path.name} ({number} of {len(diffs)})" if len(diffs) > 1 else path.name
                    raise KernelError(
                        f"{which} does not apply to {title}: {error}", hint="rebase it, or name the commit it is for"
                    ) from error
        return repository.run("write-tree", index=index)


def _apply(repository: Repository, index: Path, diff: bytes) -> None:
    """Apply a diff, whose paths may begin with a/ and b/ or not."""
    try:
        repository.run("apply", "--cached", "--whitespace=nowarn", "-", index=index, stdin=diff)
    except GitError:
        try:
            repository.run("apply", "--cached", "--whitespace=nowarn", "-p0", "-", index=index, stdin=diff)
        except GitError:
            pass
        else:
            return
        raise


def _diffs(repository: Repository, path: Path, folder: Path, tell: Callable[[str], None]) -> list[bytes]:
    """Return a diff unchanged, and the diffs of mails decoded as by `git am`, in the order of the series.

    A reply to a mail is not part of the series, even with a diff in it.
    """
    data = _content(path)
    if not _is_mail(data):
        return [data]
    folder.mkdir()
    (folder / "mbox").write_bytes(data)
    (folder / "mails").mkdir()
    repository.run("mailsplit", "-b", f"-o{folder / 'mails'}", folder / "mbox")
    found: list[tuple[int, bytes]] = []
    for mail in sorted((folder / "mails").iterdir()):
        diff, message = folder / f"{mail.name}.diff", folder / f"{mail.name}.message"
        told = _told(repository, path, message, diff, mail.read_bytes())
        subject = next((line[9:] for line in told.splitlines() if line.startswith("Subject: ")), "")
        content = diff.read_bytes()
        if _REPLY.match(subject):
            if _DIFF.search(content):
                tell(f"{path.name}: the diff in the reply {subject!r} is left out")
            continue
        place = _NUMBER.search(subject)
        found.append((int(place["number"]) if place is not None else len(found), content))
    return [content for _, content in sorted(found, key=lambda each: each[0])]


def _is_mail(data: bytes) -> bool:
    """Return whether a file begins with the header of a mail, whose diff may be encoded."""
    return _MAIL.search(data.partition(b"\n\n")[0]) is not None


def _told(repository: Repository, path: Path, message: Path, diff: Path, mail: bytes) -> str:
    """Have git take a mail apart, into two files and the header, which is returned; UsageError if it cannot."""
    try:
        return repository.run("mailinfo", "-k", "--quoted-cr=strip", message, diff, stdin=mail)
    except GitError as error:
        raise UsageError(f"{path} holds a mail that git cannot read: {error}", hint="give the diff itself") from error


def _content(path: Path) -> bytes:
    """Return a patch, unpacked, with line feeds as in git; UsageError if it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        hint = "give a diff, a mail or an mbox that you may read"
        raise UsageError(f"cannot read the patch {path}: {error.strerror}", hint=hint) from error
    try:
        data = unpack.whole(data, _LIMIT) if data[:2] == b"\x1f\x8b" else data
    except (unpack.CorruptError, unpack.TooLargeError) as error:
        raise UsageError(f"{path} cannot be unpacked: {error}", hint="give a diff, a mail or an mbox") from error
    lines = data.split(b"\n")
    # Only if all lines end with CRLF: a diff may change a file that has such lines.
    return data.replace(b"\r\n", b"\n") if all(line.endswith(b"\r") for line in lines[:-1]) else data
