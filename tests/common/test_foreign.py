# SPDX-License-Identifier: GPL-2.0-only
"""Foreign text: no format lets it pass for anything but text, and nothing prints or writes it in another way."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from common import foreign
from common.errors import UsageError, lines_of, print_error
from common.say import put, say

ROOT = Path(__file__).resolve().parents[2]
NASTY = "\x00\x1b]0;gone\x07\x1b[2J\x7f\x9b31m\u202e\u200b\u2028\ud800\ufffe\r\n\tok 1 - forged # SKIP ]]> <b> `x` | ]]"
RANGES = (range(0x3100), range(0xD7F0, 0xE010), range(0xFDD0, 0x10100), range(0xE0000, 0xE0080), (0x1FFFE, 0x10FFFF))
EVERY = "".join(chr(code) for codes in RANGES for code in codes)
"""Characters of each category but letters: controls, formats, separators, surrogates, noncharacters."""


@pytest.mark.parametrize("show", [foreign.line, foreign.ktap, foreign.markdown, foreign.markdown_code])
def test_one_line_stays_one_line(show: object) -> None:
    """Text for one line stays one line and has no control characters, whatever the input."""
    assert callable(show)
    assert show(NASTY).isprintable()
    assert show(EVERY).isprintable()
    assert "\\x1b" in show(NASTY).replace("\\\\", "\\")


@pytest.mark.parametrize("show", [foreign.visible, foreign.page, foreign.xml])
def test_a_page_keeps_its_lines_and_tabs(show: object) -> None:
    """Several lines stay several lines, and the only control characters are line feeds and tabs."""
    assert callable(show)
    assert {each for each in show(EVERY + NASTY) if not each.isprintable()} == {"\n", "\t"}
    assert show("a\n\tb ä…") == "a\n\tb ä…"


def test_a_serial_console_is_no_page_of_carriage_returns() -> None:
    """Carriage returns at the end of a console line are dropped; one within a line is shown escaped."""
    assert foreign.page("one\r\ntwo\r\r\nthree\rFOUR\n") == "one\ntwo\nthree\\x0dFOUR\n"


def test_xml_survives_any_text() -> None:
    """Text in an element or an attribute is unchanged after parsing."""
    root = ET.Element("case", name=foreign.xml(NASTY))
    root.text = foreign.xml(EVERY)
    again = ET.fromstring(ET.tostring(root, encoding="unicode"))
    assert again.get("name") == foreign.xml(NASTY)
    assert "\\ud800" in (again.text or "")


def test_a_property_cannot_be_ended_by_its_value() -> None:
    """In `[[PROPERTY|name=value]]` neither name nor value can begin another property."""
    assert not set("]|\n") & set(foreign.xml_property("fail]]\n[[PROPERTY|verdict=pass"))


def test_a_ktap_name_holds_no_directive() -> None:
    """A name with `# SKIP` in it is not a skipped case."""
    assert foreign.ktap("case # SKIP not me") == "case \\x23 SKIP not me"


def test_code_in_markdown_cannot_end_itself() -> None:
    """A name with backticks in it stays code."""
    assert foreign.markdown_code("plain") == "`plain`"
    assert foreign.markdown_code("a`b``c") == "``` a`b``c ```"


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """An error that quotes a guest is one line and one hint, whatever it quotes."""
    error = UsageError(f"bad {NASTY}\nconform: all is well", hint=f"see {NASTY}")
    print_error(error)
    printed = capsys.readouterr().err
    assert printed == f"conform: {lines_of(error)}\n"
    first, second = printed.splitlines()
    assert first.isprintable()
    assert second.startswith("  hint: see ")
    assert second.isprintable()


def test_printed_lines_are_safe() -> None:
    """A line of progress that quotes a guest is one line; characters that the stream cannot encode are escaped."""
    bytes_of = io.BytesIO()
    screen = io.TextIOWrapper(bytes_of, encoding="ascii")
    say(f"{NASTY}…", screen)
    put(["ä"], screen)
    assert bytes_of.getvalue().isascii()
    assert bytes_of.getvalue().decode().replace("\n", "").isprintable()
    assert bytes_of.getvalue().endswith(b"\\u2026\n\\xe4\n")


def python(code: str, *, out: str = "/dev/stdout", err: str = "/dev/stderr") -> tuple[int, str, str]:
    """Run Python with one of its streams elsewhere."""
    command = ["sh", "-c", f'exec "$@" >{out} 2>{err}', "sh", sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_a_report_on_a_full_disk_is_an_error() -> None:
    """If a command's output cannot be written, there is one sentence, and the interpreter exits cleanly."""
    code = (
        "import sys\n"
        "from common.errors import ConformError, print_error\n"
        "from common.say import put, put_bytes, say\n"
        "try:\n    {}\nexcept ConformError as error:\n    print_error(error)\n    sys.exit(int(error.exit_code))\n"
    )
    for call in ("say('x')", "put(['x'], sys.stdout)", "put_bytes(b'x', sys.stdout)"):
        returncode, _, stderr = python(code.format(call), out="/dev/full")
        assert returncode == 128
        assert stderr.startswith("conform: cannot write to standard output: No space left on device\n  hint: ")
        assert stderr.count("\n") == 2


def test_a_note_on_a_full_disk_is_lost() -> None:
    """Progress that cannot be written is ignored; an error that cannot be printed still has its exit code."""
    assert python("from common.say import note; note('x'); print('on')", err="/dev/full") == (0, "on\n", "")
    code = "import sys; from common.errors import *; print_error(UsageError('x')); print('on'); sys.exit(128)"
    assert python(code, err="/dev/full") == (128, "on\n", "")
