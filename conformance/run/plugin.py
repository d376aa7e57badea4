# SPDX-License-Identifier: GPL-2.0-only
"""The pytest plugin: options, parametrisation by kernel, the `conform` fixture, and the scheduler.

It stays out of the way of test modules that use none of its fixtures.
"""

from __future__ import annotations

import json
import math
import pickle
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import FunctionType
from typing import Any, TypeGuard

import pytest

from common import foreign
from common.errors import ConformError, DeadlinePassed, HostError, UsageError, exhausted, lines_of
from conformance.groups import GROUPS, cases
from conformance.model import Case, Judgement, Verdict
from conformance.run.artifacts import collect
from conformance.run.case_record import FAULT, RECORD
from conformance.run.controller import Controller
from conformance.run.deadline import PASSED, alarm, exit_at
from conformance.run.machine_pool import MachinePool
from conformance.run.options import add_pytest_options, workers
from conformance.run.quick_run import chosen_cases
from conformance.run.remote import here, resolve_here
from conformance.run.run_options import read_options
from conformance.run.selection import admitting, checked
from conformance.run.stash import (
    BROKEN,
    DONE,
    DURATIONS,
    LAST,
    OPTIONS,
    POOL,
    broken_in,
    case_of,
    kernel_of,
    specs_of,
)
from conformance.run.try_case import examine, unanswered
from kernels.kernel import Kernel
from vm.machine import MachineOptions

_CASES = "conformance.cases"

_SHARED = 0.9
"""The share of the total time for --until-fail; workers get different numbers of cases."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the suite's options."""
    add_pytest_options(parser.getgroup("conform", "SOCKMAP conformance").addoption)


def pytest_configure(config: pytest.Config) -> None:
    """Read the kernel specs; on the controller, register the plugin that gathers the results."""
    try:
        if OPTIONS not in config.stash:
            config.stash[OPTIONS] = read_options(config.option, config.option.keyword)
        asked = config.stash[OPTIONS]
        checked(asked.wanted, cases())
    except ConformError as error:
        raise pytest.UsageError(lines_of(error)) from error
    worker_input = getattr(config, "workerinput", None)
    if worker_input is not None:
        kernels = pickle.loads(worker_input["conform_kernels"])  # noqa: S301 - made by our own controller
        expires = time.monotonic() + worker_input["conform_left"]
        exit_at(expires)
        config.stash[POOL] = _pool(kernels, asked.machine, expires, tuple(worker_input["conform_home"]))
        config.stash[BROKEN] = frozenset(worker_input["conform_broken"])
        config.stash[DONE] = frozenset(worker_input["conform_done"])
        config.stash[DURATIONS] = worker_input["conform_durations"]
    elif config.pluginmanager.get_plugin("conform-controller") is None:
        config.pluginmanager.register(Controller(config), "conform-controller")


def _pool(kernels: Mapping[str, Kernel], options: MachineOptions, expires: float, home: tuple[str, ...]) -> MachinePool:
    """Return a worker's pool; a worker on another machine finds and prepares kernels itself."""
    if home == here():
        return MachinePool(kernels, options, expires)
    pool = MachinePool(resolve_here(kernels), options, expires)
    for slug in pool.kernels:
        pool.prepare(slug, lambda _: None)
    return pool


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the machine in use."""
    pool = config.stash.get(POOL, None)
    if pool is not None:
        pool.close()


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Module | pytest.Class, name: str, obj: object) -> list[Any] | None:
    """Make no test for a group without chosen cases; pytest would make a skipped one."""
    return [] if _is_of_cases(obj) and not _chosen_of(collector.config, obj.__name__) else None


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize every test that judges a kernel by kernel, which comes first in its id.

    A test of a group gets the cases that are chosen for any kernel.
    """
    if "conform" not in metafunc.fixturenames:
        return
    config, slugs = metafunc.config, list(specs_of(metafunc.config))
    metafunc.parametrize("kernel", slugs, ids=slugs, indirect=True, scope="session")
    if _is_of_cases(metafunc.function):
        chosen = _chosen_of(config, metafunc.function.__name__)
        metafunc.parametrize("case", chosen, ids=[case.name for case in chosen])


def _is_of_cases(obj: object) -> TypeGuard[FunctionType]:
    """Tell whether a function is the test of a group; nothing else in the folder of the cases is one."""
    return isinstance(obj, FunctionType) and obj.__module__.rpartition(".")[0] == _CASES and obj.__name__[5:] in GROUPS


