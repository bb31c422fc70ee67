"""The http input: turns any webhook into events, as the configuration describes."""

import base64
import hmac
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar
from urllib.parse import urlsplit

from gateway.plugin import (
    Event,
    Fault,
    Input,
    Rejected,
    Request,
    Response,
    Stamp,
    Unrenderable,
    basic,
    bearer,
    dumps,
    json_response,
    query_fields,
    text_of,
)
from plugins.http.credentials import FORM
from plugins.http.mapping import EVENTS
from plugins.http.source_settings import (
    HttpSourceSettings,
    IncomingAnswer,
    IncomingRequest,
    SignatureCheck,
    VerifyTable,
)

STATUS = {
    Fault.UNAUTHENTICATED: 401, Fault.FORBIDDEN: 403, Fault.TOO_LARGE: 413, Fault.NOT_FOUND: 404,
    Fault.METHOD: 405, Fault.UNSUPPORTED: 501, Fault.UNAVAILABLE: 503, Fault.VALUE: 422,
}  # fmt: skip
ANYBODY = "anybody"
"""Stands for the key of a request that proves nothing."""
MILLIS = 1e11
"""From this number on, a Unix time is in milliseconds."""


class HttpInput(Input):
    """Reads the requests of one source.

    Args:
        config: its settings; None for an input that only names the vendor.
        keys: the secrets that it accepts.
    """

    name = "http"
    docs = "https://www.rfc-editor.org/rfc/rfc9110"
    endpoints = {}  # noqa: RUF012 - the configuration describes them
    configured = True
    credential_in_body = True
    credential_headers = frozenset({"authorization"})
    Config: ClassVar[type[HttpSourceSettings]] = HttpSourceSettings
    config: HttpSourceSettings | None
    example = Request(
        method="POST", url="/webhooks/shop", body=b'{"type":"order.paid","id":"o-1","total":12.5}'
    )

    def __init__(self, config: HttpSourceSettings | None = None, keys: Iterable[str] = ()) -> None:
        super().__init__(config, keys)
        self._requests: dict[str, list[IncomingRequest]] = {}
        if config is None:
            return
        for request in config.requests:
            self._requests.setdefault(request.endpoint, []).append(request)
        self.endpoints = dict.fromkeys(self._requests, EVENTS)
        used = config.used_headers()
        self.stored_headers = Input.stored_headers | used
        checks = [config.verify, *(request.verify for request in config.requests)]
        named = {one.header.lower() for one in checks if one is not None and one.header}
        self.credential_headers = (HttpInput.credential_headers | named) - used
        self.credential_keys = tuple({one.query for one in checks if one and one.query})

    def keys_problem(self) -> str:
        """Return which request proves nothing although there are keys, or the other way round."""
        config = self.config
        for one in () if config is None else config.requests:
            verified = one.verify is not None or (config is not None and config.verify is not None)
            if self.keys and not verified:
                return (
                    f"are of no use: {one.endpoint} has no verify; add verify, such as "
                    f'verify = {{ bearer = true }}, or write keys = "any"'
                )
            if verified and not self.keys:
                return f'must be a list: {one.endpoint} has a verify, which "any" does not satisfy'
        return ""

    def credential(self, request: Request, payload: Any) -> str | None:  # noqa: ARG002 - a signature is of the bytes
        """Return the token of *request*, or the secret that it is signed with.

        Raises:
            Rejected: the signature is wrong or too old.
        """
        found = self._requests.get(f"{request.method} {request.path}", ())
        verify = next((one.verify for one in found if one.verify is not None), None)
        if verify is None and self.config is not None:
            verify = self.config.verify
        return ANYBODY if verify is None else self._proof(verify, request)

    def _proof(self, verify: VerifyTable, request: Request) -> str | None:
        if verify.hmac is not None:
            return _signed_with(verify.hmac, request, self.keys)
        if verify.bearer:
            return bearer(request)
        if verify.basic:
            login = basic(request)
            return None if login is None else f"{login.user}:{login.password}"
        if verify.header:
            return request.headers.get(verify.header.lower())
        return dict(query_fields(request.query)).get(verify.query)

    def decode(self, request: Request) -> Any:
        """Return the body as JSON values: a form as a table, none as an empty table.

        Raises:
            Rejected: the body is no JSON.
        """
        if not request.body:
            return {}
        label = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if label == FORM:
            return dict(query_fields(text_of(request.body)))
        return super().decode(request)

    def read(self, request: Request, payload: Any) -> list[Event]:
        """Return the events that the configuration describes.

        Raises:
            Rejected: an expression fails, or gives no event.
        """
        if self.config is None:
            raise Rejected("$", "its source is no longer configured", Fault.NOT_FOUND)
        known = _known(request, payload)
        try:
            found = self._matching(request, known)
            return [] if found is None else list(_events(found, request, known))
        except Unrenderable as error:
            raise Rejected("$", str(error), Fault.VALUE) from error

    def _matching(self, request: Request, known: Sequence[Any]) -> IncomingRequest | None:
        """Return the first request whose condition holds; None if it may become no event.

        Raises:
            Rejected: there is none, and the source refuses such requests.
        """
        for one in self._requests.get(f"{request.method} {request.path}", ()):
            if one.when is None or one.when.build(*known) is True:
                return one
        if self.config is not None and self.config.unmatched == "refuse":
            raise Rejected("$", "no request of the source takes this", Fault.VALUE)
        return None

    def accept(self, request: Request, events: Sequence[Event]) -> Response:  # noqa: ARG002 - the request decides
        """Return the configured response."""
        usual = IncomingAnswer() if self.config is None else self.config.answer
        known = _known(request, self.decode(request))
        found = self._matching(request, known)
        answer = usual if found is None or found.answer is None else found.answer
        body = None
        with suppress(Unrenderable):  # the events are stored, so the sender must not try again
            body = None if answer.body is None else answer.body.build(*known)
        if body is None:
            return Response(answer.status, answer.headers)
        text = isinstance(body, str)
        kind = "text/plain; charset=utf-8" if text else "application/json"
        written = body.encode() if text else dumps(body)
        return Response(answer.status, {"content-type": kind, **answer.headers}, written)

    def refuse(self, request: Request, error: Rejected) -> Response:  # noqa: ARG002 - it depends on the error alone
        """Return a status and a sentence, as JSON."""
        where = "" if error.path == "$" else f"{error.path}: "
        return json_response(STATUS.get(error.fault, 400), {"error": f"{where}{error.reason}"})


