# SPDX-License-Identifier: GPL-2.0-only
"""The arguments of every command."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from common.program import program
from common.values import WORKERS, Bounds
from conformance.command_line.parser import Parser, add_colour, workers

_MACHINE = ("--kernel", "--patch", "--config", "--preset", "--machine", "--accel", "--append", "--cpus", "--memory")
"""The shared options for commands that start a machine and judge no case."""
_NOT_COMPARED = ("--kernel", "--quick", "--shard", "--until-fail")
"""The shared options that would make the two sides run different cases."""
_FOLDERS = "a results folder, e.g. conform-results/latest"

Commands = argparse._SubParsersAction  # noqa: SLF001 - argparse has no public name for it


def top(version: str) -> tuple[Parser, Mapping[str, Parser]]:
    """Return the parser of the whole command line, and those of its commands by name."""
    parser = Parser(
        prog=program(), description="Test SOCKMAP and SOCKHASH of a Linux kernel.", exits=True,
        examples="""
            ./conform run                                # test Debian's 6.12 kernel
            ./conform run ~/linux                        # test a built tree
            ./conform compare debian:6.12 ~/linux        # what has regressed?
            ./conform explain redirect/sockmap-send-to-local-tcp4-udp4 --version 6.12.100
        """,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=version, help="print the version and exit")
    commands: Commands[Parser] = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=Parser
    )
    for add in (_run, _shell, _explain, _defects, _list, _report, _compare, _config, _matrix, _history, _merge,
                _kernels, _boundaries, _teeth, _doctor, _benchmark, _test, _completion, _manual):  # fmt: skip
        add(commands)
    _describe(commands)
    return parser, commands.choices


def _describe(commands: Commands[Parser]) -> None:
    """Begin the help of each command with its line in the list of commands, if it has no description."""
    for listed in commands._choices_actions:  # noqa: SLF001 - argparse keeps the lines nowhere else
        parser = commands.choices[listed.dest]
        parser.description = parser.description or f"{(listed.help or '')[:1].upper()}{(listed.help or '')[1:]}."


def _run(commands: Commands[Parser]) -> None:
    from conformance.run.options import add_options

    run = commands.add_parser(
        "run", help="test kernels", exits=True,
        description="Test kernels and report unexpected results. Arguments after -- go to pytest.",
        examples="""
            ./conform run
            ./conform run ~/linux --case redirect
            ./conform run --kernel debian:6.12 --kernel debian:7.3 --quick
            ./conform run --resume conform-results/latest
            git bisect run path/to/conform run tree:. --case ID
        """,
    )  # fmt: skip
    run.add_argument("kernels", nargs="*", metavar="KERNEL", help="the same as --kernel KERNEL")
    add_options(run)
    _add_selection(run)
    run.add_argument("--find-fix", action="store_true", help="swap exit codes 0 and 1, to bisect for a fix")
    run.add_argument(
        "--resume", metavar="DIR", help="resume the interrupted run in DIR with the options it was started with"
    )
    _add_consent(run)
    _add_verbosity(run)
    add_colour(run)


def _shell(commands: Commands[Parser]) -> None:
    from conformance.run.options import add_options

    shell = commands.add_parser(
        "shell", help="open a shell in a kernel's machine, with a case set up in it",
        description="Open a shell in a kernel's machine, or run the COMMAND after -- and exit with its status.",
        examples="""
            ./conform shell --kernel debian:6.12 --case redirect/sockmap-send-to-local-tcp4-udp4
            ./conform shell -- uname -a
        """,
    )  # fmt: skip
    add_options(shell, only=_MACHINE, once=("--kernel",))
    shell.add_argument(
        "--case", dest="conform_case", action="append", metavar="GLOB",
        help="set up the one case that GLOB matches, and pause before its teardown",
    )  # fmt: skip
    _add_verbosity(shell, "print the kernel and the machine", "print only errors, and the shell's output")
    shell.add_argument("--gdb", action="store_true", help="stop the kernel and print the command that attaches gdb")
    _add_consent(shell)


def _explain(commands: Commands[Parser]) -> None:
    explain = commands.add_parser(
        "explain", help="explain a case: what it does, what is expected of a kernel, and why",
        examples="./conform explain redirect/sockmap-send-to-local-tcp4-udp4 --version 6.1.192",
    )  # fmt: skip
    explain.add_argument("case", metavar="CASE", help="a case's id, or a glob that matches only one")
    explain.add_argument("--kernel", metavar="SPEC", help="what is expected of this kernel; it is not booted")
    explain.add_argument("--version", metavar="V", help="what is expected of a kernel of this version, e.g. 6.1.192")
    add_colour(explain)


def _defects(commands: Commands[Parser]) -> None:
    defects = commands.add_parser(
        "defects", help="list what kernels are known to do wrong; nothing is booted",
        examples="""
            ./conform defects --open
            ./conform defects --version 6.1.192 --json
        """,
    )  # fmt: skip
    defects.add_argument("--kernel", metavar="SPEC", help="only those that this kernel should show; it is not booted")
    defects.add_argument("--version", metavar="V", help="only those that a kernel of this version should show: 6.1.192")
    defects.add_argument("--open", action="store_true", help="only those that the newest known kernel still has")
    form = defects.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print a JSON array")
    form.add_argument("--markdown", action="store_true", help="print Markdown")
    add_colour(defects)


def _boundaries(commands: Commands[Parser]) -> None:
    boundaries = commands.add_parser(
        "boundaries",
        help="list the versions at which expectations change, and the released kernels before and after each",
        examples="""
            ./conform boundaries --only 6.18
            ./conform boundaries --only e5c6de5fa025 --prove
        """,
    )  # fmt: skip
    boundaries.add_argument(
        "--only", default="", metavar="GLOB", help="only changes by this commit, on this branch or in this version"
    )
    boundaries.add_argument(
        "--prove", action="store_true", help="test the kernels before and after, and print rows for proved.toml"
    )
    add_colour(boundaries)


def _teeth(commands: Commands[Parser]) -> None:
    teeth = commands.add_parser(
        "teeth", help="run the suite on a kernel with each planted fault, and report which case finds it",
        examples="""
            ./conform teeth --list
            ./conform teeth --fault 17 --fault 'sk_psock_*'
        """,
    )  # fmt: skip
    teeth.add_argument(
        "--fault", action="append", default=[], metavar="N|GLOB",
        help="only these faults: a number, or a glob of functions or files; repeatable (default: all)",
    )  # fmt: skip
    teeth.add_argument("--kernel", metavar="SPEC", help="a kernel that has the faults (default: built from source)")
    teeth.add_argument("--results", default="teeth-results", metavar="DIR", help="folder of the outcomes")
    teeth.add_argument("--again", action="store_true", help="also try faults that already have an outcome")
    teeth.add_argument("--stress", action="store_true", help="also run the group `hammer` on every fault that survives")
    teeth.add_argument("--list", action="store_true", help="list the faults and their outcomes; nothing is run")
    teeth.add_argument("-n", type=Bounds(1, WORKERS.most), metavar="WORKERS", help="workers (default: one per CPU)")
    add_colour(teeth)


def _list(commands: Commands[Parser]) -> None:
    listing = commands.add_parser(
        "list", help="list the cases by group, socket kind and redirect mode; nothing is booted",
        examples="""
            ./conform list
            ./conform list --case redirect -k 'udp4 and not vsock'
            ./conform list --json | jq -r '.[].id'
        """,
    )  # fmt: skip
    _add_case(listing)
    listing.add_argument("-k", metavar="EXPRESSION", help="only cases whose id matches, as in pytest")
    _add_json(listing)


def _report(commands: Commands[Parser]) -> None:
    from conformance.report.formats import FORMATS

    report = commands.add_parser(
        "report", help="convert results to another format",
        examples="""
            ./conform report conform-results/latest
            ./conform report conform-results/latest --open
            ./conform report shard1 shard2 --format junit --output report.xml
        """,
    )  # fmt: skip
    report.add_argument("directory", nargs="+", metavar="DIR", help=f"{_FOLDERS}; several count as one run")
    readers = ", ".join(f"{name} ({each.reader})" for name, each in FORMATS.items())
    report.add_argument("--format", choices=list(FORMATS), default="text", help=f"{readers}; default: text")
    report.add_argument("--output", metavar="FILE", help="write to FILE (default, or -: standard output)")
    report.add_argument("--open", action="store_true", help="write the web page, DIR/report.html, and open it")
    add_colour(report)


def _compare(commands: Commands[Parser]) -> None:
    from conformance.run.options import add_options

    compare = commands.add_parser(
        "compare", help="test two kernels and report what has regressed, and what is fixed",
        description="Test two kernels and report what differs. Exit code 1 means that HEAD has regressed.", exits=True,
        examples="""
            ./conform compare debian:6.12 ~/linux
            ./conform compare tree:~/linux@v7.3 tree:~/linux@v7.3 --patch fix.mbox
            ./conform compare conform-results/A conform-results/B
        """,
    )  # fmt: skip
    compare.add_argument("base", metavar="BASE", help="the reference: a kernel, or a results folder")
    compare.add_argument("head", metavar="HEAD", help="the kernel to compare with it, or a results folder")
    add_options(compare, but=_NOT_COMPARED)
    _add_selection(compare)
    compare.add_argument(
        "--again", type=Bounds(0, 1000), default=5, metavar="N",
        help="repeat each differing case N times on each kernel (default: 5)",
    )  # fmt: skip
    compare.add_argument(
        "--strict", action="store_true", help="also count expected version-dependent changes as regressions"
    )
    compare.set_defaults(conform_kernel=None)
    _add_verbosity(compare, "print each case's verdict", "print only the counts, the regressions and the summary")
    _add_consent(compare)
    add_colour(compare)


def _config(commands: Commands[Parser]) -> None:
    commands.add_parser("config", help="print the default conform.toml, which lists what `matrix` tests")


def _matrix(commands: Commands[Parser]) -> None:
    matrix = commands.add_parser(
        "matrix", help="test all kernels listed in conform.toml and save the results",
        examples="""
            ./conform config > conform.toml && ./conform matrix
            ./conform matrix --shard 1/4 --results results/1
            ./conform matrix --resume results/1
        """,
    )  # fmt: skip
    matrix.add_argument("file", nargs="?", metavar="FILE", help="what to test, and how (default: conform.toml)")
    matrix.add_argument(
        "--results", metavar="DIR", help="results folder (default: a new one in `outputs.folder` of conform.toml)"
    )
    _add_case(matrix)
    matrix.add_argument("--shard", metavar="I/N", help="run only share I of N equal shares of the cases")
    matrix.add_argument(
        "--resume", metavar="DIR", help="resume the interrupted run in DIR with the options it was started with"
    )
    _add_consent(matrix, asked="install missing packages without asking")
    _add_verbosity(matrix)
    add_colour(matrix)


def _history(commands: Commands[Parser]) -> None:
    history = commands.add_parser(
        "history", help="show each case's verdicts over time, per kernel",
        examples="""
            ./conform history results
            ./conform history conform-results --case 'teardown/*' --json
        """,
    )  # fmt: skip
    history.add_argument("folder", metavar="FOLDER", help="a folder with results folders anywhere below it")
    _add_case(history)
    history.add_argument("--all", action="store_true", help="also show the cases that did not change and do not fail")
    _add_json(history)
    add_colour(history)


def _merge(commands: Commands[Parser]) -> None:
    merge = commands.add_parser(
        "merge", help="merge results of shards or CI jobs into one run",
        examples="./conform merge results/1 results/2 --output night",
    )  # fmt: skip
    merge.add_argument("directory", nargs="+", metavar="DIR", help=_FOLDERS)
    merge.add_argument("--output", required=True, metavar="DIR", help="results folder to write")
    add_colour(merge)


def _kernels(commands: Commands[Parser]) -> None:
    kernels = commands.add_parser(
        "kernels", help="list, fetch and prune kernels",
        examples="""
            ./conform kernels list --json
            ./conform kernels fetch debian:6.12 source:7.3
            ./conform kernels prune --days 30 --dry-run
        """,
    )  # fmt: skip
    kernels.set_defaults(action="list", json=False)
    actions = kernels.add_subparsers(dest="action", metavar="ACTION", parser_class=Parser)
    listing = actions.add_parser(
        "list", help="list the kernels that are cached, and those the archive offers (default)"
    )
    _add_json(listing)
    fetch = actions.add_parser("fetch", help="download or build the newest kernel that SPEC names")
    fetch.add_argument("spec", nargs="+", metavar="SPEC")
    prune = actions.add_parser("prune", help="remove cached kernels and templates")
    prune.add_argument(
        "--days",
        type=Bounds(0, 36_500),
        default=0,
        help="keep what was used in the last DAYS days (default: 0, remove all)",
    )
    prune.add_argument("--dry-run", action="store_true", help="only list what would be removed")
    prune.add_argument("--yes", action="store_true", help="remove them without asking")


def _doctor(commands: Commands[Parser]) -> None:
    doctor = commands.add_parser("doctor", help="check the host: what is installed, what is missing, how to fix it")
    _add_json(doctor)
    add_colour(doctor)


def _benchmark(commands: Commands[Parser]) -> None:
    benchmark = commands.add_parser("benchmark", help="measure how fast the suite is, and compare with saved figures")
    benchmark.add_argument("--runs", type=Bounds(1, 1000), default=5, help="runs of each measure (default: 5)")
    benchmark.add_argument(
        "--only", action="append", default=[], metavar="MEASURE", help="run only this measure; repeatable"
    )
    benchmark.add_argument("--quick", action="store_true", help="only the measures that take seconds")
    benchmark.add_argument("--save", action="store_true", help="save the figures in conformance/benchmark.toml")


def _test(commands: Commands[Parser]) -> None:
    test = commands.add_parser("test", help="run the project's own tests: lint, types, unit tests, booted kernels")
    test.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def _completion(commands: Commands[Parser]) -> None:
    completion = commands.add_parser(
        "completion", help="print the script that completes commands and options in a shell",
        examples="""eval "$(./conform completion bash)" """,
    )  # fmt: skip
    completion.add_argument("shell", choices=["bash", "zsh", "fish"])


def _manual(commands: Commands[Parser]) -> None:
    commands.add_parser("manual", help="print a manual page", examples="./conform manual | man -l -")


def _add_selection(parser: Parser) -> None:
    parser.add_argument("-k", metavar="EXPRESSION", help="only cases whose id matches, as in pytest")
    parser.add_argument(
        "-n", metavar="WORKERS", type=workers, help="workers, each with its own clone (default: one for each CPU)"
    )


def _add_consent(parser: Parser, asked: str = "install missing packages, and test `host`, without asking") -> None:
    parser.add_argument("--yes", action="store_true", help=asked)
    parser.add_argument("--no-install", action="store_true", help="never install a package; name what is missing")


def _add_verbosity(
    parser: Parser,
    more: str = "print each case's verdict",
    less: str = "print only unexpected cases and the verdict",
) -> None:
    loud = parser.add_mutually_exclusive_group()
    loud.add_argument("-v", "--verbose", dest="verbosity", action="store_const", const=1, default=0, help=more)
    loud.add_argument(
        "-q", "--quiet", dest="verbosity", action="store_const", const=-1, help=less
    )  # fmt: skip


def _add_case(parser: Parser) -> None:
    parser.add_argument(
        "--case", action="append", metavar="GLOB", help="only cases whose id, GROUP/NAME, matches; repeatable"
    )


def _add_json(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
