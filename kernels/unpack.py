# SPDX-License-Identifier: GPL-2.0-only
"""Decompress piece by piece: a few kilobytes may expand to gigabytes."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

_PIECE = 1 << 20
_ZSTD_PIECE = 512
"""Compressed bytes per step: four of them may expand to 128 KiB, and zstd has no limit."""


class CorruptError(ValueError):
    """The compressed data is damaged or cut short."""


class TooLargeError(ValueError):
    """The decompressed data is too large."""


class UnknownError(ValueError):
    """The compression is unknown."""


class _Bounded(Protocol):
    """The decompressors of lzma and bz2."""

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...


def unpacked(data: bytes, limit: int) -> Iterator[bytes]:
    """Yield the decompressed pieces; data after the compressed part is ignored. Nothing larger than a few MiB is held.

    UnknownError, CorruptError, and TooLargeError beyond `limit` bytes.
    """
    total = 0
    for piece in _opener(data)(data):
        total += len(piece)
        if total > limit:
            raise TooLargeError(f"larger than {limit >> 20} MiB once it is decompressed")
        yield piece


def whole(data: bytes, limit: int) -> bytes:
    """Return all decompressed data."""
    return b"".join(unpacked(data, limit))


def is_known(data: bytes) -> bool:
    """Whether the beginning is that of a known compression."""
    return any(data.startswith(magic) for magic in _FORMATS)


def _opener(data: bytes) -> Callable[[bytes], Iterator[bytes]]:
    for magic, opener in _FORMATS.items():
        if data.startswith(magic):
            return opener
    raise UnknownError(f"compressed with {data[:6].hex(' ')}, which is not xz, zstd, gzip, bzip2 or lzma")


def _bounded(decompressor: _Bounded, data: bytes) -> Iterator[bytes]:
    position = 0
    try:
        while not decompressor.eof:
            fed = b""
            if decompressor.needs_input:
                fed = data[position : position + _PIECE]
                position += len(fed)
                if not fed:
                    raise CorruptError("it ends too early")
            yield decompressor.decompress(fed, _PIECE)
    except (lzma.LZMAError, OSError, EOFError) as error:
        raise CorruptError(str(error)) from error


def _gzip(data: bytes) -> Iterator[bytes]:
    decompressor = zlib.decompressobj(wbits=31)
    position, left = 0, b""
    try:
        while not decompressor.eof:
            if not left:
                left = data[position : position + _PIECE]
                position += len(left)
                if not left:
                    raise CorruptError("it ends too early")
            yield decompressor.decompress(left, _PIECE)
            left = decompressor.unconsumed_tail
    except zlib.error as error:
        raise CorruptError(str(error)) from error


def _zstd(data: bytes) -> Iterator[bytes]:
    import zstandard  # costs 6 ms

    # The kernel is packed with --ultra -22: a window of 128 MiB.
    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
    position = 0
    try:
        while not decompressor.eof:
            fed = data[position : position + _ZSTD_PIECE]
            position += len(fed)
            if not fed:
                raise CorruptError("it ends too early")
            yield decompressor.decompress(fed)
    except zstandard.ZstdError as error:
        raise CorruptError(str(error)) from error


def _plain(data: bytes) -> Iterator[bytes]:
    for position in range(0, len(data), _PIECE):
        yield data[position : position + _PIECE]


_FORMATS: dict[bytes, Callable[[bytes], Iterator[bytes]]] = {
    b"\xfd7zXZ": lambda data: _bounded(lzma.LZMADecompressor(lzma.FORMAT_XZ), data),
    b"\x28\xb5\x2f\xfd": _zstd,
    b"\x1f\x8b": _gzip,
    b"BZh": lambda data: _bounded(bz2.BZ2Decompressor(), data),
    b"\x5d\0\0": lambda data: _bounded(lzma.LZMADecompressor(lzma.FORMAT_ALONE), data),
    b"\x7fELF": _plain,
}
