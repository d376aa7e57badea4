# SPDX-License-Identifier: GPL-2.0-only
"""`conform completion`: let a shell complete words by asking the parser."""

from __future__ import annotations

import argparse
import sys

from common.errors import ExitCode
from common.say import put


def completion(options: argparse.Namespace) -> int:
    """Print the shell's code, for `eval`."""
    from argcomplete.shell_integration import shellcode

    put(shellcode(["conform", "./conform"], shell=options.shell).splitlines(), sys.stdout)
    return int(ExitCode.OK)
