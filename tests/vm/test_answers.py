# SPDX-License-Identifier: GPL-2.0-only
"""Whatever a guest sends, the result is a verdict about its kernel."""

from __future__ import annotations

import json
import math
import os
import select
import socket
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import KernelError
from conformance.groups.redirect.cases import redirect_cases
from conformance.judge.conclude import conclude
from conformance.model import KernelFacts, Verdict
from conformance.report import events
from conformance.report.formats import FORMATS
from conformance.run.case_record import case_event
from conformance.run.try_case import examine
from kernels.version import Version
from tests.conformance import report_runs
from tests.conformance.pools import SLUG, ScriptedPool
from vm import answers
from vm.death import DeadMachineError
from vm.guest.frames import HEADER, MARK, Channel, encode
from vm.guest.kmsg import LINES, TEXT
from vm.host import NoGuest
from vm.machine import CallStatus, MachineInfo, MachineKind, Reply
from vm.session import CONSOLE_LIMIT, Session

_T = TypeVar("_T")

INFO = MachineInfo(MachineKind.CLONE, "tcg", "", factor=1.0, boot_seconds=0.0)
CASE = redirect_cases()[0]
FACTS = KernelFacts(version=Version(6, 12), config={})
EXAMPLES = 100
CHUNK = 1000
"""Examples that hypothesis makes at a time: it remembers them all, so 10,000 take 40 times as long as 1,000."""

READERS: tuple[Callable[[dict[str, Any]], object], ...] = (
    answers.number_of, answers.is_late, answers.extension, answers.failure, answers.hello, answers.calibration,
    answers.window, answers.reply, answers.screen, answers.status,
)  # fmt: skip
FIELDS = (
    "id", "status", "value", "error", "log", "before", "log_complete", "taint", "trace", "spent", "dropped", "late",
    "extend", "release", "modules", "vmcoreinfo", "seconds", "screen", "status", "steps",
)  # fmt: skip

texts = st.text(st.characters(codec=None, exclude_categories=())) | st.sampled_from(
    ["nan", "answered", "\ud800", "\x1b[2J"]
)
numbers = (
    st.integers() | st.floats() | st.sampled_from([2**64, -1, 10**400, math.nan, math.inf, True, 0]) | st.integers(0, 7)
)
leaves = st.none() | st.booleans() | numbers | texts
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5), max_leaves=12
)
records = st.lists(numbers | texts, min_size=4, max_size=4) | st.tuples(
    st.integers(0, 9),
    st.integers(0, 7),
    st.integers(0, 10**9) | st.just(2**63),
    texts | st.just("BUG: unable to handle"),
).map(list)
likely = {
    "status": st.sampled_from(["answered", "raised", "overran", "panicked", "lost", "died", "failed", "x"]),
    "log": st.lists(records, max_size=4),
    "before": st.lists(records, max_size=4),
    "value": st.dictionaries(st.sampled_from(["steps", "outcome", "errno"]) | texts, anything, max_size=4),
}
fields = {name: likely.get(name, anything) | anything for name in FIELDS}
SOUND = {"id": 1, "status": "answered", "log_complete": True, "before": [], "log": [], "taint": 0, "spent": False}
nearly_sound = st.sampled_from(FIELDS).flatmap(lambda name: fields[name].map(lambda value: SOUND | {name: value}))
"""Answers that are judged more often than those in which many fields make no sense."""
frames = nearly_sound | st.fixed_dictionaries({}, optional=fields)


def examples(request: pytest.FixtureRequest, strategy: st.SearchStrategy[_T], hold: Callable[[_T], None]) -> None:
    """Call `hold` with as many examples of `strategy` as `--examples` says."""
    left = int(request.config.option.examples) or EXAMPLES
    while left > 0:
        some = settings(
            max_examples=min(left, CHUNK), deadline=None, suppress_health_check=list(HealthCheck), database=None
        )
        some(given(strategy)(hold))()
        left -= CHUNK


def check(reply: Reply) -> None:
    """Check what all users of a reply rely on, and judge the reply."""
    assert isinstance(reply.status, CallStatus)
    for text in (reply.error, reply.trace, reply.console, reply.cut, reply.dump):
        assert isinstance(text, str)
        text.encode()
    assert 0 <= reply.taint < answers.WORD
    assert len(reply.log) + len(reply.before) <= LINES
    assert sum(len(line.text) for line in (*reply.log, *reply.before)) <= TEXT
    json.dumps(asdict(reply), allow_nan=False, ensure_ascii=False).encode()
    judgement = conclude(CASE, FACTS, reply)
    assert isinstance(judgement.verdict, Verdict)
    json.dumps(asdict(judgement), allow_nan=False, ensure_ascii=False).encode()
    check_log(reply)


