# SPDX-License-Identifier: GPL-2.0-only
"""Kernels built from source: a source of a few lines, with a Makefile that talks like the kernel's."""

from __future__ import annotations

import base64
import gzip
import lzma
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from common import cache
from common.errors import ConformError
from common.errors import ExitCode
from common.errors import HostError
from common.errors import KernelError
from common.errors import UsageError
from conformance.compare import identity
from kernels import apt
from kernels import build
from kernels import inventory
from kernels import make
from kernels import origin
from kernels.kernel import Kernel
from kernels.repository import Repository
from kernels.resolve import resolve
from kernels.spec import parse
from tests.kernels import fakes
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(
    shutil.which("make") is None or shutil.which("git") is None, reason="a kernel is built by make from what git has"
)

MAKEFILE = """\
OBJECTS = net/core/sock_map.o net/core/skmsg.o
all: arch/x86/boot/bzImage
arch/x86/boot/bzImage: $(OBJECTS) .config
	mkdir -p arch/x86/boot include/config
	cat fake.image > $@
	echo map > System.map
	echo @RELEASE@ > include/config/kernel.release
%.o: %.c
	@echo '  CC      $@'
	@! grep -Hn '^#error' $< | sed 's/:#error/: error: #error/' | grep . >&2
	@cp $< $@; echo $@ >> compiled
x86_64_defconfig:
	echo CONFIG_NET=y > .config
olddefconfig:
	grep -v ABSENT .config > .config.new && mv .config.new .config
"""


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tools that a real kernel would take, which are not wanted here."""

    def configure(tree: Path, fragments: tuple[Path, ...], log: Path) -> None:
        wanted = build._wanted(fragments)
        lines = [f"CONFIG_{name}={value}\n" for name, value in wanted.items() if value != "n" and name != "ABSENT"]
        (tree / ".config").write_text("".join(lines))

    monkeypatch.setattr(make, "PACKAGES", ())
    monkeypatch.setattr(make, "compiler", lambda: "cc 1")
    monkeypatch.setattr(make, "configure", configure)


@pytest.fixture
def linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with a kernel, in which the user stands."""
    root = tmp_path / "linux"
    (root / "net/core").mkdir(parents=True)
    (root / "Makefile").write_text(MAKEFILE.replace("@RELEASE@", fakes.RELEASE))
    (root / ".gitignore").write_text("*.o\n")
    (root / "Kbuild").touch()
    (root / "Kconfig").touch()
    (root / "fake.image").write_bytes(fakes.bzimage(gzip.compress(fakes.vmlinux())))
    for name in ("sock_map", "skmsg"):
        (root / f"net/core/{name}.c").write_text(f"int {name};\nint one;\nint two;\n")
    monkeypatch.chdir(root)
    git("init", "--quiet")
    commit("Begin")
    return root


def git(*arguments: str) -> str:
    """Run the user's git."""
    identity = ("-c", "user.name=a", "-c", "user.email=a@invalid")
    return subprocess.run(["git", *identity, *arguments], capture_output=True, text=True, check=True).stdout


def commit(subject: str) -> None:
    """Commit everything."""
    git("add", "--all")
    git("commit", "--quiet", "-m", subject)


@pytest.mark.parametrize("spec", ["tree:.", "tree:.@HEAD"])
def test_reading_a_repository_runs_nothing_that_it_names(linux: Path, tmp_path: Path, spec: str) -> None:
    """What a repository's configuration names is not run until its tree is built: filters, hooks, monitors, gpg."""
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


def change(path: str, old: str = "one", new: str = "three") -> str:
    """Change a file of the user's and return the diff."""
    file = Path(path)
    file.write_text(file.read_text().replace(old, new))
    return git("diff")


def compiled() -> list[str]:
    """Return what was compiled in the trees of the cache, in order."""
    return [line for path in (cache.root() / "trees").glob("*/linux/compiled") for line in path.read_text().split()]


