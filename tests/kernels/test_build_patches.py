# SPDX-License-Identifier: GPL-2.0-only
"""Patches for a kernel: diffs, mails and mailboxes, in all usual forms."""

from __future__ import annotations

import base64
import gzip
from pathlib import Path

import pytest

from common import cache
from common.errors import KernelError, UsageError
from kernels.resolve import resolve
from tests.kernels.sources import BUILT, change, commit, compiled, failure, git

pytestmark = BUILT


def test_patches(linux: Path, tmp_path: Path) -> None:
    """A diff, a mail and an mbox are applied in their order, and equal sources give the same kernel."""
    plain = tmp_path / "plain.diff"
    plain.write_text(change("net/core/sock_map.c"))
    commit("bpf: Count to three")
    change("net/core/skmsg.c", new="trois été")
    commit("bpf: Count in other languages, été, all of them")
    change("net/core/sock_map.c", old="two", new="four")
    commit("bpf: Count to four")
    git("format-patch", "--quiet", "-o", str(tmp_path), "HEAD~2")
    mails = sorted(tmp_path.glob("*.patch"))
    box = tmp_path / "series.mbox"
    box.write_bytes(b"".join(mail.read_bytes() for mail in mails))
    quoted = tmp_path / "quoted.mbox"
    quoted.write_bytes(
        mails[0].read_bytes().replace(b"Encoding: 8bit", b"Encoding: quoted-printable").replace("é".encode(), b"=C3=A9")
        + mails[1].read_bytes()
    )
    expected = resolve("tree:.").digest
    for series in (box, quoted):
        kernel = resolve(f"tree:.@HEAD~3,patch={plain},patch={series}")
        assert kernel.digest == expected
        assert kernel.provenance["patches"] == f"plain.diff, {series.name}"
    before = len(compiled())
    assert resolve(f"tree:.@HEAD~3,patch={plain}").digest == resolve("tree:.@HEAD~2").digest
    assert len(compiled()) > before


@pytest.mark.parametrize("form", ["crlf", "p0", "mail-crlf", "gz", "base64"])
def test_forms_of_patches(linux: Path, tmp_path: Path, form: str) -> None:
    """A patch from a mailbox, a web page or another tool than git can be applied."""
    patch = tmp_path / "fix.patch"
    change("net/core/sock_map.c")
    diff = git("diff", "--no-prefix") if form == "p0" else git("diff")
    mail = f"From: a <a@invalid>\nSubject: [PATCH] x\n\nbody\n---\n{diff}-- \n2.39\n"
    commit("Fix")
    if form == "base64":
        head, _, body = mail.partition("\n\n")
        packed = base64.encodebytes(body.replace("\n", "\r\n").encode()).decode()
        mail = f"{head}\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\n{packed}"
    content = {
        "crlf": diff.replace("\n", "\r\n"), "p0": diff, "mail-crlf": mail.replace("\n", "\r\n"), "gz": mail,
        "base64": mail,
    }[form].encode()  # fmt: skip
    patch.write_bytes(gzip.compress(content) if form == "gz" else content)
    assert resolve(f"tree:.@HEAD~1,patch={patch}").digest == resolve("tree:.@HEAD").digest


def test_a_thread_is_its_series(linux: Path, tmp_path: Path) -> None:
    """From a thread as a mailbox, the patches are applied by their numbers, and a reviewer's suggestion is not."""
    mails = []
    for number, (old, new) in enumerate([("int one", "int first"), ("int first", "int second")], 1):
        mails.append(f"From a Mon Sep 17 00:00:00 2001\nFrom: a <a@invalid>\nSubject: [PATCH v2 {number}/2] n\n\n"
                     f"---\n{change('net/core/skmsg.c', old, new)}-- \n2.39\n\n")  # fmt: skip
        commit(f"Part {number}")
    reply = change("net/core/sock_map.c")
    git("checkout", "--quiet", ".")
    mails.insert(0, f"From a Mon Sep 17 00:00:00 2001\nFrom: b <b@invalid>\nSubject: Re: [PATCH v2 1/2] n\n\n"
                    f"Rather:\n---\n{reply}\n\n")  # fmt: skip
    (tmp_path / "thread.mbox").write_text("".join(reversed(mails)))
    messages: list[str] = []
    kernel = resolve(f"tree:.@HEAD~2,patch={tmp_path / 'thread.mbox'}", progress=messages.append)
    assert kernel.digest == resolve("tree:.@HEAD").digest
    assert any("the diff in the reply 'Re: [PATCH v2 1/2] n' is left out" in each for each in messages)


def test_a_patch_that_does_not_apply(linux: Path, tmp_path: Path) -> None:
    """The error names the patch and the place, and a bisection skips the commit. Another file is wrong usage."""
    patch = tmp_path / "fix.patch"
    patch.write_text(change("net/core/sock_map.c"))
    error = failure(f"tree:.,patch={patch}")
    assert isinstance(error, KernelError)
    assert str(error).startswith("fix.patch does not apply to linux at ")
    assert str(error).endswith("patch failed: net/core/sock_map.c:1")
    patch.write_text("no diff\n")
    error = failure(f"tree:.,patch={patch}")
    assert isinstance(error, UsageError)
    assert str(error) == f"{patch} holds no diff"
    assert not list((cache.root() / "partial").iterdir())


@pytest.mark.parametrize("head", ["Subject: [PATCH " + "9" * 5000 + "/9] n", "Subject: n\nX: " + "x" * 100_000])
def test_a_mail_with_odd_headers_is_a_patch(linux: Path, tmp_path: Path, head: str) -> None:
    """Neither a number without end nor a header of that kind is a fault of the suite."""
    patch = tmp_path / "odd.mbox"
    patch.write_text(f"From a Mon Sep 17 00:00:00 2001\nFrom: a <a@invalid>\n{head}\n\n{change('net/core/sock_map.c')}")
    commit("Changed")
    assert resolve(f"tree:.@HEAD~1,patch={patch}").digest == resolve("tree:.@HEAD").digest


def test_a_mail_that_git_cannot_read_is_named(linux: Path, tmp_path: Path) -> None:
    """A mail in an unknown character set is one sentence with the file."""
    patch = tmp_path / "odd.mbox"
    coded = "Subject: =?nosuch?q?=ff?=\nContent-Type: text/plain; charset=nosuch"
    patch.write_text(f"From a Mon Sep 17 00:00:00 2001\n{coded}\n\n{change('net/core/sock_map.c')}")
    error = failure(f"tree:.,patch={patch}")
    assert isinstance(error, UsageError)
    assert str(error).startswith(f"{patch} holds a mail that git cannot read: ")
