# SPDX-License-Identifier: GPL-2.0-only
"""The Debian packages for building a kernel, each with its reason and a proof of its presence.

Read on every start by `conformance.host.packages`, hence plain tuples and no imports of weight.
"""

from __future__ import annotations

PACKAGES = (
    # Package, reason, proof: a program in PATH or an absolute path.
    ("git", "keeps the source of kernels, and applies patches to it", "git"),
    ("make", "builds kernels", "make"),
    ("gcc", "compiles kernels", "gcc"),
    ("libc6-dev", "needed by the programs of a kernel's own build", "/usr/include/stdio.h"),
    ("flex", "kconfig's lexer", "flex"),
    ("bison", "kconfig's parser", "bison"),
    ("bc", "computes constants in the kernel's build", "bc"),
    ("perl", "generates tables in the kernel's build", "perl"),
    ("libelf-dev", "needed by objtool", "/usr/include/libelf.h"),
    ("libssl-dev", "needed for a kernel's built-in certificates", "/usr/include/openssl/opensslv.h"),
    ("dwarves", "pahole, which generates BTF", "pahole"),
    ("xz-utils", "packs parts of older kernels", "xz"),
    ("cpio", "packs the headers that a kernel may carry", "cpio"),
)
