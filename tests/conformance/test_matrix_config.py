# SPDX-License-Identifier: GPL-2.0-only
"""conform.toml is read strictly: an error names the mistyped key and the file."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from common.errors import UsageError
from conformance.groups import cases as all_cases
from conformance.nightly.config import _BOUNDS, DEFAULT, NAME, MatrixConfig, read
from conformance.run.options import expression_of
from conformance.run.run_options import read_options
from conformance.run.selection import choose
from tests.conformance.conform import conform


def _read(folder: Path, text: str) -> MatrixConfig:
    path = folder / NAME
    path.write_text(text)
    return read(path)


def test_the_default_reads_as_what_an_empty_file_means(tmp_path: Path) -> None:
    """What `conform config` prints changes nothing."""
    printed = conform("config", cwd=tmp_path)

    assert printed.returncode == 0
    assert printed.stdout == DEFAULT.read_text()
    assert _read(tmp_path, printed.stdout) == _read(tmp_path, "")


def test_the_configuration_reaches_the_run(tmp_path: Path) -> None:
    """Kernels, cases, lists, machines and outputs become the options of `conform run`."""
    text = """
        kernels = ["debian:6.12", "debian:6.12", "debian:6.1"]
        cases = ["*unix*"]
        [lists]
        deny = ["known"]
        [machines]
        cpus = 2
        workers = 3
        [outputs]
        folder = "nights"
        formats = []
    """
    (tmp_path / "known").write_text("steer # loses data; link=https://example.org/1; kernel=all; until=9999-12-31\n")
    asked = _read(tmp_path, text)
    options = asked.options()

    assert options.conform_kernel == ["debian:6.12", "debian:6.1"]
    assert (options.n, options.conform_cpus, options.conform_memory) == ("3", 2, 512)
    assert options.conform_case == ["*unix*"]
    assert asked.options(cases=["redirect"]).conform_case == ["redirect"]
    assert options.conform_denylist == [str(tmp_path / "known")]
    assert (asked.folder, asked.formats) == (tmp_path / "nights", ())


def test_one_kernel_is_hammered(tmp_path: Path) -> None:
    """Each pair of socket kinds is stressed for 5 s on the last kernel or the one named, with the seed given."""
    kernels = 'kernels = ["debian:6.12", "debian:6.1"]'

    def hammered(text: str) -> dict[str, set[str]]:
        options = _read(tmp_path, f"{kernels}\n{text}").options(seed=20261130)
        assert options.conform_seed == (20261130 if options.conform_stress else None)
        asked = read_options(options, expression_of(options))
        chosen = choose(asked.wanted, list(asked.specs), all_cases())
        usual = {case.id for case in all_cases() if case.group != "hammer"}
        assert all(usual <= set(of_kernel) for of_kernel in chosen.values())
        return {slug: {name for name in names if name.startswith("hammer/")} for slug, names in chosen.items()}

    every = {case.id for case in all_cases() if case.group == "hammer"}
    assert _read(tmp_path, kernels).options().conform_stress == 5
    assert hammered("") == {"debian-6.12": set(), "debian-6.1": every}
    assert hammered('[hammer]\nkernel = "debian:6.12"') == {"debian-6.12": every, "debian-6.1": set()}
    assert hammered("[hammer]\nseconds = 0") == {"debian-6.12": set(), "debian-6.1": set()}
    with pytest.raises(UsageError, match=r"'hammer\.kernel' is 'debian:7.3', which is none of 'kernels'"):
        _read(tmp_path, f'{kernels}\n[hammer]\nkernel = "debian:7.3"')
    with pytest.raises(UsageError, match=r"'hammer\.seconds' must be at least 0, not -1"):
        _read(tmp_path, f"{kernels}\n[hammer]\nseconds = -1")


def test_a_kernel_that_is_built_is_built_with_each_preset(tmp_path: Path) -> None:
    """A kernel that is not built from source is judged once."""
    asked = _read(tmp_path, 'kernels = ["debian:7.3", "source:7.3"]\npresets = ["fast", "debug"]')

    assert asked.kernels == ("debian:7.3", "source:7.3,preset=fast", "source:7.3,preset=debug")


@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        ('kernel = ["debian:6.12"]', "'kernel'"),
        ("[machines]\ncpu = 2", "'machines.cpu'"),
        ("[machine]\n", "'machine'"),
        ('kernels = "debian:6.12"', "'kernels' is a list of strings"),
        ("kernels = [6.12]", "'kernels' is a list of strings"),
        ("[machines]\ncpus = true", "'machines.cpus' is a number"),
        ("kernels = []", "'kernels' is empty"),
        ("presets = []", "'presets' is empty"),
        ('presets = ["slow"]', "'presets' cannot be 'slow'"),
        ('kernels = ["redhat:9"]', "'kernels': unknown kernel 'redhat:9'"),
        ('[machines]\naccelerator = "hvf"', "'hvf'"),
        ("[machines]\nworkers = -1", "'machines.workers' must be at least 0, not -1"),
        ("[machines]\nworkers = 99999999999999999999999999", "'machines.workers' must be at most 512, not 9999"),
        ("[machines]\ncpus = 0", "'machines.cpus' must be at least 1, not 0"),
        ("[machines]\ncpus = 9999", "'machines.cpus' must be at most 255, not 9999"),
        ("[machines]\nmemory = 1", "'machines.memory' must be at least 256, not 1"),
        ("[machines]\nmemory = 9999999999", "'machines.memory' must be at most 1048576, not 9999999999"),
        ("[hammer]\nseconds = 9223372036854775807", "'hammer.seconds' must be at most 86400, not 92"),
        ("[hammer]\nseconds = 0.5", "'hammer.seconds' is a number, not 0.5"),
        ('deadline = "99999999999999999999999999h"', "'deadline': 99999999999999999999 is longer than a year"),
        ('cases = ["steer", "nonesuch"]', "'cases': 'nonesuch' names no case"),
        ('cases = ["hammer/*"]\n[hammer]\nseconds = 0', "'hammer.seconds' is 0"),
        ('[machines]\nappend = "a\\u0000b"', "'machines.append' cannot hold a NUL"),
        ('[lists]\nallow = ["a\\u0000b"]', "'lists.allow' cannot hold a NUL"),
        ('[lists]\nallow = [""]', "'lists.allow' holds an empty path"),
        ('[lists]\ndeny = ["nonesuch"]', "'lists.deny': the list"),
        ('[lists]\nsplats = ["conform.toml"]', "'lists.splats':"),
        ('[outputs]\nfolder = ""', "'outputs.folder' holds an empty path"),
        ('[outputs]\nfolder = "conform.toml"', "'outputs.folder' is 'conform.toml', which is not a folder"),
        ('[outputs]\nformats = ["pdf"]', "'pdf'"),
        ('deadline = "soon"', "'deadline': 'soon'"),
        ("kernels = [", "is not TOML"),
    ],
)
def test_what_is_wrong_is_named(text: str, culprit: str, tmp_path: Path) -> None:
    """The error names the file and a right value."""
    with pytest.raises(UsageError) as caught:
        _read(tmp_path, text)

    assert str(tmp_path / NAME) in str(caught.value)
    assert culprit in str(caught.value)
    assert "--" not in str(caught.value)
    assert caught.value.hint


def test_every_number_has_bounds() -> None:
    """Every number has an upper bound that its readers can handle."""
    default = tomllib.loads(DEFAULT.read_text())
    tables = [("", default), *((f"{name}.", table) for name, table in default.items() if isinstance(table, dict))]

    assert {f"{table}{key}" for table, keys in tables for key in keys if isinstance(keys[key], int)} == set(_BOUNDS)


def test_a_missing_file_is_an_error_with_a_hint(tmp_path: Path) -> None:
    """A sentence, a hint, 128."""
    done = conform("matrix", cwd=tmp_path)

    assert done.returncode == 128
    assert done.stderr.splitlines()[1] == "  hint: write one with: ./conform config > conform.toml"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[outputs]\nfolder = "/etc"', "'outputs.folder' leads out of the file's folder: '/etc'"),
        ('[outputs]\nfolder = "../../x"', "'outputs.folder' leads out"),
        ('[outputs]\nfolder = "link/x"', "'outputs.folder' leads out"),
        ('[lists]\nallow = ["/etc/shadow"]', "'lists.allow' leads out"),
        ('[lists]\ndeny = ["link/shadow"]', "'lists.deny' leads out"),
        ('[lists]\nsplats = ["../splats"]', "'lists.splats' leads out"),
        ('kernels = ["host"]', "'kernels' cannot have 'host'"),
    ],
)
def test_a_file_of_a_change_reaches_nothing_else(text: str, said: str, tmp_path: Path) -> None:
    """A file from an unreviewed change only reads and writes below its folder, and runs nothing on this host."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "link").symlink_to("/etc")
    with pytest.raises(UsageError) as refused:
        _read(folder, text)
    assert said in str(refused.value)
    assert refused.value.hint
