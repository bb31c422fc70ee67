"""Run the tests of a configuration: explain a request and compare the result with the test."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from gateway.config.route_tests import ExpectedRequestConfig, RouteTest, RouteTestConfig
from gateway.errors import UnknownName
from gateway.event_diff import MISSING, Difference, diff_json, json_equal, leaf_values
from gateway.explain.explainer import Explainer
from gateway.explain.models import ExplainRequest, ExplainRequestError, Explanation, OutgoingRequest
from gateway.ingest.suppression import REASON
from gateway.json_text import dumps
from gateway.redact import HIDDEN


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A difference between a test's expectation and the result."""

    about: str
    """The destination; empty for the request as a whole."""
    what: str
    changes: tuple[Difference, ...] = ()
    """The differences by path: before is the expected value, after the actual one."""


@dataclass(frozen=True, slots=True)
class RouteTestResult:
    """The result of a test."""

    case: RouteTest
    findings: tuple[Mismatch, ...]
    explanation: Explanation | None
    """None if the request could not be explained; the only finding says why."""

    @property
    def passed(self) -> bool:
        """Return whether there is no mismatch."""
        return not self.findings


def run_route_test(
    case: RouteTest, explaining: Explainer, destinations: Sequence[str]
) -> RouteTestResult:
    """Run a test.

    Args:
        case: the test.
        explaining: the explainer of the test's configuration.
        destinations: the names of all destinations, in the order of the report.
    """
    try:
        explanation = explaining.explain(_asked(case))
    except (ExplainRequestError, UnknownName) as error:
        return RouteTestResult(case, (Mismatch("", str(error)),), None)
    config, refusal = case.config, explanation.refusal
    if refusal is not None:
        return RouteTestResult(case, tuple(_refused(config, refusal.reason)), explanation)
    if config.rejected is not None:
        what = "the request is not rejected: its events are accepted"
        return RouteTestResult(case, (Mismatch("", what),), explanation)
    found = [one for name in destinations for one in _findings(name, config, explanation)]
    return RouteTestResult(case, tuple(found), explanation)


def _asked(case: RouteTest) -> ExplainRequest:
    config = case.config
    body = config.body
    if config.file is not None:
        try:
            written = (case.folder / config.file).read_bytes()
        except OSError as error:
            reason = (error.strerror or "cannot be read").lower()
            raise ExplainRequestError(f"file {config.file}: {reason}; correct the path") from error
    elif body is None or isinstance(body, str):
        written = (body or "").strip().encode()
    else:
        written = dumps(body)
    headers = {name.lower(): value for name, value in config.headers.items()}
    return ExplainRequest(
        written, config.source, config.path, headers, config.at, config.ip, config.consented
    )


def _refused(config: RouteTestConfig, reason: str) -> Iterator[Mismatch]:
    if config.rejected is None:
        yield Mismatch("", f"the request has no event: {reason}")
    elif config.rejected not in reason:
        change = Difference("reason", config.rejected, reason)
        yield Mismatch("", "the request is rejected for another reason", (change,))


def _findings(name: str, config: RouteTestConfig, explanation: Explanation) -> Iterator[Mismatch]:
    """Yield the mismatches at one destination."""
    got = sent_to(name, explanation)
    wanted = None if config.expect is None else config.expect.get(name)
    why = why_not(name, explanation)
    if wanted is None and got:
        many = "a request" if len(got) == 1 else f"{len(got)} requests"
        yield Mismatch(name, f"gets {many}, but should get nothing")
    elif wanted is not None and not got:
        yield Mismatch(name, f"gets nothing: {why}")
    elif wanted and len(wanted) != len(got):
        yield Mismatch(name, f"gets {len(got)} requests, not {len(wanted)}")
    elif wanted:
        for number, (expected, sent) in enumerate(zip(wanted, got, strict=True), start=1):
            which = f"request {number}" if len(got) > 1 else "the request"
            yield from _compared(name, which, expected, sent)
    reason = config.withheld.get(name)
    if reason is not None and not got and reason not in why:
        yield Mismatch(
            name, "gets nothing for another reason", (Difference("reason", reason, why),)
        )


