# SPDX-License-Identifier: GPL-2.0-only
"""The report as JUnit XML, valid by the schema of Jenkins' xunit plugin (junit-10.xsd): a suite for each group.

No schema has properties of a case; they are lines `[[PROPERTY|name=value]]` of its output, which test managers read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from xml.etree import ElementTree as ET

from common import foreign
from conformance.model import Verdict
from conformance.report.event_types import CaseEvent, KernelEvent
from conformance.report.events import Run
from conformance.report.findings import by_group, story
from conformance.report.summary import tools


def render(run: Run) -> str:
    """Return the report."""
    root = ET.Element("testsuites", name="SOCKMAP conformance")
    for slug in run.slugs:
        kernel, groups = run.kernel(slug), by_group(run.cases.get(slug, ()))
        for group, cases in groups.items():
            root.append(_suite(run, kernel, group, [_case(kernel, case) for case in cases]))
        if lost := list(_lost(run, kernel)):
            root.append(_suite(run, kernel, "machine", lost))
    for name in ("tests", "failures", "errors"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    root.set("time", _seconds(run.finish.seconds if run.finish else 0.0))
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _suite(run: Run, kernel: KernelEvent, name: str, cases: Sequence[ET.Element]) -> ET.Element:
    suite = ET.Element("testsuite", name=foreign.xml(f"{kernel.slug}.{name}"), package=foreign.xml(kernel.slug))
    states = Counter(element.tag for case in cases for element in case)
    suite.set("tests", str(len(cases)))
    for attribute, state in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(attribute, str(states[state]))
    suite.set("time", _seconds(sum(float(case.get("time", "0")) for case in cases)))
    suite.set("timestamp", foreign.xml(run.start.started.removesuffix("Z")))
    properties = ET.SubElement(suite, "properties")
    for key, value in _about(run, kernel).items():
        ET.SubElement(properties, "property", name=foreign.xml(key), value=foreign.xml(value))
    suite.extend(cases)
    return suite


def _about(run: Run, kernel: KernelEvent) -> Mapping[str, str]:
    known = {
        "spec": kernel.spec,
        "release": kernel.release,
        "banner": kernel.banner,
        "digest": kernel.digest,
        "config_sha256": kernel.config_sha256,
        "machine": kernel.machine,
        "accelerator": kernel.accelerator,
        "suite_commit": run.start.suite_commit,
        **tools(run),
    }
    return {name: value for name, value in known.items() if value}


def _case(kernel: KernelEvent, case: CaseEvent) -> ET.Element:
    classname, name = foreign.xml(f"{kernel.slug}.{case.group}"), foreign.xml(case.name)
    element = ET.Element("testcase", classname=classname, name=name, time=_seconds(case.seconds))
    lines = story(case, kernel)
    if case.verdict in (Verdict.SKIP, Verdict.XFAIL):
        ET.SubElement(element, "skipped", type=str(case.verdict), message=foreign.xml(case.reason))
    elif not case.verdict.expected:
        _trouble(element, case.verdict, lines[0] if lines else "", lines)
    ET.SubElement(element, "system-out").text = "\n".join(_properties(case))
    return element


def _properties(case: CaseEvent) -> Iterator[str]:
    known = {
        "verdict": str(case.verdict),
        "expected": case.expected,
        "observed": case.observed,
        "deviation": case.deviation,
        **case.params,
        "grounds": " ".join(ground.place.replace(" ", "") for ground in case.grounds),
        "repeat": case.repeat,
    }
    shown = {foreign.xml_property(name): foreign.xml_property(value) for name, value in known.items() if value}
    return (f"[[PROPERTY|{name}={value}]]" for name, value in shown.items())


def _lost(run: Run, kernel: KernelEvent) -> Iterator[ET.Element]:
    """Yield a failed case for each reason why selected cases were not judged: a missing case would look green."""
    unseen = run.unseen(kernel.slug)
    sentences = {
        "boots": kernel.error,
        "judges-all-cases": f"{unseen} of the selected cases never ran" if unseen else "",
    }
    for name, sentence in sentences.items():
        if sentence:
            classname = foreign.xml(f"{kernel.slug}.machine")
            element = ET.Element("testcase", classname=classname, name=name, time=_seconds(0.0))
            _trouble(element, Verdict.INFRA, sentence, [sentence, *filter(None, [kernel.hint])])
            yield element


def _trouble(element: ET.Element, verdict: Verdict, message: str, text: Iterable[str]) -> None:
    tag = "error" if verdict is Verdict.INFRA else "failure"
    ET.SubElement(element, tag, type=str(verdict), message=foreign.xml(message)).text = foreign.xml("\n".join(text))


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}"
