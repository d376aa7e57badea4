# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bpf import build
from bpf.guest import syscall
from tests.bpf.privilege import needs_bpf

pytestmark = needs_bpf

ARRAY, SOCKMAP = syscall.MAP_TYPES["array"], syscall.MAP_TYPES["sockmap"]
RETURN_ONE = b"\xb7\0\0\0\1\0\0\0" + b"\x95\0\0\0\0\0\0\0"
NEVER_SETS_R0 = b"\x95\0\0\0\0\0\0\0"


@pytest.fixture(name="keep")
def fixture_keep() -> Iterator[Callable[[int], int]]:
    """Close every descriptor given to it at the end."""
    kept: list[int] = []

    def keep(descriptor: int) -> int:
        kept.append(descriptor)
        return descriptor

    yield keep
    for descriptor in kept:
        os.close(descriptor)


def program(section: str, instructions: bytes) -> syscall.Program:
    """Return a program without maps."""
    return syscall.Program(
        {
            "section": section,
            "licence": "GPL",
            "instructions": instructions,
            "relocations": (),
            "maps": {},
            "sha256": "",
        }
    )


def fails(number: int) -> Any:
    """Expect an OSError with that errno."""
    return pytest.raises(OSError, check=lambda error: error.errno == number)


def test_an_array_map_gives_back_what_was_put_in(keep: Callable[[int], int]) -> None:
    """Keys and values are passed to the kernel correctly."""
    fd = keep(syscall.create_map(ARRAY, 4, 4, 3))
    syscall.update(fd, 2, 0xDEADBEEF)
    syscall.update(fd, 0, 1)
    assert [int.from_bytes(syscall.lookup(fd, key, 4), "little") for key in range(3)] == [1, 0, 0xDEADBEEF]


def test_the_kernels_errno_comes_through(keep: Callable[[int], int]) -> None:
    """Observations are errno names, so they must be the kernel's own."""
    fd = keep(syscall.create_map(SOCKMAP, 4, 4, 1))
    with fails(errno.EINVAL):
        syscall.create_map(SOCKMAP, 5, 4, 1)
    with fails(errno.EBADF):
        syscall.update(fd, 0, 9999)
    with fails(errno.EINVAL):
        syscall.delete(fd, 0)
    first, second = socket.socketpair()
    with first, second, fails(errno.E2BIG):
        syscall.update(fd, 1, first.fileno())


def test_a_socket_goes_in_once_and_comes_out(keep: Callable[[int], int]) -> None:
    """Insertion takes a descriptor, a flag is passed on, deletion frees the slot."""
    fd = keep(syscall.create_map(SOCKMAP, 4, 4, 1))
    noexist = 1
    first, second = socket.socketpair()
    with first, second:
        syscall.update(fd, 0, first.fileno(), noexist)
        with fails(errno.EEXIST):
            syscall.update(fd, 0, first.fileno(), noexist)
        syscall.delete(fd, 0)
        syscall.update(fd, 0, first.fileno(), noexist)


@pytest.mark.parametrize(
    ("section", "attach_type"),
    [
        ("sk_msg", "sk_msg_verdict"),
        ("sk_skb", "sk_skb_stream_verdict"),
        ("sk_skb", "sk_skb_stream_parser"),
    ],
)
def test_a_program_is_attached_and_detached(keep: Callable[[int], int], section: str, attach_type: str) -> None:
    """Each attach type goes with its program type, and detaching twice finds nothing."""
    fd = keep(syscall.create_map(SOCKMAP, 4, 4, 1))
    loaded = keep(program(section, RETURN_ONE).load({}))
    syscall.attach(fd, loaded, attach_type)
    syscall.detach(fd, loaded, attach_type)
    with fails(errno.ENOENT):
        syscall.detach(fd, loaded, attach_type)
    other = keep(program("sk_msg" if section == "sk_skb" else "sk_skb", RETURN_ONE).load({}))
    with fails(errno.EINVAL):
        syscall.attach(fd, other, attach_type)


def test_what_the_verifier_says_is_in_the_error() -> None:
    """A refused program is refused with its reason; a loaded one costs no log."""
    with pytest.raises(OSError, match="R0 !read_ok") as caught:
        program("sk_skb", NEVER_SETS_R0).load({})
    assert caught.value.errno == errno.EACCES


def test_a_program_can_be_loaded_again_with_other_maps(keep: Callable[[int], int]) -> None:
    """The map descriptors of one load do not affect the next."""
    namespace: dict[str, Any] = {}
    exec(build.programs_module(), namespace)  # noqa: S102
    fence = syscall.Program(namespace["PROGRAMS"]["sk_skb_fence"])
    for _ in range(2):
        targets = syscall.create_map(*fence.maps["targets"])
        keep(fence.load({"targets": targets}))
        os.close(targets)
    with fails(errno.EBADF):
        fence.load({"targets": 9999})