def sent_to(name: str, explanation: Explanation) -> list[OutgoingRequest]:
    """Return the requests for a destination, in order; a request for several events occurs once."""
    found: list[OutgoingRequest] = []
    for event in explanation.events:
        for delivery in event.deliveries:
            sent = delivery.request
            if delivery.destination != name or sent is None:
                continue
            if not any(sent is known for known in found):
                found += [sent, *sent.also]
    return found


def why_not(name: str, explanation: Explanation) -> str:
    """Return the reasons why a destination does not get events."""
    reasons: dict[str, None] = {}
    for event in explanation.events:
        if event.suppressed:
            reasons[REASON] = None
        for route in event.routes:
            decision = route.decision
            if name not in decision.destinations:
                continue
            for delivery in route.deliveries:
                if delivery.destination == name and delivery.reason:
                    reasons[delivery.reason] = None
            if not decision.taken:
                part = f": {decision.decided_by}" if decision.decided_by else ""
                reasons[f"{decision.route}: {decision.reason}{part}"] = None
            elif decision.filtered:
                reasons[f"{decision.route}: {decision.filtered}"] = None
    return "; ".join(reasons) or "no route leads to this destination"


def _compared(
    name: str, which: str, expected: ExpectedRequestConfig, sent: OutgoingRequest
) -> Iterator[Mismatch]:
    """Yield the mismatches of one request."""
    changes = list(_outside(expected, sent))
    got = _json(sent.body)
    if expected.body is not None:
        wanted = _json(expected.body) if isinstance(expected.body, str) else expected.body
        changes += diff_json(wanted, got) if expected.exact else _lacking(wanted, got)
    if changes:
        yield Mismatch(name, f"{which} differs from the expected one", tuple(changes))
    held = [
        Difference(path, MISSING, value)
        for path, value in leaf_values(got)
        if any(_within(path, lacked) for lacked in expected.absent)
    ]
    if held:
        yield Mismatch(name, f"{which} has fields that must be absent", tuple(held))
    text = "\n".join((sent.url, *sent.headers.values(), sent.body))
    for hidden in expected.must_not_contain:
        if hidden in text or json.dumps(hidden)[1:-1] in text:
            yield Mismatch(name, f"{which} contains {hidden!r}, which it must not")


def _outside(expected: ExpectedRequestConfig, sent: OutgoingRequest) -> Iterator[Difference]:
    if expected.method and expected.method != sent.method:
        yield Difference("method", expected.method, sent.method)
    path = urlsplit(sent.url).path
    if expected.path and not path.endswith(expected.path):
        yield Difference("path", expected.path, path)
    headers = {name.lower(): value for name, value in sent.headers.items()}
    for name, value in expected.headers.items():
        got = headers.get(name.lower())
        if got != value and not (value == HIDDEN and got and HIDDEN in got):
            yield Difference(name, value, MISSING if got is None else got)


def _lacking(wanted: Any, got: Any, path: str = "") -> Iterator[Difference]:
    """Yield the parts of *wanted* that *got* lacks; tables in *got* may have more keys."""
    if isinstance(wanted, Mapping) and isinstance(got, Mapping):
        for name, held in wanted.items():
            below = f"{path}.{name}" if path else str(name)
            yield from _lacking(held, got.get(name, MISSING), below)
    elif isinstance(wanted, list) and isinstance(got, list) and len(wanted) == len(got):
        for number, (one, other) in enumerate(zip(wanted, got, strict=True)):
            yield from _lacking(one, other, f"{path}[{number}]")
    elif not json_equal(wanted, got):
        yield Difference(path or "$", wanted, got)


def _within(path: str, lacked: str) -> bool:
    """Return whether *path* is *lacked* or below it; list indexes are ignored."""
    plain = "".join(part.partition("]")[2] if n else part for n, part in enumerate(path.split("[")))
    return plain == lacked or plain.startswith(f"{lacked}.")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
