# SPDX-License-Identifier: GPL-2.0-only
"""Kernels built from source: a source of a few lines, with a Makefile that prints like the kernel's."""

from __future__ import annotations

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
from common.errors import ExitCode, HostError, KernelError
from kernels import build, inventory, make
from kernels.kernel import Kernel
from kernels.repository import Repository
from kernels.resolve import resolve
from tests.kernels import fakes
from tests.kernels.sources import BUILT, change, commit, compiled, everything, failure, git
from tests.waiting import wait_until

pytestmark = BUILT


def test_a_commit_is_built(linux: Path) -> None:
    """The kernel of a commit names its source, is cached, and the repository is unchanged."""
    before, messages = everything(linux), list[str]()
    kernel = resolve("tree:.@HEAD", progress=messages.append)
    assert (kernel.release, kernel.slug) == (fakes.RELEASE, "tree-linux-head")
    assert kernel.image is not None
    assert kernel.config["BPF_STREAM_PARSER"] == "y"
    assert kernel.provenance["commit"] == git("rev-parse", "HEAD").strip()
    assert kernel.provenance["repository"] == str(linux)
    assert (kernel.provenance["subject"], kernel.provenance["preset"]) == ("Begin", "fast")
    assert kernel.modules is None
    assert any("built in" in line for line in messages)
    assert resolve("tree:.@HEAD") == kernel
    assert resolve("tree:.").digest == kernel.digest
    assert sorted(compiled()) == ["net/core/skmsg.o", "net/core/sock_map.o"]
    assert everything(linux) == before
    (listed,) = inventory.built()
    assert (listed.spec, listed.release) == ("tree:.@HEAD", fakes.RELEASE)
    assert listed.title.startswith("linux at ")


def test_only_changed_files_are_compiled_again(linux: Path) -> None:
    """Another commit in the same tree compiles the file that it changed; the first one stays in the cache."""
    first = resolve("tree:.@HEAD")
    change("net/core/skmsg.c")
    commit("Change skmsg")
    second = resolve("tree:.")
    assert second.digest != first.digest
    assert compiled()[2:] == ["net/core/skmsg.o"]
    assert resolve("tree:.@HEAD~1").digest == first.digest
    assert len(compiled()) == 3


def test_the_working_tree_is_built_with_its_changes(linux: Path) -> None:
    """Tracked files are built with their uncommitted changes, which the name says; untracked files are left out."""
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
    """A compiler's error comes before a linker's, either before make's, and any line before none."""
    assert make.first_error(output).startswith(expected)


def test_fragments(linux: Path, tmp_path: Path) -> None:
    """A fragment overrides the configuration and changes the digest; a symbol that cannot be set is an error."""
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
    """The debug preset gives another kernel, in its own tree, with debugging options."""
    kernel = resolve("tree:.,preset=debug")
    assert all(kernel.config[symbol] == "y" for symbol in ("KASAN", "PROVE_LOCKING", "DEBUG_KMEMLEAK", "FAILSLAB"))
    assert kernel.digest != resolve("tree:.").digest
    assert len(list((cache.root() / "trees").iterdir())) == 2


def test_missing_tools(linux: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All missing tools are named together, before anything is fetched."""
    monkeypatch.setattr(make, "PACKAGES", (("x-dev", "", "/no/x.h"), ("make", "", "make"), ("y", "", "no-such-y")))
    error = failure("tree:.")
    assert isinstance(error, HostError)
    assert str(error) == "building a kernel needs packages that are not installed: x-dev, y"
    assert error.hint == "apt-get install x-dev y"


@pytest.mark.skipif(shutil.which("vng", path=os.path.dirname(sys.executable)) is None, reason="no vng beside Python")
def test_virtme_configures(linux: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """virtme-ng makes the configuration, with our fragments on top; an unchanged one keeps its date."""
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
    """After a kill during a build no process of it runs on."""
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


@fakes.NEEDS_APT
def test_debian_s_source(linux: Path, tmp_path: Path, archive: fakes.FakeArchive) -> None:
    """The newest matching package is fetched once, and is imported to git with all file modes."""
    Path("net/core/run").symlink_to("skmsg.c")
    Path("Makefile").chmod(0o755)
    commit("Have a link and an executable")
    archive.add(fakes.image_package(tmp_path))
    archive.add(sources(linux, tmp_path, "6.12.95-1"), name="linux-source-6.12", version="6.12.95-1")
    messages: list[str] = []
    kernel = resolve("source:6.12", progress=messages.append)
    assert kernel.provenance["tree"] == git("rev-parse", "HEAD^{tree}").strip()
    assert (kernel.provenance["package"], kernel.provenance["version"]) == ("linux-source-6.12", "6.12.95-1")
    assert any("downloading linux-source-6.12" in line for line in messages)
    assert [offer.release for offer in inventory.offered()] == [fakes.RELEASE]

    messages.clear()
    change("net/core/skmsg.c")
    archive.add(sources(linux, tmp_path, "6.12.96-1"), name="linux-source-6.12", version="6.12.96-1")
    assert resolve("source:6.12", progress=messages.append) == kernel
    assert not messages
    newer = resolve("source:6.12", refresh=True)
    assert newer.provenance["version"] == "6.12.96-1"
    assert compiled()[2:] == ["net/core/skmsg.o"]
    assert resolve("source:6.12.95-1").digest == kernel.digest
    error = failure("source:9.9")
    assert (str(error), error.hint) == ("no suite of the archive has the source of 9.9", "there is: source:6.12")
    assert Repository().known("no such package") == ""


def test_prune(linux: Path) -> None:
    """Built kernels and their build trees are pruned like any kernel."""
    kernel: Kernel = resolve("tree:.")
    assert kernel.image is not None
    assert inventory.prune() > 0
    assert not kernel.image.exists()
    assert not list((cache.root() / "trees").iterdir())
    assert not (cache.root() / "sources").exists()
    assert resolve("tree:.").digest == kernel.digest