def check_log(reply: Reply) -> None:
    """Check that the case with this reply is in a log that can be read again, and in every report."""
    _, record = examine(ScriptedPool(*[reply] * 3), SLUG, CASE)
    run = events.Run(report_runs.START)
    run.add(report_runs.KERNEL_6_12)
    event = case_event(record, f"test_{CASE.group}[{SLUG}-{CASE.name}]", {SLUG: SLUG}, "./conform run")
    run.add(events.decode(events.encode(event)))
    for each in FORMATS.values():
        text = each.render(run)
        text.encode()
        assert {letter for letter in text if not letter.isprintable()} <= {"\n", "\t"}


def test_any_json_is_read_or_refused(request: pytest.FixtureRequest) -> None:
    """Each reader returns a value of its type or says that the frame makes no sense; whatever it returns is judged."""

    def hold(frame: dict[str, Any]) -> None:
        for read in READERS:
            try:
                found = read(frame)
            except answers.NonsenseError as error:
                assert str(error).isascii()  # noqa: PT017
                continue
            if read is answers.reply:
                assert isinstance(found, tuple)
                check(found[0])
            elif isinstance(found, float):
                assert math.isfinite(found)

    examples(request, frames, hold)


class SilentBody(NoGuest):
    """A body without a process."""

    def __init__(self, words: str = "") -> None:
        self.control, self.guest = socket.socketpair()
        self.exited = os.pidfd_open(os.getpid())
        self._words = words
        self.words_size = len(words)

    def faults(self) -> int:
        """Return nothing."""
        return 0

    def console(self) -> str:
        """Return nothing."""
        return self._words

    def printed(self) -> int:
        """Return the length that the body claims."""
        return self.words_size

    def failure(self) -> str:
        """Return the last message."""
        return "gone"

    def starved(self) -> tuple[float, float]:
        """Return nothing."""
        return 0.0, 0.0

    def close(self) -> None:
        """Let go of everything."""
        if self.exited >= 0:
            os.close(self.exited)
            self.exited = -1
            self.control.close()
            self.guest.close()


def answered(data: bytes, monkeypatch: pytest.MonkeyPatch) -> Reply:
    """Return the reply of a machine that sends these bytes and then nothing more."""
    monkeypatch.setattr("vm.session.EXIT_SECONDS", 0.0)
    body = SilentBody()
    session = Session(body, INFO)
    sender = threading.Thread(target=_say, args=(body.guest.dup(), data), daemon=True)
    sender.start()
    try:
        return session.call("m:f", {}, deadline=1.0)
    finally:
        session.close()
        sender.join(10.0)


def _say(guest: socket.socket, data: bytes) -> None:
    with guest:
        try:
            guest.sendall(data)
            guest.shutdown(socket.SHUT_WR)
            select.select([guest], [], [], 5.0)
        except OSError:
            pass


def raw(body: bytes) -> bytes:
    """Return a frame with any body."""
    return HEADER.pack(MARK, len(body)) + body