def everything(root: Path) -> dict[str, tuple[int, bytes]]:
    """Return all files below a folder, by their time and content; git notes in an object's time that it was used."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path): (0 if "objects" in path.parts else path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def failure(spec: str) -> ConformError:
    """Return the error that a spec ends in."""
    with pytest.raises(ConformError) as caught:
        resolve(spec)
    return caught.value


def test_a_commit_is_built(linux: Path) -> None:
    """A commit becomes a kernel that says what it was built from, is cached, and leaves the repository as it was."""
    before, told = everything(linux), list[str]()
    kernel = resolve("tree:.@HEAD", progress=told.append)
    assert (kernel.release, kernel.slug) == (fakes.RELEASE, "tree-linux-head")
    assert kernel.image is not None
    assert kernel.config["BPF_STREAM_PARSER"] == "y"
    assert kernel.provenance["commit"] == git("rev-parse", "HEAD").strip()
    assert kernel.provenance["repository"] == str(linux)
    assert (kernel.provenance["subject"], kernel.provenance["preset"]) == ("Begin", "fast")
    assert kernel.modules is None
    assert any("built in" in line for line in told)
    assert resolve("tree:.@HEAD") == kernel
    assert resolve("tree:.").digest == kernel.digest
    assert sorted(compiled()) == ["net/core/skmsg.o", "net/core/sock_map.o"]
    assert everything(linux) == before
    (listed,) = inventory.built()
    assert (listed.spec, listed.release) == ("tree:.@HEAD", fakes.RELEASE)
    assert listed.title.startswith("linux at ")


def test_only_what_differs_is_built_anew(linux: Path) -> None:
    """Another commit in the same tree compiles the file that it changed; the first one stays in the cache."""
    first = resolve("tree:.@HEAD")
    change("net/core/skmsg.c")
    commit("Change skmsg")
    second = resolve("tree:.")
    assert second.digest != first.digest
    assert compiled()[2:] == ["net/core/skmsg.o"]
    assert resolve("tree:.@HEAD~1").digest == first.digest
    assert len(compiled()) == 3


def test_the_working_tree_is_built_as_it_lies_there(linux: Path) -> None:
    """What git tracks is built with its uncommitted changes, which it says; what git does not know is left out."""
    clean = resolve("tree:.")
    assert "uncommitted" not in clean.provenance
    change("net/core/skmsg.c")
    Path("results").mkdir()
    Path("results/events.jsonl").touch()
    before = everything(linux)
    dirty = resolve("tree:.")
    assert dirty.digest != clean.digest
    assert dirty.provenance["uncommitted"]
    assert dirty.provenance["commit"] == clean.provenance["commit"]
    assert resolve("tree:.@HEAD").digest == clean.digest
    assert everything(linux) == before


def test_a_linked_worktree_is_a_repository_too(linux: Path, tmp_path: Path) -> None:
    """Where `.git` is a file, its repository is found."""
    git("worktree", "add", "--quiet", str(tmp_path / "other"))
    assert resolve(f"tree:{tmp_path / 'other'}").digest == resolve("tree:.").digest


def test_a_hook_s_environment_does_not_lead_astray(linux: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run by git itself, with its variables set, the suite still works on its own repository."""
    expected = resolve("tree:.@HEAD").digest
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "GIT_OBJECT_DIRECTORY"):
        monkeypatch.setenv(name, "/nowhere")
    assert resolve("tree:.@HEAD").digest == expected


def test_patches(linux: Path, tmp_path: Path) -> None:
    """A diff, a mail and an mbox are applied in their order, and the same state is the same kernel however it came."""
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
    """A patch is applied as it comes out of a mailbox, a web page or another tool than git."""
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
    """Of a thread as a mailbox the patches are applied by their numbers, and not what a reviewer suggests."""
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
    told: list[str] = []
    kernel = resolve(f"tree:.@HEAD~2,patch={tmp_path / 'thread.mbox'}", progress=told.append)
    assert kernel.digest == resolve("tree:.@HEAD").digest
    assert any("the diff in the reply 'Re: [PATCH v2 1/2] n' is left out" in each for each in told)


def test_a_patch_that_does_not_apply(linux: Path, tmp_path: Path) -> None:
    """It is named with the place, and the kernel cannot be judged: a bisection goes on. What is none is wrong usage."""
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