def _known(request: Request, payload: Any) -> tuple[Any, Mapping[str, str], Mapping[str, str]]:
    """Return what expressions know of a request."""
    headers = {name.lower(): text for name, text in request.headers.items()}
    return payload, headers, dict(query_fields(request.query))


def _events(found: IncomingRequest, request: Request, known: Sequence[Any]) -> Iterator[Event]:
    if found.event is None:
        return
    items = [None] if found.each is None else found.each.build(*known)
    if items is None:
        return
    if not isinstance(items, list):
        raise Rejected("each", f"{found.each and found.each.raw[1:]} is no list", Fault.TYPE)
    stamp = Stamp(HttpInput.name, request.id, request.received_at)
    for number, item in enumerate(items):
        written = {"type": "track", **found.event.build(*known, item)}
        (event,) = EVENTS.read(written, stamp, number)
        if event.type == "track" and not (event.name or "").strip():
            raise Rejected("name", "the expression for the name of the event gives none")
        yield event


def _signed_with(check: SignatureCheck, request: Request, keys: Iterable[str]) -> str | None:
    """Return the secret that *request* is signed with; None if it has no signature.

    Raises:
        Rejected: no secret made the signature, or it is too old or in the future.
    """
    header = request.headers.get(check.header.lower())
    if header is None:
        return None
    parts = [tuple(part.strip().partition("=")[::2]) for part in header.split(",")]
    signatures = [text for name, text in parts if name == check.part] if check.part else [header]
    timestamp = _timestamp(check, request, parts)
    signed = _signed_bytes(check, request, timestamp)
    for key in keys:
        digest = hmac.new(key.encode(), signed, check.algorithm).digest()
        expected = digest.hex().encode()
        if check.encoding == "base64":
            expected = base64.b64encode(digest)
        for signature in signatures:
            if hmac.compare_digest(expected, signature.strip().encode("utf-8", "replace")):
                return key
    raise Rejected("$", f"the signature in {check.header} is wrong", Fault.FORBIDDEN)


def _timestamp(check: SignatureCheck, request: Request, parts: Sequence[tuple[str, ...]]) -> str:
    """Return the time of a signature as written; empty if it has none.

    Raises:
        Rejected: it is missing, no number, or too far from the arrival.
    """
    if check.timestamp_part:
        text = next((text for name, text in parts if name == check.timestamp_part), "")
    elif check.timestamp_header:
        text = request.headers.get(check.timestamp_header.lower(), "")
    else:
        return ""
    try:
        seconds = float(text)
    except ValueError as error:
        raise Rejected("$", "the signature has no time", Fault.FORBIDDEN) from error
    seconds = seconds / 1000 if seconds >= MILLIS else seconds
    if not abs(request.received_at.timestamp() - seconds) <= check.tolerance:
        raise Rejected("$", "the signature is too old, or in the future", Fault.FORBIDDEN)
    return text


def _signed_bytes(check: SignatureCheck, request: Request, timestamp: str) -> bytes:
    if check.payload.text == "body":
        return request.body
    parts = urlsplit(request.url)
    known = {
        "timestamp": timestamp,
        "body": text_of(request.body),
        "method": request.method,
        "path": f"{parts.path}?{parts.query}" if parts.query else parts.path,
    }
    found = check.payload.compute(known)
    if found.error:
        raise Rejected("$", f"the signature cannot be checked: {found.error}", Fault.FORBIDDEN)
    return str(found.value).encode()
