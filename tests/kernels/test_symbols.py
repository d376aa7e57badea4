# SPDX-License-Identifier: GPL-2.0-only
"""File and line are added to places in a kernel if its debugging information is available, and only then."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from kernels import symbols
from tests.vm.nowhere import kernel

COMPILER = next(filter(None, map(shutil.which, ("clang", "gcc"))), "")
needs_binutils = pytest.mark.skipif(not (COMPILER and shutil.which("addr2line")), reason="no compiler or no binutils")

SOURCE = """\
static volatile int seven = 7;

__attribute__((noinline)) int inner(int number)
{
	seven += number;
	return seven;
}

__attribute__((noinline)) int outer(int number)
{
	inner(number);
	return 1;
}

int main(void) { return outer(1); }
"""


@pytest.fixture(name="image", scope="module")
def _image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that passes for a kernel, in a tree of its own, and one of its files for a module.

    As in a kernel there is padding behind its functions.
    """
    tree = tmp_path_factory.mktemp("tree")
    (tree / "net").mkdir()
    (tree / "net/skmsg.c").write_text(SOURCE)
    for output, options in (("vmlinux", ["-Wl,--build-id"]), ("net/sick-mod.ko", ["-c"])):
        subprocess.run(
            [COMPILER, "-g", "-O0", "-falign-functions=64", *options, "-o", output, f"{tree}/net/skmsg.c"],
            cwd=tree,
            check=True,
        )
    return tree / "vmlinux"


def _size(image: Path, function: str) -> int:
    """Return the size of a function as a kernel would print it: up to the next one."""
    answer = subprocess.run(
        ["nm", "--defined-only", "--numeric-sort", image], capture_output=True, text=True, check=True
    )
    listed = map(str.split, answer.stdout.splitlines())
    addresses = {name: int(address, 16) for address, kind, name in listed if kind in "tT"}
    names = list(addresses)
    return addresses[names[names.index(function) + 1]] - addresses[function]


def _call(image: Path) -> int:
    """Return the offset in outer() of the instruction after its call."""
    answer = subprocess.run(["objdump", "-d", "--no-show-raw-insn", image], capture_output=True, text=True, check=True)
    body = answer.stdout.partition("<outer>:\n")[2].partition("\n\n")[0].splitlines()
    addresses = [int(line.partition(":")[0], 16) for line in body]
    called = next(number for number, line in enumerate(body) if "call" in line)
    return addresses[called + 1] - addresses[0]


@needs_binutils
def test_a_splat_is_decoded(image: Path) -> None:
    """The instruction pointer gets its own line, a caller that of the call; the original text stays."""
    inner, outer, after = _size(image, "inner"), _size(image, "outer"), _call(image)
    text = f"RIP: 0010:inner+0x0/{inner:#x}\nCall Trace:\n <TASK>\n[    1.000000]  outer+{after:#x}/{outer:#x}\n"

    assert symbols.decode(text, image) == (
        f"RIP: 0010:inner+0x0/{inner:#x} (net/skmsg.c:4)\nCall Trace:\n <TASK>\n"
        f"[    1.000000]  outer+{after:#x}/{outer:#x} (net/skmsg.c:11)\n"
    )


@needs_binutils
def test_a_module_is_decoded_by_its_own_file(image: Path) -> None:
    """Functions of a module are looked up in the module, with `-` or `_` in its name."""
    module = image.parent / "net/sick-mod.ko"
    frame = f"inner+0x0/{_size(module, 'inner'):#x} [sick_mod]"

    assert symbols.decode(frame, image, image.parent) == f"{frame} (net/skmsg.c:4)"
    assert symbols.decode(frame, image) == frame


@needs_binutils
def test_what_does_not_fit_is_left_alone(image: Path) -> None:
    """A function with another size or an unknown name is left alone."""
    for frame in (f"inner+0x1/{_size(image, 'inner') + 1:#x}", "nobody+0x1/0x2", "no frame at all"):
        assert symbols.decode(frame, image) == frame


@needs_binutils
def test_only_the_kernels_own_debugging_information_is_taken(image: Path, tmp_path: Path) -> None:
    """The vmlinux of a tree serves only the image built from it."""
    stripped = tmp_path / "stripped"
    subprocess.run(["objcopy", "--strip-all", image, stripped], check=True)
    other = tmp_path / "other"
    subprocess.run([COMPILER, "-O0", "-Wl,--build-id", "-o", other, image.parent / "net/skmsg.c"], check=True)
    built = {"path": str(image.parent / "arch/x86/boot/bzImage")}

    assert symbols.debug_image(replace(kernel(), image=stripped, provenance=built)) == image
    assert symbols.debug_image(replace(kernel(), image=other, provenance=built)) is None
    assert symbols.debug_image(replace(kernel(), image=image)) == image


@needs_binutils
def test_texts_stay_apart(image: Path) -> None:
    """Each text is decoded by itself, whatever characters a guest puts into it."""
    frame = f"inner+0x0/{_size(image, 'inner'):#x}"
    texts = ["a\n\x1e\nb", "", frame, f"\n{frame}\n", "\x1e"]

    told = symbols.decode_each(texts, image)

    assert [each.replace(" (net/skmsg.c:4)", "") for each in told] == texts
    assert [each.count("skmsg.c:4") for each in told] == [0, 0, 1, 1, 0]


@needs_binutils
def test_a_hostile_image_is_left_alone(image: Path, tmp_path: Path) -> None:
    """Symbols that are no text, and files whose debugging information is damaged, change nothing."""
    source, odd = tmp_path / "odd.s", tmp_path / "odd.o"
    name = r'"f\377|a|zz\n1|zz|q|FUNC|1||.text"'
    source.write_text(f".text\n.globl {name}\n.type {name},@function\n{name}: ret\n.size {name}, .-{name}\n")
    subprocess.run(["as", "-o", odd, source], check=True, capture_output=True)
    assert symbols.decode("inner+0x0/0x1", odd) == "inner+0x0/0x1"

    damaged = tmp_path / "vmlinux"
    whole = image.read_bytes()
    for place in (*range(4, 64), *range(len(whole) - 64 * 30, len(whole), 7)):
        damaged.write_bytes(whole[:place] + b"\xff" + whole[place + 1 :])
        symbols.debug_image(replace(kernel(), image=damaged))
        symbols.debug_image(replace(kernel(), image=image, provenance={"path": str(tmp_path / "boot/bzImage")}))


def test_a_tool_that_does_not_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file on which the tools take for ever costs a moment, and no text."""
    for name in ("nm", "addr2line"):
        (tmp_path / name).write_text("#!/bin/sh\nexec sleep 60\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(symbols, "TOOL_SECONDS", 0.2)
    began = time.monotonic()
    assert symbols.decode("inner+0x0/0x1", tmp_path / "image") == "inner+0x0/0x1"
    assert time.monotonic() - began < 30
