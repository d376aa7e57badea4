# SPDX-License-Identifier: GPL-2.0-only
"""`conform shell`: a shell, a script or one command in a guest, which lists the sockets and maps of a case."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import FrameType, FunctionType

import pytest

from common.errors import UsageError
from conformance.run import greeting
from tests.conformance.conform import command, conform, environment
from vm import shell
from vm.guest import worker

KERNEL = "debian:6.12"
CASE = "redirect/sockmap-ingress-to-egress-tcp4-unix_stream"


class FakeSockets:
    """Holds sockets like the setups of guest code."""

    def __init__(self) -> None:
        one, other = socket.socketpair()
        self.ends = {"in": one, "in_peer": other}
        self._tap = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def close(self) -> None:
        """Close them all."""
        for each in (*self.ends.values(), self._tap):
            each.close()


def case(bench: FakeSockets) -> FrameType:
    """Stop like a case before its teardown."""
    return sys._getframe()


def test_sockets_are_named_by_what_leads_to_them() -> None:
    """Descriptors are named by the attributes and keys of guest code that lead to them; others have no name."""
    in_guest = FunctionType(case.__code__.replace(co_filename="bundle:case"), globals())
    with contextlib.closing(FakeSockets()) as bench, socket.socket() as spare:
        lines = {int(line.split()[1]): line.split()[2:4] for line in greeting.described(in_guest(bench))}

        assert lines[bench.ends["in"].fileno()] == ["IN", "AF_UNIX"]
        assert lines[bench.ends["in_peer"].fileno()] == ["in_peer", "AF_UNIX"]
        assert lines[bench._tap.fileno()] == ["tap", "AF_INET"]
        assert lines[spare.fileno()] == ["socket", "AF_INET"]


def test_maps_and_programs_are_named_by_their_type() -> None:
    """The type has a name, which is the header's; one that no case makes has its number."""
    found = greeting._bpf_object({"prog_type": "16", "prog_id": "537"})
    assert found.split() == ["program", "sk_msg,", "id", "537"]
    assert greeting._bpf_object({"map_type": "2", "map_id": "728"}).split() == ["map", "array,", "id", "728"]
    assert greeting._bpf_object({"map_type": "99", "map_id": "7"}).split() == ["map", "type", "99,", "id", "7"]
    assert greeting._bpf_object({"pos": "0"}) == ""
    header = Path("/usr/include/linux/bpf.h").read_text(encoding="utf-8")
    for enum, types in (("map", greeting.MAP_TYPES), ("prog", greeting.PROGRAM_TYPES)):
        body = re.search(rf"enum bpf_{enum}_type {{(.*?)}};", header, re.DOTALL)
        assert body is not None
        names = re.findall(rf"^\tBPF_{enum.upper()}_TYPE_(\w+),", body[1], re.MULTILINE)
        assert {number: names[int(number)].lower() for number in types} == types


def test_host_and_guest_agree() -> None:
    """Guest code cannot import two constants of the host; both copies are equal."""
    assert greeting.PATH == shell.CASE
    assert greeting._CLOSERS == worker.CLOSERS


@pytest.mark.vm
class TestInAGuest:
    """Through the real command."""

    def test_a_command(self, tmp_path: Path) -> None:
        """The command's status is returned, its lines end with line feeds, and it sees the sockets of the case."""
        script = "cat /run/conform-case; echo $1; exit 7"

        done = conform(
            "shell", "--kernel", KERNEL, "--case", CASE, "--", "sh", "-c", script, "sh", "two words", cwd=tmp_path
        )

        assert done.returncode == 7, done.stderr
        assert "\r" not in done.stdout
        first, *lines, last = done.stdout.splitlines()
        assert first.startswith(f"{CASE} is set up; paused before teardown. Process ")
        assert last == "two words"
        names = [line.split()[2] for line in lines]
        assert {"IN", "in_peer", "OUT", "out_peer", "map", "program"} <= set(names)
        assert any("sockmap, id " in line for line in lines)

    def test_how_much_it_says(self, tmp_path: Path) -> None:
        """With -q standard error is the command's; with -v it says which kernel and which machine it is."""
        quiet, verbose = (
            conform("shell", loud, "--kernel", KERNEL, "--case", CASE, "--", "sh", "-c", "echo hi", cwd=tmp_path)
            for loud in ("-q", "-v")
        )

        assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "hi\n", "")
        assert (verbose.returncode, verbose.stdout) == (0, "hi\n")
        assert f"{KERNEL}: Linux version 6.12." in verbose.stderr
        assert "\nmachine: clone, " in verbose.stderr
        assert f"\n{CASE}: is set up; " in f"\n{verbose.stderr}"

    def test_what_is_read_is_a_script(self, tmp_path: Path) -> None:
        """The shell ends with the script, without waiting for a key; an empty script ends at once."""
        for script, code, shown in ((b"echo $((6*7))\nexit 3\n", 3, b"42\n"), (b"", 0, b"")):
            done = subprocess.run(
                command("shell", "--kernel", KERNEL), cwd=tmp_path, env=environment(), input=script,
                stdout=subprocess.PIPE, timeout=120, check=False,
            )  # fmt: skip
            assert (done.returncode, done.stdout) == (code, shown)

    def test_standard_input_of_a_command(self, tmp_path: Path) -> None:
        """The command gets the end of standard input, too."""
        done = subprocess.run(
            command("shell", "--kernel", KERNEL, "--", "sh", "-c", "cat > /dev/null; echo end"), cwd=tmp_path,
            env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=120, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, b"end\n")


def test_a_script_that_is_too_long(tmp_path: Path) -> None:
    """It is refused in a sentence: the kernel takes no such argument."""
    path = tmp_path / "script"
    path.write_bytes(b"#" * (shell._LONGEST + 1))
    with path.open() as file, pytest.raises(UsageError, match="longer than"):
        shell._script(file.fileno())
    with open(os.devnull) as file:
        assert shell._script(file.fileno())[1:] == ["-c", ""]