def test_what_does_not_build(linux: Path) -> None:
    """The compiler's first error is the sentence, the log is kept, and the next good state builds in the same tree."""
    change("net/core/skmsg.c", old="int one", new="#error broken")
    commit("Break the build")
    error = failure("tree:.@HEAD")
    assert error.exit_code == ExitCode.CANNOT_JUDGE
    assert str(error) == "the kernel does not build: net/core/skmsg.c:2: error: #error broken;"
    log = Path(error.hint.removeprefix("the log is "))
    assert "error: #error broken" in log.read_text()
    assert not list((cache.root() / "built").glob("*"))
    resolve("tree:.@HEAD~1")
    assert sorted(compiled()) == ["net/core/skmsg.o", "net/core/sock_map.o"]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (["make[2]: *** [a.o] Error 1", "net/a.c:3: fatal error: x.h: No such file"], "net/a.c:3: fatal error: x.h:"),
        (["net/a.c:1:2: warning: error: no", "ld: net/a.o: undefined reference to `f'"], "ld: net/a.o: undefined"),
        (["/bin/sh: 1: flex: not found", "make: *** [lex] Error 127"], "/bin/sh: 1: flex: not found"),
        (["FAILED: load BTF from vmlinux: Invalid argument", "make: *** Error 255"], "FAILED: load BTF"),
        (["all is well", "make: *** [Makefile:1: all] Error 2", "make: *** again"], "make: *** [Makefile:1: all]"),
        (["Killed", ""], "Killed"),
        ([], "it does not say why"),
    ],
)
def test_first_error(output: list[str], expected: str) -> None:
    """A compiler's error comes before a linker's, either before what make says, anything before nothing."""
    assert make.first_error(output).startswith(expected)


def test_the_repository_and_the_revision_must_be_there(linux: Path, tmp_path: Path) -> None:
    """What is no repository, no kernel and no revision is wrong usage, one sentence each."""
    assert str(failure("tree:.@v9.9")) == f"{linux} has no commit v9.9"
    assert str(failure("tree:.@--help")) == f"{linux} has no commit --help"
    (tmp_path / "bare").mkdir()
    assert f"{tmp_path / 'bare'} is not a git repository" in str(failure(f"tree:{tmp_path / 'bare'}"))
    git("clone", "--quiet", "--no-checkout", ".", str(tmp_path / "empty"))
    assert f"the working tree of {tmp_path / 'empty'} cannot be read" in str(failure(f"tree:{tmp_path / 'empty'}"))
    Path("Kbuild").unlink()
    assert str(failure("tree:.")) == f"tree:.: {linux} is not a kernel tree"
    assert all(failure(f"tree:.@{rev}").exit_code == ExitCode.BROKEN for rev in ("v9.9", "@{u}"))


def test_fragments(linux: Path, tmp_path: Path) -> None:
    """A fragment on top decides, makes another kernel, and must be had: without it there is no kernel to judge."""
    more, absent, wrong = (tmp_path / name for name in ("more.config", "absent.config", "wrong.config"))
    more.write_text("# why\nCONFIG_IPV6=m\n# CONFIG_TLS is not set\n")
    absent.write_text("CONFIG_ABSENT=y\n")
    wrong.write_text("CONFIG_IPV6=y # inline\n")
    kernel = resolve(f"tree:.,config={more}")
    assert (kernel.config["IPV6"], "TLS" in kernel.config) == ("m", False)
    assert kernel.digest != resolve("tree:.").digest
    error = failure(f"tree:.,config={absent}")
    assert isinstance(error, KernelError)
    assert str(error) == f"tree:.,config={absent} cannot be configured with CONFIG_ABSENT=y"
    assert str(failure(f"tree:.,config={wrong}")).startswith(f"{wrong}:1: this is not a line of a configuration")


def test_the_debug_preset(linux: Path) -> None:
    """It is another kernel, in a tree of its own, with what finds mistakes."""
    kernel = resolve("tree:.,preset=debug")
    assert all(kernel.config[symbol] == "y" for symbol in ("KASAN", "PROVE_LOCKING", "DEBUG_KMEMLEAK", "FAILSLAB"))
    assert kernel.digest != resolve("tree:.").digest
    assert len(list((cache.root() / "trees").iterdir())) == 2


