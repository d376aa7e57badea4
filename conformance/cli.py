# SPDX-License-Identifier: GPL-2.0-only
"""The `conform` command: its arguments, and what each subcommand does."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from types import FrameType

from common.errors import ConformError
from common.errors import ExitCode
from common.errors import Terminated
from common.errors import UsageError
from common.errors import complain
from common.say import put

_EXIT_CODES = """\
exit codes, fit for `git bisect run`:
  0        nothing unexpected
  1        at least one unexpected result
  125      this kernel could not be judged
  128      wrong usage, or a broken host
  130/143  interrupted by SIGINT/SIGTERM
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(message, hint=f"see {self.prog} --help")

    def _print_message(self, message: str, file: object = None) -> None:
        put(message.splitlines(), sys.stdout)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code; every error is one sentence and a hint on stderr."""
    signal.signal(signal.SIGTERM, _terminate)
    if sys.stdout is None:  # started with it closed (`>&-`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.stdout = os.fdopen(1, "w")
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments)
        return int(options.run(options))
    except ConformError as error:
        complain(error)
        return int(error.exit_code)
    except Terminated:
        return int(ExitCode.TERMINATED)
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # The reader of a pipe went away; point stdout elsewhere so that interpreter shutdown stays silent.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.BROKEN)
    except Exception as error:
        return _confess(error)


def _confess(error: Exception) -> int:
    """Keep the traceback of a fault of our own in a file and say where."""
    with tempfile.NamedTemporaryFile("w", prefix="conform-", suffix=".log", delete=False) as file:
        traceback.print_exception(error, file=file)
    sentence = f"a fault of the suite itself: {type(error).__name__}: {error}"
    complain(ConformError(sentence, hint=f"please report it with {file.name}"))
    return int(ExitCode.BROKEN)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; what follows `--` is kept for pytest."""
    own, pytest_arguments = _split(arguments)
    parser = _Parser(
        prog="./conform", description="Judge a kernel's SOCKMAP.", epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    _add_run(commands)
    _add_shell(commands)
    _add_explain(commands)
    _add_defects(commands)
    _add_report(commands)
    _add_compare(commands)
    _add_matrix(commands)
    merge = commands.add_parser("merge", help="make the results of shards, or of several jobs, those of one run")
    merge.add_argument("directory", nargs="+", metavar="DIR", help="what --results wrote")
    merge.add_argument("--output", required=True, metavar="DIR", help="where the one run goes")
    merge.set_defaults(run=_merge)
    _add_kernels(commands)
    _add_teeth(commands)
    doctor = commands.add_parser("doctor", help="say what is present, what is missing and how to mend it")
    doctor.set_defaults(run=_doctor)
    _add_benchmark(commands)
    commands.add_parser("test", help="pass the project's own tests: lint, types, unit tests, booted kernels")
    options = parser.parse_args(own)
    options.pytest_arguments = pytest_arguments
    return options


def _add_benchmark(commands: argparse._SubParsersAction[_Parser]) -> None:
    benchmark = commands.add_parser("benchmark", help="time the suite itself against its bars, and what it took before")
    benchmark.add_argument("--runs", type=_at_least_one, default=5, help="runs of each measure (default: 5)")
    benchmark.add_argument("--only", action="append", default=[], metavar="MEASURE", help="only this one; repeatable")
    benchmark.add_argument("--quick", action="store_true", help="only the measures that take seconds")
    benchmark.add_argument("--save", action="store_true", help="keep the figures in conformance/benchmark.toml")
    benchmark.set_defaults(run=_benchmark)


def _at_least_one(text: str) -> int:
    """Read a count; argparse names the option where it is none."""
    if (count := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is too little, 1 is the least")
    return count


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    listed = list(arguments)
    if "--" not in listed:
        return listed, []
    at = listed.index("--")
    return listed[:at], listed[at + 1 :]


def _add_run(commands: argparse._SubParsersAction[_Parser]) -> None:
    run = commands.add_parser(
        "run", help="judge a kernel", epilog=_EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    from conformance.run.options import add_options

    add_options(run.add_argument)
    run.add_argument("-k", metavar="EXPRESSION", help="only cases whose id matches, as in pytest")
    run.add_argument("-n", metavar="WORKERS", help="workers, each with its own clone (default: one a CPU)")
    run.add_argument("--find-fix", action="store_true", help="swap 0 and 1: `git bisect run` then finds what mended it")
    run.add_argument("--resume", metavar="DIR", help="go on with the interrupted run whose results are there")
    run.add_argument("--no-install", action="store_true", help="never install a package; name what is missing")
    run.set_defaults(run=_run)


def _add_shell(commands: argparse._SubParsersAction[_Parser]) -> None:
    shell = commands.add_parser("shell", help="open a shell in a kernel's clone, with a case standing in it")
    from conformance.run.options import add_options

    add_options(shell.add_argument, without=("--case",))
    shell.add_argument(
        "--case", dest="conform_case", action="append", metavar="GLOB",
        help="run this case, the only one that matches, up to where it would tear itself down",
    )  # fmt: skip
    shell.add_argument("--gdb", action="store_true", help="stop the kernel and say how to attach gdb")
    shell.set_defaults(run=_shell)


def _add_explain(commands: argparse._SubParsersAction[_Parser]) -> None:
    explain = commands.add_parser("explain", help="say what a case does and what is expected of a kernel, and why")
    explain.add_argument("case", metavar="CASE", help="its id, or a glob that means just one")
    explain.add_argument("--kernel", metavar="SPEC", help="what is expected of this kernel; nothing is booted")
    explain.add_argument("--version", metavar="V", help="what is expected of a kernel of this version, e.g. 6.1.192")
    explain.set_defaults(run=_explain)


def _add_defects(commands: argparse._SubParsersAction[_Parser]) -> None:
    defects = commands.add_parser("defects", help="list what kernels are known to do wrong; nothing is booted")
    defects.add_argument("--kernel", metavar="SPEC", help="only those that this kernel should show; it is not booted")
    defects.add_argument("--version", metavar="V", help="only those that a kernel of this version should show: 6.1.192")
    defects.add_argument("--open", action="store_true", help="only those that the newest known kernel still has")
    form = defects.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for a program: one array")
    form.add_argument("--markdown", action="store_true", help="for a page or a mail")
    defects.set_defaults(run=_defects)


def _add_teeth(commands: argparse._SubParsersAction[_Parser]) -> None:
    teeth = commands.add_parser("teeth", help="put faults into a kernel, and say which case finds each")
    teeth.add_argument(
        "--fault", action="append", default=[], metavar="N|GLOB",
        help="only these faults: a number, or a glob of functions or files; repeatable (default: all)",
    )  # fmt: skip
    teeth.add_argument("--kernel", metavar="SPEC", help="a kernel that has the faults (default: built from source)")
    teeth.add_argument("--results", default="teeth-results", metavar="DIR", help="outcomes are kept and found there")
    teeth.add_argument("--again", action="store_true", help="also the faults whose outcome is there")
    teeth.add_argument("--stress", action="store_true", help="also run the hammer on every fault that survives")
    teeth.add_argument("--list", action="store_true", help="list the faults and their outcomes; nothing is run")
    teeth.add_argument("-n", type=_at_least_one, metavar="WORKERS", help="default: one a CPU")
    teeth.set_defaults(run=_teeth)


def _add_report(commands: argparse._SubParsersAction[_Parser]) -> None:
    from conformance.report.formats import FORMATS

    report = commands.add_parser("report", help="write what a run's event log says in another format")
    report.add_argument("directory", nargs="+", metavar="DIR", help="what --results wrote; several count as one run")
    readers = ", ".join(f"{name} ({each.reader})" for name, each in FORMATS.items())
    report.add_argument("--format", choices=list(FORMATS), default="text", help=f"{readers}; default: text")
    report.add_argument("--output", metavar="FILE", help="write to FILE; - or nothing is standard output")
    report.add_argument("--open", action="store_true", help="write the web page, DIR/report.html, and open it")
    report.set_defaults(run=_report)


def _add_compare(commands: argparse._SubParsersAction[_Parser]) -> None:
    compare = commands.add_parser(
        "compare",
        help="judge two kernels and say what has become worse, better or neither",
        epilog="exit codes: 1 if head has regressed, 0 if not; the others as of `run`",
    )
    from conformance.run.options import add_options

    compare.add_argument("base", metavar="BASE", help="the reference: a kernel, or a folder that --results wrote")
    compare.add_argument("head", metavar="HEAD", help="the kernel in question, or a folder")
    add_options(compare.add_argument, without=("--kernel",))
    compare.add_argument("-k", metavar="EXPRESSION", help="only cases whose id matches, as in pytest")
    compare.add_argument("-n", metavar="WORKERS", help="workers, each with its own clone (default: one a CPU)")
    compare.add_argument(
        "--again", type=int, default=5, metavar="N", help="repeat what differs N times on each kernel (default: 5)"
    )
    compare.add_argument("--strict", action="store_true", help="grant HEAD no change that its own version promises")
    compare.set_defaults(run=_compare, conform_kernel=None)


def _add_matrix(commands: argparse._SubParsersAction[_Parser]) -> None:
    config = commands.add_parser("config", help="print the default conform.toml, which says what a matrix judges")
    config.set_defaults(run=_config)
    matrix = commands.add_parser("matrix", help="judge every kernel of a conform.toml, and keep the night")
    matrix.add_argument("file", nargs="?", metavar="FILE", help="default: conform.toml")
    matrix.add_argument("--results", metavar="DIR", help="where this night goes (default: a new folder in the outputs)")
    matrix.add_argument("--case", action="append", metavar="GLOB", help="only these cases, by id; repeatable")
    matrix.add_argument("--shard", metavar="I/N", help="judge only the I-th of N shares of the cases")
    matrix.set_defaults(run=_matrix)
    history = commands.add_parser("history", help="show what each case came to on each kernel, night after night")
    history.add_argument("folder", metavar="FOLDER", help="event logs anywhere below it are nights")
    history.add_argument("--case", action="append", metavar="GLOB", help="only these cases, by id; repeatable")
    history.add_argument("--all", action="store_true", help="also the cases there is nothing to say about")
    history.set_defaults(run=_history)


def _add_kernels(commands: argparse._SubParsersAction[_Parser]) -> None:
    kernels = commands.add_parser("kernels", help="list what is cached and what the archive offers")
    kernels.set_defaults(run=_kernels, action="list")
    actions = kernels.add_subparsers(dest="action", metavar="ACTION", parser_class=_Parser)
    fetch = actions.add_parser("fetch", help="fetch a kernel into the cache, newest version")
    fetch.add_argument("spec", nargs="+", metavar="SPEC")
    prune = actions.add_parser("prune", help="remove cached kernels and templates")
    prune.add_argument("--days", type=int, default=0, help="keep what was used in the last DAYS days (default: 0)")


def _run(options: argparse.Namespace) -> int:
    if not options.resume:
        from conformance.run.options import chosen_of

        # Before the imports of all that a run needs, which take as long again.
        chosen_of(options)
    from conformance.commands.run import run

    return run(options, parse)


def _shell(options: argparse.Namespace) -> int:
    from conformance.commands.shell import shell

    return shell(options)


def _explain(options: argparse.Namespace) -> int:
    from conformance.commands.explain import explain

    return explain(options)


def _defects(options: argparse.Namespace) -> int:
    from conformance.commands.defects import list_defects

    return list_defects(options)


def _teeth(options: argparse.Namespace) -> int:
    from conformance.commands.teeth import teeth

    return teeth(options)


def _report(options: argparse.Namespace) -> int:
    from conformance.commands.report import report

    return report(options)


def _compare(options: argparse.Namespace) -> int:
    from conformance.commands.compare import compare

    return compare(options)


def _config(options: argparse.Namespace) -> int:
    from conformance.commands.matrix import config

    return config(options)


def _matrix(options: argparse.Namespace) -> int:
    from conformance.commands.matrix import matrix

    return matrix(options)


def _merge(options: argparse.Namespace) -> int:
    from conformance.commands.merge import merge

    return merge(options)


def _history(options: argparse.Namespace) -> int:
    from conformance.commands.history import history

    return history(options)


def _kernels(options: argparse.Namespace) -> int:
    from conformance.commands.kernels import kernels

    return kernels(options)


def _benchmark(options: argparse.Namespace) -> int:
    from conformance.commands.benchmark import benchmark

    return benchmark(options)


def _doctor(options: argparse.Namespace) -> int:
    from conformance.host.doctor import doctor

    return doctor()


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated
