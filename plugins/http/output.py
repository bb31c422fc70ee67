"""The http output: sends events to any API, as the configuration describes."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
from msgspec.structs import replace

from gateway.plugin import (
    Declined,
    Delivered,
    Event,
    FirstMatch,
    InputTooLarge,
    Loss,
    OutgoingCall,
    Output,
    Refused,
    Request,
    Response,
    RetryLater,
    Unrenderable,
    Verdict,
    dumps,
    loads,
    retry_after,
    text_of,
    verdict_by_status,
    wait_of,
)
from plugins.http.requests import BuiltRequest, RequestBuilder, RequestTable
from plugins.http.settings import HttpSettings, ResponseCondition

LIMITED = 429
FAILED = 300
"""The first status that is none of success."""
QUOTED = 200
"""Characters of a body that a reason quotes."""
LONGEST_REASON = 500
"""Characters of what `reason` gives that are kept."""


class HttpOutput(Output):
    """Sends each event by the first of the configured requests whose condition holds."""

    name = "http"
    docs = "https://www.rfc-editor.org/rfc/rfc9110"
    endpoints = {}  # noqa: RUF012 - the configuration describes them
    configured = True
    forwards = False  # what one configuration reads, another one need not write
    account = frozenset({"url"})
    Config = HttpSettings
    config: HttpSettings

    def __init__(self, config: HttpSettings) -> None:
        super().__init__(config)
        self.batch_size = config.batch_size
        self.authorization = config.auth.authorization()
        self._match = FirstMatch([request.when for request in config.requests])
        self._builders = [
            RequestBuilder(
                request,
                f"requests {number}",
                config.url,
                config.auth,
                batch_size=config.batch_size,
                batch_bytes=config.batch_bytes,
            )
            for number, request in enumerate(config.requests, start=1)
        ]
        self._by_label = {builder.label: builder for builder in self._builders}
        self._judges = bool(config.delivered or config.retry or config.refused)
        self.judges_whole_response = self._judges or bool(config.reason or config.refused_items)

    def headers(self) -> Mapping[str, str]:
        """Return the fixed credentials in headers."""
        return self.config.auth.fixed_headers()

    def select(self, event: Event) -> OutgoingCall | Declined:
        """Return the call for *event*: the first request whose condition holds.

        Raises:
            Unrenderable: a condition cannot be evaluated.
        """
        builder = self._builder(event)
        if isinstance(builder, Declined):
            return builder
        return OutgoingCall(builder.endpoint, builder.table, event)

    def _builder(self, event: Event) -> RequestBuilder | Declined:
        try:
            index = self._match.index(event)
        except ValueError as error:
            raise Unrenderable(f"requests, when: {error}") from error
        if index is not None:
            return self._builders[index]
        article = "an" if event.type in {"identify", "alias"} else "a"
        what = repr(event.name) if event.type == "track" else f"{article} {event.type} call"
        return Declined(f"the destination has no request for {what}")

    def render(self, event: Event) -> Request | Declined:
        """Return the request that delivers *event*.

        Raises:
            Unrenderable: an expression fails, or a value cannot be written.
        """
        builder = self._builder(event)
        return builder if isinstance(builder, Declined) else builder.build(event)

    def merge(self, request: Request, further: Request) -> Request | None:
        """Return one request with the events of both, if one entry built both for batches."""
        if not isinstance(request, BuiltRequest) or not isinstance(further, BuiltRequest):
            return None
        builder = self._by_label.get(request.batch)
        return None if builder is None else builder.join(request, further)

    def losses(self, event: Event) -> list[Loss]:
        """Return the fields of *event* that no expression uses, or that one only computes with."""
        call = self.select(event)
        if isinstance(call, Declined) or not isinstance(call.table, RequestTable):
            return []
        return list(call.table.losses(event))

    def verdict(self, response: Response, now: datetime | None = None) -> Verdict:
        """Judge by the configured conditions, then by the status.

        What a condition cannot look through makes a dead letter: an event may be lost if such a
        response passed for delivered, and sent twice if it passed for a failure.
        """
        usual = verdict_by_status(response, now)
        if isinstance(usual, RetryLater) and usual.cause in {"limit", "server"}:
            usual = replace(usual, after=_wait(response, now))
        moved = isinstance(usual, RetryLater) and usual.cause == "moved"
        if not isinstance(usual, Delivered) and not moved and (text := self._text(response)):
            usual = replace(usual, reason=f"HTTP {response.status}: {text}")
        if not self._judges:
            return usual
        try:
            return self._judge(response, _known(response), usual, now)
        except InputTooLarge as error:
            if isinstance(usual, RetryLater):
                return usual
            return Refused(f"{self._quoted(response)}: nobody can tell what it means: {error}")

    def _judge(
        self, response: Response, known: Mapping[str, Any], usual: Verdict, now: datetime | None
    ) -> Verdict:
        delivered = self.config.delivered
        if delivered is not None and delivered.holds(known):
            return Delivered()
        if _holds(self.config.refused, known):
            return Refused(self._reason(response, "refused"))
        if _holds(self.config.retry, known):
            cause = "limit" if response.status == LIMITED else "server"
            return RetryLater(self._reason(response, "retry"), _wait(response, now), cause)
        if delivered is not None and isinstance(usual, Delivered):
            return Refused(
                f"{self._quoted(response)}: delivered = {delivered.text!r} does not hold"
            )
        return usual

    def refused_events(self, request: Request, response: Response) -> Mapping[int, str]:
        """Return the events with items at the positions that `refused_items` gives.

        All events, if it cannot be told which items are refused: some may be, and sending all of
        them again would repeat the others.
        """
        refused = self.config.refused_items
        if refused is None:
            return {}
        counts = request.items if isinstance(request, BuiltRequest) else (1,)
        event_of = [number for number, count in enumerate(counts) for _ in range(count)]
        try:
            known = _known(response)
            if not response.body:
                known["body"] = {}  # so that it has no member, where a text would be a mistake
            positions = refused.positions(known, len(event_of))
        except ValueError as error:
            why = f"{self._quoted(response)}: cannot tell which items it refuses: {error}"
            return dict.fromkeys(range(len(counts)), why)
        found: dict[int, str] = {}
        for position in positions:
            why = f"{self._quoted(response)} (item {position} is in refused_items)"
            found.setdefault(event_of[position], why)
        return found

    def _reason(self, response: Response, key: str) -> str:
        return f"{self._quoted(response)} ({key} holds)"

    def _quoted(self, response: Response) -> str:
        said = self._text(response) or response.body[:QUOTED].decode("utf-8", "replace")
        return f"HTTP {response.status}: {said}" if said else f"HTTP {response.status}"

    def _text(self, response: Response) -> str:
        """Return what `reason` gives; empty if there is none, or it has no value."""
        if self.config.reason is None:
            return ""
        try:
            value = self.config.reason.compute(_known(response)).value
        except InputTooLarge:
            return ""
        text = value if isinstance(value, str) else "" if value is None else dumps(value).decode()
        return text[:LONGEST_REASON]


def _holds(condition: ResponseCondition | None, known: Mapping[str, Any]) -> bool:
    return condition is not None and condition.holds(known)


def _wait(response: Response, now: datetime | None) -> float | None:
    """Return the wait in seconds that a vendor asks for; None if it does not.

    Many send no ``retry-after``, but when the limit ends, as a Unix time or in seconds:
    https://developers.intercom.com/docs/references/rest-api/errors/rate-limiting
    Some send that with each response, so it counts only where the limit may be the reason.
    """
    asked = retry_after(response.headers, now)
    if asked is not None or not (response.status == LIMITED or response.status < FAILED):
        return asked
    return wait_of(response.headers.get("x-ratelimit-reset", ""), now)


def _known(response: Response) -> dict[str, Any]:
    """Return a response for conditions; a body that is no JSON is text."""
    try:
        body = loads(response.body)
    except orjson.JSONDecodeError:
        body = text_of(response.body)
    headers = {name.lower(): text for name, text in response.headers.items()}
    return {"status": response.status, "headers": headers, "body": body}