def test_any_bytes_become_a_verdict(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever bytes come, in frames or not, the call ends with a reply that can be judged."""
    pieces = (
        st.binary(max_size=64)
        | st.binary(max_size=64).map(raw)
        | frames.map(lambda frame: raw(json.dumps(frame | {"id": 1}).encode()))
        | frames.map(lambda frame: raw(json.dumps(frame).encode("utf-8", "surrogatepass")))
    )

    def hold(sent: list[bytes]) -> None:
        check(answered(b"".join(sent), monkeypatch))

    examples(request, st.lists(pieces, max_size=4), hold)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": ["x"]}, "'status'"), ({"status": {}}, "'status'"), ({"status": None}, "'status'"),
        ({"status": "x"}, "not a status"),
        ({"log": "abc"}, "'log'"), ({"log": None}, "'log'"), ({"before": None}, "'before'"),
        ({"log": [["a", "b", "c", "d"]]}, "not a line"), ({"log": [[1, 2, 3, None]]}, "not a line"),
        ({"log": [[1, 2, 3, {"a": 1}]]}, "not a line"), ({"log": [[1, 2, 10**400, "BUG"]]}, "not a line"),
        ({"log": [[1, 2, 2**63, "BUG"]]}, "not a line"),
        ({"log": [[1]]}, "not a line"), ({"log": [[True, 2, 3, "x"]]}, "not a line"),
        ({"taint": "x"}, "'taint'"), ({"taint": -1}, "'taint'"), ({"taint": 2**4000}, "'taint'"),
        ({"taint": [1]}, "'taint'"), ({"error": {"x": 1}}, "'error'"), ({"error": None}, "'error'"),
        ({"log_complete": "no"}, "'log_complete'"), ({"trace": 5}, "'trace'"), ({"spent": {"a": 1}}, "'spent'"),
        ({"extend": None}, "'extend'"), ({"extend": [1]}, "'extend'"), ({"extend": "nan"}, "'extend'"),
        ({"extend": -1.0}, "'extend'"), ({"extend": True}, "'extend'"), ({"extend": 1e9}, "'extend'"),
        ({"late": "x"}, "'late'"), ({"id": "1"}, "'id'"), ({"id": True}, "'id'"), ({"id": None}, "'id'"),
        ({"value": 10**400}, "larger than any number"), ({"value": [[]] * 200_000}, "too much"),
        ({"value": "x" * (2 << 20)}, "too much"),
    ],
)  # fmt: skip
def test_a_field_that_makes_no_sense_is_a_loss(
    change: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A field that makes no sense gives the verdict lost, which names the field."""
    reply = answered(encode(SOUND | change), monkeypatch)
    assert reply.status is CallStatus.LOST
    assert "makes no sense" in reply.error
    assert words in reply.error
    judgement = conclude(CASE, FACTS, reply)
    assert judgement.verdict is Verdict.LOST
    assert words in judgement.differences[0]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"[" * 200_000 + b"]" * 200_000, "not JSON"),
        (b'{"id":1,"status":"answered","value":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "not JSON"),
        (b'{"id":1,"status":"answered","value":{"steps":' + b"[" * 900 + b"]" * 900 + b"}}", ""),
        (b'{"id":1,"status":"answered","log":[' + b"[" * 900 + b"]" * 900 + b"]}", "not a line"),
        (b'{"id":1,"extend":NaN}', "NaN is not JSON"),
        (b'{"id":1,"extend":-Infinity}', "not JSON"),
        (b'{"id":1,"extend":1e999}', "'extend'"),
        (b'{"id":1,"status":"answered","value":1e999}', "not a number"),
        (b'{"id":1,"status":"answered","value":NaN}', "not JSON"),
        (b'{"id":1,"status":"answered","value":"\xff\xfe"}', "not JSON"),
        (b'\xff\xfe{"a":1}', "not JSON"),
        (b"17", "not an object"),
        (b'{"status":"answered"}', "'id'"),
    ],
)
def test_a_frame_that_makes_no_sense_is_a_loss(body: bytes, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too deep, not finite, not text, not an object: a loss, with the beginning of the frame as evidence."""
    reply = answered(raw(body), monkeypatch)
    assert reply.status is CallStatus.LOST
    assert words in reply.error
    check(reply)


def test_a_frame_that_is_too_large_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """No memory is reserved for a length that a guest only announces."""
    reply = answered(HEADER.pack(MARK, answers.FRAME_LIMIT + 1) + b"[" * 100, monkeypatch)
    assert "is announced" in reply.error


@pytest.mark.parametrize(
    "value", [17, "x", [1, 2], 1.5, True, {"steps": 3}, {"steps": [1]}, {"steps": {"a": {"b": []}}}]
)
def test_a_result_of_another_shape_is_logged(value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function's result that no scenario returns is in the log as it came, and the log can be read again."""
    reply = answered(encode(SOUND | {"value": value}), monkeypatch)
    check(reply)
    judgement, record = examine(ScriptedPool(*[reply] * 3), SLUG, CASE)
    assert judgement.verdict is Verdict.INFRA
    assert json.dumps(value) in json.dumps(record["observation"])


def test_nan_does_not_switch_a_deadline_off() -> None:
    """A guest that asks for NaN seconds more is lost at once."""
    body = SilentBody()
    session = Session(body, INFO)
    body.guest.sendall(raw(b'{"id":1,"extend":NaN}'))
    reply = session.call("m:f", {}, deadline=0.2)
    assert reply.status is CallStatus.LOST
    assert reply.seconds < 30


@pytest.mark.parametrize(
    "answer",
    [{}, {"release": "6.12", "modules": 17, "vmcoreinfo": []},
     {"release": "6.12", "modules": {"a": {}}, "vmcoreinfo": []},
     {"release": "6.12", "modules": {}, "vmcoreinfo": ["a", -1, 2**80]}, {"status": "failed", "error": ["x"]},
     {"status": "failed", "error": ""}, {"release": "../../x", "modules": {}, "vmcoreinfo": []}],
)  # fmt: skip
def test_a_greeting_that_makes_no_sense_is_a_dead_machine(answer: dict[str, Any]) -> None:
    """An agent without a valid greeting counts as dead, also while a template is made."""
    body = SilentBody()
    body.guest.sendall(encode(answer | {"id": 1}))
    with pytest.raises(DeadMachineError) as caught:
        Session(body, INFO).greet(5.0)
    assert caught.value.status is CallStatus.LOST
    assert any(words in caught.value.failure for words in ("makes no sense", "the agent failed"))


@pytest.mark.parametrize("seconds", ["x", -5.0, 1e300, [1], None, True])
def test_a_calibration_that_makes_no_sense_is_a_dead_machine(seconds: object) -> None:
    """A calibration that is not a number of seconds is refused."""
    body = SilentBody()
    body.guest.sendall(encode({"id": 1, "seconds": seconds}))
    with pytest.raises(DeadMachineError, match="lost"):
        Session(body, INFO).calibrate(1.0)


def test_nonsense_when_code_is_loaded_is_the_kernels() -> None:
    """A guest that answers rubbish when it gets its code cannot be judged, and the error shows the rubbish."""
    body = SilentBody()
    body.guest.sendall(b"hello world, I am noise")
    with pytest.raises(KernelError, match="makes no sense: no frame begins with 68 65 6c"):
        Session(body, INFO).load({"a": ""})


def test_more_log_than_anybody_reads_is_cut_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ten thousand lines are kept; how many there were is in the verdict, which is about the kernel."""
    flood = [[number, 6, number, f"line {number}"] for number in range(LINES + 500)]
    reply = answered(encode(SOUND | {"log": flood}), monkeypatch)
    assert len(reply.log) == LINES
    assert not reply.log_complete
    judgement = conclude(CASE, FACTS, reply)
    assert judgement.verdict is Verdict.SPLAT
    assert "logged 10500 lines, of which the first 10000 were kept" in judgement.differences[0]

    flood[0][3] = "BUG: unable to handle page fault"
    judgement = conclude(CASE, FACTS, answered(encode(SOUND | {"log": flood, "dropped": 7}), monkeypatch))
    assert "BUG: unable to handle" in judgement.differences[0]
    assert "logged 10507 lines" in judgement.differences[0]


def test_long_texts_keep_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The beginning and the end of a long error are kept."""
    error = "begin " + "x" * (1 << 20) + " end"
    reply = answered(encode(SOUND | {"status": "raised", "error": error}), monkeypatch)
    assert len(reply.error) < 2 * answers.ERROR_TEXT
    assert reply.error.startswith("begin ")
    assert reply.error.endswith(" end")
    assert "left out" in reply.error


def test_a_console_without_end_is_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that prints more than a machine has a use for is ended, long before its deadline."""
    monkeypatch.setattr("vm.session.LOOK_SECONDS", 0.05)
    body = SilentBody("words")
    body.words_size = CONSOLE_LIMIT + 1
    reply = Session(body, INFO).call("m:f", {}, deadline=60.0)
    assert reply.status is CallStatus.LOST
    assert "printed more than 16 MiB" in reply.error
    assert reply.seconds < 30


def test_a_terminal_that_shows_no_base64_is_a_dead_machine() -> None:
    """Nothing but what was encoded reaches the user's terminal."""
    body = SilentBody()
    body.guest.sendall(encode({"id": 1, "screen": "%%%"}))
    with pytest.raises(DeadMachineError):
        Session(body, INFO).shell(["sh"], {}, [24, 80], -1, -1)


def test_sound_answers_come_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer of a correct agent arrives unchanged."""
    line = [5, 3, 123456, "text \u00e9"]
    reply = answered(encode(SOUND | {"value": {"steps": {"a": 1.5}}, "log": [line], "taint": 512}), monkeypatch)
    assert (reply.status, reply.value, reply.taint) == (CallStatus.ANSWERED, {"steps": {"a": 1.5}}, 512)
    assert (reply.log[0].text, reply.log_complete) == ("text \u00e9", True)
    peer, ours = socket.socketpair()
    Channel(peer.detach()).send({"a": 1})
    ours.close()
