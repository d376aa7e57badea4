# SPDX-License-Identifier: GPL-2.0-only
"""File and line are added to places in a kernel if its debugging information is available, and only then."""

from __future__ import annotations

import shutil
import subprocess
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
