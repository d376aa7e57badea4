# SPDX-License-Identifier: GPL-2.0-only
"""Read a compiled BPF object on the host, so that the guest needs neither libbpf nor an ELF reader."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import HostError

_INSTRUCTION = 8
_LOAD_IMM64 = 0x18
_PSEUDO_MAP_FD = 1 << 4
"""BPF_PSEUDO_MAP_FD as source register, in the byte that holds both registers."""
_R_BPF_64_64 = 1
_SHF_EXECINSTR = 4
_MAP_DEFINITION = struct.Struct("=5I")


@dataclass(frozen=True, slots=True)
class MapDefinition:
    """The arguments of BPF_MAP_CREATE; the numbers are the kernel's."""

    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int


@dataclass(frozen=True, slots=True)
class CompiledProgram:
    """One program, ready to load once the file descriptors of its maps are put in."""

    section: str
    """Its section, which names the program type: `sk_msg` or `sk_skb`."""
    licence: str
    instructions: bytes
    relocations: tuple[tuple[int, str], ...]
    """Index of each two-slot load instruction whose immediate becomes a map's descriptor, and the map's name."""
    maps: Mapping[str, MapDefinition]
    """The maps it refers to."""
    sha256: str
    """Hex digest of the object file."""


def read(path: Path) -> CompiledProgram:
    """Return the only program in the object `path`; HostError if the loader cannot load it."""
    # the import takes 60 ms, and only a compiling run needs it
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    content = path.read_bytes()
    with path.open("rb") as file:
        try:
            return _read(ELFFile(file), hashlib.sha256(content).hexdigest())
        except (ELFError, ValueError, struct.error) as error:
            raise HostError(
                f"the BPF object {path.name} cannot be loaded: {error}",
                hint="one program an object, in section sk_msg or sk_skb; no global data but maps, no calls",
            ) from error


def _read(elf: Any, sha256: str) -> CompiledProgram:
    code = [section for section in elf.iter_sections() if section["sh_flags"] & _SHF_EXECINSTR and section.data_size]
    if len(code) != 1:
        raise ValueError(f"it has {len(code)} sections of code")
    symbols = elf.get_section_by_name(".symtab").iter_symbols()
    functions = [symbol.name for symbol in symbols if symbol["st_info"]["type"] == "STT_FUNC"]
    if len(functions) != 1:
        raise ValueError(f"it has {len(functions)} programs")
    maps = _maps(elf)
    relocations = tuple(_relocations(elf, code[0], maps))
    instructions = bytearray(code[0].data())
    for index, name in relocations:
        if instructions[index * _INSTRUCTION] != _LOAD_IMM64:
            raise ValueError(f"instruction {index} refers to {name} but loads no address")
        instructions[index * _INSTRUCTION + 1] |= _PSEUDO_MAP_FD
    licence = elf.get_section_by_name("license")
    if licence is None:
        raise ValueError("it has no license section")
    wanted = {name for _, name in relocations}
    return CompiledProgram(
        section=code[0].name,
        licence=licence.data().rstrip(b"\0").decode(),
        instructions=bytes(instructions),
        relocations=relocations,
        maps={name: definition for name, definition in maps.items() if name in wanted},
        sha256=sha256,
    )


def _maps(elf: Any) -> dict[str, MapDefinition]:
    section = elf.get_section_by_name("maps")
    if section is None:
        return {}
    symbols = elf.get_section_by_name(".symtab")
    data = section.data()
    index = elf.get_section_index("maps")
    return {
        symbol.name: MapDefinition(*_MAP_DEFINITION.unpack_from(data, symbol["st_value"]))
        for symbol in symbols.iter_symbols()
        if symbol["st_shndx"] == index and symbol.name
    }


def _relocations(elf: Any, code: Any, maps: Mapping[str, MapDefinition]) -> list[tuple[int, str]]:
    section = elf.get_section_by_name(f".rel{code.name}")
    if section is None:
        return []
    symbols = elf.get_section(section["sh_link"])
    found = []
    for relocation in section.iter_relocations():
        name = symbols.get_symbol(relocation["r_info_sym"]).name
        if relocation["r_info_type"] != _R_BPF_64_64 or name not in maps:
            raise ValueError(f"it refers to {name or 'a section'}, which is not a map")
        found.append((relocation["r_offset"] // _INSTRUCTION, name))
    return found