def test_missing_tools(linux: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is missing is said at once, before anything is fetched."""
    monkeypatch.setattr(make, "PACKAGES", (("x-dev", "", "/no/x.h"), ("make", "", "make"), ("y", "", "no-such-y")))
    error = failure("tree:.")
    assert isinstance(error, HostError)
    assert str(error) == "building a kernel takes what is not installed: x-dev, y"
    assert error.hint == "apt-get install x-dev y"


@pytest.mark.skipif(shutil.which("vng", path=os.path.dirname(sys.executable)) is None, reason="no vng beside Python")
def test_virtme_configures(linux: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """virtme-ng makes the configuration, ours on top of its own; the same one again is not touched."""
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fragments = [build.FRAGMENTS / "suite.config"]
    make.configure(linux, fragments, tmp_path / "log")
    before = (linux / ".config").stat().st_mtime_ns
    lines = (linux / ".config").read_text().splitlines()
    assert lines.index("# CONFIG_IPV6 is not set") < lines.index("CONFIG_IPV6=y")
    assert "CONFIG_VIRTIO_CONSOLE=y" in lines
    make.configure(linux, fragments, tmp_path / "log")
    assert (linux / ".config").stat().st_mtime_ns == before


def test_make_ends_with_us(linux: Path) -> None:
    """Killed in the middle of a build, nothing of it runs on."""
    change("Makefile", old="all:", new="all:\n\techo $$$$ > ../pid; exec sleep 1000\nold:")
    commit("Hang")
    script = (
        "import sys; from kernels import make; from pathlib import Path; make.build(Path('.'), Path('../log'), print)"
    )
    root = str(Path(__file__).parents[2])
    with subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": root}) as process:
        pid = linux.parent / "pid"
        wait_until(lambda: pid.exists() and bool(pid.read_text().strip()), "make runs")
        process.send_signal(signal.SIGKILL)
    running = Path("/proc") / pid.read_text().strip()
    wait_until(lambda: not running.exists(), "make is gone")


def sources(linux: Path, folder: Path, version: str) -> Path:
    """Build the package of a kernel's source out of a repository."""
    inner = BytesIO()
    with lzma.open(inner, "w") as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for path in git("ls-files").split():
            archive.add(linux / path, f"linux-source-6.12/{path}")
    (folder / version).mkdir()
    return fakes.package(folder / version, "linux-source-6.12", {"usr/src/linux-source-6.12.tar.xz": inner.getvalue()})


@pytest.mark.skipif(shutil.which("apt-get") is None or not apt.HELPER.exists(), reason="only a Debian machine has apt")
def test_debian_s_source(linux: Path, tmp_path: Path, archive: fakes.Archive) -> None:
    """The newest package that answers is fetched once, and is the same source as git has it, executables and all."""
    Path("net/core/run").symlink_to("skmsg.c")
    Path("Makefile").chmod(0o755)
    commit("Have a link and an executable")
    archive.add(fakes.image_package(tmp_path))
    archive.add(sources(linux, tmp_path, "6.12.95-1"), name="linux-source-6.12", version="6.12.95-1")
    told: list[str] = []
    kernel = resolve("source:6.12", progress=told.append)
    assert kernel.provenance["tree"] == git("rev-parse", "HEAD^{tree}").strip()
    assert (kernel.provenance["package"], kernel.provenance["version"]) == ("linux-source-6.12", "6.12.95-1")
    assert any("downloading linux-source-6.12" in line for line in told)
    assert [offer.release for offer in inventory.offered()] == [fakes.RELEASE]

    told.clear()
    change("net/core/skmsg.c")
    archive.add(sources(linux, tmp_path, "6.12.96-1"), name="linux-source-6.12", version="6.12.96-1")
    assert resolve("source:6.12", progress=told.append) == kernel
    assert not told
    newer = resolve("source:6.12", refresh=True)
    assert newer.provenance["version"] == "6.12.96-1"
    assert compiled()[2:] == ["net/core/skmsg.o"]
    assert resolve("source:6.12.95-1").digest == kernel.digest
    error = failure("source:9.9")
    assert (str(error), error.hint) == ("no suite of the archive has the source of 9.9", "there is: source:6.12")
    assert Repository().known("no such package") == ""


def test_prune(linux: Path) -> None:
    """What was built, and the trees it was built in, are thrown away like any kernel."""
    kernel: Kernel = resolve("tree:.")
    assert kernel.image is not None
    assert inventory.prune() > 0
    assert not kernel.image.exists()
    assert not list((cache.root() / "trees").iterdir())
    assert not (cache.root() / "sources").exists()
    assert resolve("tree:.").digest == kernel.digest
