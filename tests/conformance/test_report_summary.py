# SPDX-License-Identifier: GPL-2.0-only
"""summary.json: exactly the documented form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.errors import HostError
from conformance.model import Verdict
from conformance.report.summary import NAME, summary, write_summary
from tests.conformance import report_runs


def test_the_shape_is_as_promised() -> None:
    """The top level and each kernel have the promised keys and no others."""
    found = summary(report_runs.sick())
    assert list(found) == ["schema", "kernels", "provenance"]
    assert found["schema"] == 1
    for kernel in found["kernels"]:
        assert list(kernel) == ["spec", "release", "counts", "unexpected", "seconds"]
        assert list(kernel["counts"]) == [str(verdict) for verdict in Verdict]


def test_a_sick_kernel_names_its_cases() -> None:
    """Counts add up to the cases, and every unexpected case is there by its id."""
    kernel, dead = summary(report_runs.sick())["kernels"]
    assert (kernel["spec"], kernel["release"]) == ("debian:6.12", "6.12.107+deb12-amd64")
    assert sum(kernel["counts"].values()) == 736
    assert kernel["unexpected"] == [
        "redirect/sockmap-send-to-local-tcp4-udp4",
        "redirect/sockmap-ingress-to-egress-tcp4-unix_stream",
        "redirect/sockhash-ingress-to-local-vsock_seqpacket-vsock_seqpacket",
    ]
    assert kernel["seconds"] == pytest.approx(736 * 0.017)
    assert (dead["spec"], sum(dead["counts"].values()), dead["unexpected"]) == ("debian:5.10", 0, [])


def test_provenance_says_what_was_judged_by_what() -> None:
    """Kernel identity, configuration, tools, accelerator and why, suite, objects and speed are all there."""
    provenance = summary(report_runs.healthy())["provenance"]
    kernel = provenance["kernels"]["debian-6.12"]
    assert provenance["suite_commit"] == "cefbac1d02f3"
    assert (provenance["qemu"], provenance["virtme_ng"]) == ("7.2.22", "1.42")
    assert provenance["bpf_objects"] == {"redirect.bpf.o": "ab" * 32}
    assert (kernel["accelerator"], kernel["why"]) == ("tcg", "/dev/kvm opens, but a probe boot on it died")
    assert (kernel["factor"], kernel["config_sha256"], kernel["digest"]) == (3.14, "c0" * 32, "5d" * 32)


def test_the_file_is_the_summary(tmp_path: Path) -> None:
    """The file has what `summary` returns, and no temporary is left."""
    run = report_runs.sick()
    write_summary(run, tmp_path)
    assert json.loads((tmp_path / NAME).read_text()) == summary(run)
    assert [each.name for each in tmp_path.iterdir()] == [NAME]


def test_an_unwritable_directory_is_a_host_error(tmp_path: Path) -> None:
    """A directory that is not there is one sentence with a hint."""
    with pytest.raises(HostError, match="cannot write the summary"):
        write_summary(report_runs.healthy(), tmp_path / "nothing")
