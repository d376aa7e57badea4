# SPDX-License-Identifier: GPL-2.0-only
"""The guest's root: Debian's python3, the part of its library that cases may use, and the agent, as one initramfs."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from common.errors import HostError
from vm.cpio import CpioWriter

PYTHON = Path("/usr/bin/python3")
AGENT_ROOT = "suite"
INIT_SCRIPT = f"import sys\nsys.path.insert(0, '/{AGENT_ROOT}')\nfrom vm.guest.init import main\nmain()\n"
INIT = f"PYTHONHASHSEED=0 rdinit={PYTHON} -- -SsP /init.py"
"""The end of the kernel command line; not a #! script, which would need CONFIG_BINFMT_SCRIPT."""

DIRECTORIES = ("proc", "sys", "dev", "tmp", "run", "root", "modules")
DEVICES = (("console", 5, 1), ("null", 1, 3), ("urandom", 1, 9))
"""Devices that the kernel and the interpreter open before devtmpfs is mounted."""

UNWANTED = re.compile(
    r"""(?x)
    ( test | idlelib | tkinter | lib2to3 | ensurepip | distutils | pydoc_data | unittest | config-.* | turtledemo
    | dist-packages | site-packages | venv | wsgiref | sqlite3 | curses | dbm | msilib | asyncio | email | html | http
    | xml | xmlrpc | multiprocessing | __phello__ | _pyrepl
    | turtle\.py | pydoc\.py | doctest\.py | _pydecimal\.py | _pyio\.py
    ) $ """
)
"""Top-level names of the library that no case needs: two thirds of it, which every cold boot would unpack."""

UNWANTED_EXTENSIONS = re.compile(
    r"_(ssl|hashlib|sqlite3|curses.*|tkinter|decimal|codecs_.*|test.*|xx.*|asyncio|dbm|gdbm|lzma|bz2|multibytecodec)\.|"
    r"(readline|audioop|xxlimited.*|ossaudiodev|nis)\."
)

DESCRIBE = """
import importlib.util, json, os, sys, sysconfig
print(json.dumps({"binary": os.path.realpath(sys.executable), "library": sysconfig.get_path("stdlib"),
                  "magic": importlib.util.MAGIC_NUMBER.hex(), "tag": sys.implementation.cache_tag}))
"""
COMPILE = """
import base64, json, marshal, sys
for line in sys.stdin:
    path = line.rstrip("\\n")
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    print(base64.b64encode(marshal.dumps(code)).decode())
"""


class Writer(Protocol):
    """Writes the members of a root: CpioWriter, FolderWriter."""

    def directory(self, name: str) -> None:
        """Add a directory."""

    def file(self, name: str, content: bytes, *, executable: bool = False) -> None:
        """Add a regular file."""

    def symlink(self, name: str, target: str) -> None:
        """Add a symbolic link."""

    def device(self, name: str, major: int, minor: int) -> None:
        """Add a character device."""

    def __contains__(self, name: str) -> bool:
        """Return whether there is such a member."""


def write_root(stream: BinaryIO, python: Path = PYTHON) -> None:
    """Write the root image; HostError if python3 is missing."""
    writer = CpioWriter(stream)
    fill_root(writer, python)
    writer.close()


def fill_root(writer: Writer, python: Path = PYTHON) -> None:
    """Write the members of the root; HostError if python3 is missing."""
    facts = _describe(python)
    library = Path(facts["library"])
    for name in DIRECTORIES:
        writer.directory(name)
    for name, major, minor in DEVICES:
        writer.device(f"dev/{name}", major, minor)
    writer.file("init.py", INIT_SCRIPT.encode())
    binaries = [Path(facts["binary"]), *_extensions(library)]
    writer.file(_inside(binaries[0]), binaries[0].read_bytes(), executable=True)
    writer.symlink(_inside(PYTHON), binaries[0].name)
    for path in binaries[1:]:
        writer.file(_inside(path), path.read_bytes())
    _write_libraries(writer, binaries)
    _write_modules(writer, facts, list(_library_modules(library)))
    for path in agent_sources():
        writer.file(f"{AGENT_ROOT}/{path.relative_to(_checkout())}", path.read_bytes())


def key(python: Path = PYTHON) -> str:
    """Name the content of the root image by its ingredients, without building it."""
    binary = python.resolve()
    library = Path("/usr/lib") / binary.name
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in (binary, library, library / "lib-dynload"):
        status = path.stat() if path.exists() else None
        digest.update(f"{path}\0{status and (status.st_size, status.st_mtime_ns)}\0".encode())
    for path in agent_sources():
        digest.update(path.read_bytes())
    return digest.hexdigest()[:32]


def agent_sources() -> list[Path]:
    """Return the source files that make up the agent."""
    package = _checkout() / "vm"
    return [package / "__init__.py", *sorted((package / "guest").glob("*.py"))]


def _checkout() -> Path:
    return Path(__file__).resolve().parent.parent


def _inside(path: Path) -> str:
    return str(path).lstrip("/")


def _describe(python: Path) -> dict[str, Any]:
    try:
        answer = subprocess.run([python, "-IS", "-c", DESCRIBE], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise HostError(f"{python} does not run, and the guest needs it", hint="apt install python3") from error
    return dict(json.loads(answer.stdout))


def _extensions(library: Path) -> list[Path]:
    return sorted(path for path in library.glob("lib-dynload/*.so") if not UNWANTED_EXTENSIONS.match(path.name))


def _library_modules(library: Path) -> Iterator[Path]:
    for top in sorted(library.iterdir()):
        if UNWANTED.match(top.name):
            continue
        if top.suffix == ".py":
            yield top
        elif top.is_dir() and top.name not in ("lib-dynload", "__pycache__"):
            yield from (path for path in sorted(top.rglob("*.py")) if not _is_test(path))


def _is_test(path: Path) -> bool:
    return not {"test", "tests"}.isdisjoint(path.parts)


def _write_modules(writer: Writer, facts: dict[str, Any], sources: list[Path]) -> None:
    """Write only bytecode: otherwise the guest would compile on every cold boot."""
    magic = bytes.fromhex(facts["magic"])
    missing = []
    for source in sources:
        cached = source.parent / "__pycache__" / f"{source.stem}.{facts['tag']}.pyc"
        if _is_current(cached, source, magic):
            writer.file(_inside(source) + "c", magic + bytes(12) + cached.read_bytes()[16:])
        else:
            missing.append(source)
    for source, code in zip(missing, _compile(missing), strict=True):
        writer.file(_inside(source) + "c", magic + bytes(12) + code)


def _is_current(cached: Path, source: Path, magic: bytes) -> bool:
    try:
        with cached.open("rb") as file:
            header = file.read(16)
        status = source.stat()
    except OSError:
        return False
    stamp = int(status.st_mtime).to_bytes(8, "little")[:4] + (status.st_size & 0xFFFFFFFF).to_bytes(4, "little")
    return header == magic + bytes(4) + stamp


def _compile(sources: list[Path]) -> list[bytes]:
    import base64

    if not sources:
        return []
    answer = subprocess.run(
        [PYTHON, "-IS", "-W", "ignore", "-c", COMPILE],
        input="\n".join(map(str, sources)), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [base64.b64decode(line) for line in answer.stdout.split()]


def _write_libraries(writer: Writer, binaries: Iterable[Path]) -> None:
    listing = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=False).stdout
    for name in sorted(set(re.findall(r"(?:=> |^\s+)(/\S+) \(0x", listing, re.MULTILINE))):
        if name.lstrip("/") not in writer:
            writer.file(name.lstrip("/"), Path(name).resolve().read_bytes(), executable=True)
