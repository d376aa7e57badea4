# SPDX-License-Identifier: GPL-2.0-only
"""Real KVM on hosts without it: /dev/kvm works in a guest whose CPU QEMU emulates with AMD's SVM.

`pytest tests/vm/test_nested_kvm.py --nested` takes some ten minutes. The outer guest runs Debian's own kernel and sees
all files of this host, read-only; it is as trusted as the host.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from common import cache
from kernels.resolve import resolve

pytestmark = pytest.mark.vm

ROOT: Final = Path(__file__).parents[2]
INNER: Final = ("debian:5.10", "debian:6.12")
SECONDS: Final = 3000.0
CPU: Final = "max,-xsave,-avx,-avx2"
"""Without XSAVE: with it, a nested guest of QEMU 7.2's TCG calculates wrongly; Python's int("2") is a huge number."""

SHARED: Final = Path("/dev", "shm")
"""A tmpfs in the outer guest."""


@pytest.fixture(name="report", scope="module")
def _report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """The results from the outer guest, by kernel."""
    if not request.config.option.nested:
        pytest.skip("takes ten minutes: run it with --nested")
    folder = tmp_path_factory.mktemp("nested")
    outer = unpacked_kernel(folder)
    inner = [str(cache.root() / "kernels" / resolve(spec).digest) for spec in INNER]
    script = folder / "script"
    script.write_text(script_for(outer, folder, inner))
    script.chmod(0o755)
    # fmt: off
    command = [
        sys.executable, "-P", "-m", "virtme.commands.run",
        "--kimg", str(next(outer.glob("boot/vmlinuz-*"))),
        "--mods", "auto",
        "--cpus", "2",
        "--memory", "6G",
        "--disable-kvm",
        "--force-9p",
        "--root", "/",
        "--rwdir", str(folder),
        "--script-sh", str(script),
        "--qemu-opts", "-cpu", CPU,
    ]
    # fmt: on
    with (folder / "console").open("wb") as console:
        subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, timeout=SECONDS, check=False, cwd=ROOT
        )
    lines = [
        line
        for name in ("console", "out")
        for line in ((folder / name).read_text(errors="replace").splitlines() if (folder / name).exists() else ())
    ]
    last = next(reversed(lines), "the outer guest did not start")
    if not last.startswith("{"):
        pytest.fail("\n".join(lines[-40:]), pytrace=False)
    found: dict[str, Any] = json.loads(last)
    return dict(zip(INNER, found.values(), strict=True))


def unpacked_kernel(folder: Path) -> Path:
    """Return the files of Debian's kernel package, which has the module kvm_amd, with its modules indexed."""
    depends = subprocess.run(["apt-cache", "depends", "linux-image-amd64"], capture_output=True, text=True, check=False)
    names = [word for word in depends.stdout.split() if word.startswith("linux-image-")]
    if not names or subprocess.run(["apt-get", "download", names[-1]], cwd=folder, check=False).returncode:
        pytest.skip("Debian's kernel package is not within reach")
    target = folder / "kernel"
    subprocess.run(["dpkg-deb", "-x", next(folder.glob("*.deb")), target], check=True)
    release = next(target.glob("lib/modules/*")).name
    subprocess.run(["depmod", "-b", target, release], check=True)
    return target


def script_for(outer: Path, folder: Path, inner: list[str]) -> str:
    """Return the script of the outer guest; memory files are on tmpfs, because QEMU cannot share them on 9p."""
    words = shlex.join([sys.executable, "-P", "-m", "tests.vm.nested", f"{SHARED}/results", *inner])
    return "\n".join(
        [
            "#!/bin/sh",
            f"exec > {shlex.quote(str(folder / 'out'))} 2>&1",
            f"mount -t tmpfs -o size=3500m tmpfs {SHARED}",
            f"mkdir -p {SHARED}/cache/{cache.root().name}",
            f"cp -r {shlex.quote(str(cache.root() / 'bpf'))} {SHARED}/cache/{cache.root().name}",
            f"modprobe -d {shlex.quote(str(outer))} kvm_amd || exit",
            f"export XDG_CACHE_HOME={SHARED}/cache TMPDIR={SHARED} HOME={SHARED} PYTHONDONTWRITEBYTECODE=1",
            f"export PATH={shlex.quote(os.environ['PATH'])} PYTHONPATH={shlex.quote(str(ROOT))}",
            f"cd {shlex.quote(str(ROOT))}",
            words,
            "",
        ]
    )


@pytest.mark.parametrize("spec", INNER)
def test_a_template_and_its_clones_live_under_kvm(report: Mapping[str, Any], spec: str) -> None:
    """KVM is chosen, a template is saved without its memory, and deadlines follow the speed that was measured."""
    clones = report[spec]["clones"]
    assert clones["accelerator"] == "kvm"
    assert clones["factor"] >= 1.0
    assert clones["state_bytes"] < 64 << 20, "the state holds the memory: x-ignore-shared has no effect"
    assert [each["status"] for each in clones["answers"]] == ["answered", "answered"]


@pytest.mark.parametrize("spec", INNER)
def test_a_clone_has_the_time_and_randomness_of_its_own(report: Mapping[str, Any], spec: str) -> None:
    """A clone's clock is set, though its template was saved long before, and no two clones draw the same bytes."""
    clones = report[spec]["clones"]
    first, second = clones["answers"]
    for each in (first, second):
        assert each["opened"] - clones["saved"] > 2 * (each["after"] - each["opened"]), "a clock not set would not show"
        assert each["opened"] <= each["value"]["time"] <= each["after"]
    assert first["value"]["random"] != second["value"]["random"]


@pytest.mark.parametrize("spec", INNER)
def test_accelerators_do_not_share_a_template(report: Mapping[str, Any], spec: str) -> None:
    """A guest that was saved under one accelerator is never restored under the other."""
    keys = report[spec]["clones"]["keys"]
    assert keys["kvm"] != keys["tcg"]


@pytest.mark.parametrize("spec", INNER)
def test_cases_pass_under_kvm(report: Mapping[str, Any], spec: str) -> None:
    """The suite judges a kernel under KVM as it does under TCG."""
    run = report[spec]["run"]
    assert run["code"] == 0, run["tail"]
    assert "KVM" in run["tail"]