def _chosen_of(config: pytest.Config, test: str) -> list[Case]:
    """Return the cases of a group, named by its test, that are chosen for any kernel; as one list, in their order."""
    chosen = chosen_cases(config)
    return [case for case in GROUPS[test[5:]].cases() if any(case.id in each for each in chosen.values())]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out finished cases, cases chosen for other kernels only, and kernels that do not run.

    A denied case stays: the event log has it as `skip`, with the reason.
    """
    broken, done, wanted = broken_in(config), config.stash.get(DONE, frozenset[str]()), config.stash[OPTIONS].wanted
    # Chosen once, not for each item: five kernels have 20,000.
    admitted, chosen = admitting(wanted), chosen_cases(config)

    def runs(item: pytest.Item) -> bool:
        case, slug = case_of(item), kernel_of(item)
        if slug in broken or item.nodeid in done:
            return False
        if isinstance(item, pytest.Function) and _is_of_cases(item.function):
            return case is None or case.id in chosen.get(slug, ())
        return case is None or admitted(case)

    sides: tuple[list[pytest.Item], list[pytest.Item]] = ([], [])
    for item in items:
        sides[runs(item)].append(item)
    left_out, items[:] = sides
    if left_out:
        config.hook.pytest_deselected(items=left_out)
    if durations := config.stash.get(DURATIONS, {}):
        from conformance.run.scheduler import longest_first

        key = longest_first(durations, list(specs_of(config)))
        items.sort(key=lambda item: key(kernel_of(item), item.nodeid))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """With --until-fail, divide the total time among the cases."""
    asked, pool = session.config.stash[OPTIONS], session.config.stash.get(POOL, None)
    cases = sum(1 for item in session.items if case_of(item))
    if asked.repetition.until_fail and pool is not None and cases:
        workers = getattr(session.config, "workerinput", {}).get("workercount", 1)
        seconds = _SHARED * (pool.expires - time.monotonic()) * workers / cases
        repetition = replace(asked.repetition, seconds=seconds)
        session.config.stash[OPTIONS] = replace(asked, repetition=repetition)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Remember the last case of each kernel, after which its machine is closed."""
    item.stash[LAST] = nextitem is None or kernel_of(nextitem) != kernel_of(item)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Schedule by kernel and shard, whatever distribution over all workers was asked for."""
    if config.option.dist in ("no", "each"):
        return None
    # One case needs no workers, and their machinery takes a tenth of a second to import.
    from conformance.run.scheduler import ShardScheduling

    return ShardScheduling(config, log, list(specs_of(config)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run as many workers as there are processors and memory for their machines."""
    # xdist asks before anything is configured.
    return workers(config.option)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Hand a worker the kernels as the controller found them."""
    pool = node.config.stash.get(POOL, None)
    controller = node.config.pluginmanager.get_plugin("conform-controller")
    expires = pool.expires if pool is not None else math.inf
    node.workerinput["conform_left"] = (
        expires - time.monotonic()
    )  # the monotonic clock of another machine has another zero
    node.workerinput["conform_done"] = sorted(node.config.stash.get(DONE, ()))
    node.workerinput["conform_home"] = list(here())
    node.workerinput["conform_durations"] = dict(controller.recorder.durations)
    node.workerinput["conform_broken"] = sorted(broken_in(node.config))
    node.workerinput["conform_kernels"] = pickle.dumps(pool.kernels if pool is not None else {})


@pytest.fixture(scope="session")
def kernel(request: pytest.FixtureRequest) -> str:
    """The kernel under test, by its slug."""
    return str(request.param)


@pytest.fixture
def conform(request: pytest.FixtureRequest, kernel: str) -> Callable[[Case], None]:
    """Examine a case on the kernel under test: returns for pass, and skips, xfails or fails for anything else."""

    def conform_case(case: Case) -> None:
        judgement, record = _examined(request, kernel, case)
        request.node.user_properties.append((RECORD, json.dumps(record)))
        _settle(judgement)

    return conform_case


def _examined(request: pytest.FixtureRequest, kernel: str, case: Case) -> tuple[Judgement, dict[str, Any]]:
    """Examine a case, with its evidence; stop the session if time is up, the host is broken or a table is wrong."""
    stash, found = request.config.stash, None
    pool, asked = stash[POOL], stash[OPTIONS]
    try:
        with alarm(pool.expires):
            last = request.node.stash.get(LAST, False)
            found = examine(pool, kernel, case, asked.lists, asked.repetition, last=last)
            if asked.evidence_request is not None and not found[0].verdict.expected:
                collect(pool, kernel, case, asked.lists, asked.evidence_request)
    except DeadlinePassed:
        # The controller gives the remaining cases their verdict.
        request.session.shouldstop = PASSED
        return found or unanswered(kernel, case, PASSED)
    except (HostError, UsageError) as error:
        # A wrong row of a table is a usage error that is found only here.
        stopped = _stopped(request, kernel, case, error)
        return found or stopped
    except (OSError, MemoryError) as error:
        if (limit := exhausted(error)) is None:
            raise
        stopped = _stopped(request, kernel, case, limit)
        return found or stopped
    return found


def _stopped(
    request: pytest.FixtureRequest, kernel: str, case: Case, error: ConformError
) -> tuple[Judgement, dict[str, Any]]:
    """End the session, for the next case would meet the same error; return the judgement of this one."""
    request.session.shouldstop = foreign.line(str(error))
    request.node.user_properties.append((FAULT, json.dumps([str(error), error.hint])))
    return unanswered(kernel, case, str(error))


def _settle(judgement: Judgement) -> None:
    """Express a judgement in pytest's words."""
    if judgement.verdict is Verdict.SKIP:
        pytest.skip(foreign.line(judgement.reason))
    if judgement.verdict is Verdict.XFAIL:
        pytest.xfail(foreign.line(judgement.reason))
    if judgement.verdict is not Verdict.PASS:
        lines = [
            f"{judgement.verdict}: expected {judgement.expected}, observed {judgement.observed}",
            *(f"  {difference}" for difference in judgement.differences),
            f"  because: {judgement.reason}",
            *(f"  row: {ground.sentence()}" for ground in judgement.grounds),
        ]
        pytest.fail("\n".join(map(foreign.line, lines)), pytrace=False)
