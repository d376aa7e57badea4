# SPDX-License-Identifier: GPL-2.0-only
"""What came of a system call, as a word; waiting for an answer; functions by the words that cases have for them."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

_NAP = partial(time.sleep, 0.001)
_Result = TypeVar("_Result")
_Function = TypeVar("_Function", bound=Callable[..., Any])
Steps = dict[str, str]
"""The answer of each step of a case, in the order in which the steps were taken."""
FORBIDDEN = "EPERM"
"""The answer if loading a known type of program is forbidden before verification."""

_ENOTSUPP = 524
"""Of the kernel's own use, and yet what bpf(2) returns."""
# Of two names for one number Python takes the last; the kernel's sources say EOPNOTSUPP.
_ERRNO_NAMES = {
    **errno.errorcode,
    errno.EAGAIN: "EAGAIN",
    errno.EOPNOTSUPP: "EOPNOTSUPP",
    errno.EDEADLK: "EDEADLK",
    _ENOTSUPP: "ENOTSUPP",
}


def attempt(function: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """Call a function; return `"ok"`, or the name of the errno that it raised."""
    try:
        function(*arguments, **options)
    except OSError as error:
        return name_of(error)
    return "ok"


def outcome(function: Callable[..., _Result], *arguments: Any) -> _Result | str:
    """Call a function; return its result, or the name of the errno that it raised."""
    try:
        return function(*arguments)
    except OSError as error:
        return name_of(error)


def opens(function: Callable[..., int], *arguments: Any) -> str:
    """Call a function that returns a descriptor, and close the descriptor; return `"ok"` or the errno."""
    return attempt(lambda: os.close(function(*arguments)))


def by_name(*functions: _Function) -> dict[str, _Function]:
    """Return functions by the names that cases use: with dashes, and without the leading underscore."""
    return {function.__name__.strip("_").replace("_", "-"): function for function in functions}


def name_of(error: OSError) -> str:
    """Return the name of the errno of an OSError; Python's own timeouts have none, and count as ETIMEDOUT."""
    return error_name(error.errno or errno.ETIMEDOUT)


def error_name(number: int) -> str:
    """Return the name of an errno, `"ok"` for 0."""
    return _ERRNO_NAMES.get(number, str(number)) if number else "ok"


def wait_until(condition: Callable[[], object], seconds: float, meanwhile: Callable[[], object] = _NAP) -> bool:
    """Call `condition` until it returns true, and `meanwhile` between the calls; False if `seconds` pass before that.

    This is for changes that the kernel makes in a worker, and for which it reports no event.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        meanwhile()
    return True
