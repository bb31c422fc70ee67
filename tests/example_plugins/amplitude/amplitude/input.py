"""The Amplitude input, which reads events; https://amplitude.com/docs/apis/analytics/http-v2."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway.plugin import Event, Fault, Input, Rejected, Request, Response, json_response

from .mapping import ENDPOINTS

TYPES = {"event_type": str, "user_id": str, "device_id": str, "insert_id": str, "time": int}
"""The fields that Amplitude checks in each event, and their JSON types."""
MIN_ID_LENGTH = 5
"""Minimum characters of a user or device id, unless ``options`` set another."""
MISSING = "Request missing required field"
INVALID = "Invalid field values on some events"
ERRORS = {
    Fault.FORBIDDEN: (400, "Invalid API key"),
    Fault.NOT_FOUND: (400, "Invalid request path"),
    Fault.METHOD: (400, "Invalid request path"),
    Fault.UNSUPPORTED: (400, "Invalid request path"),
    Fault.TOO_LARGE: (413, "Payload too large"),
    Fault.UNAVAILABLE: (503, "Service unavailable"),
}


class InvalidEvents(Rejected):
    """Some events of a request break a rule.

    Attributes:
        missing: the names of fields to the indexes of the events that lack them.
        invalid: the same for values that Amplitude does not take.
    """

    def __init__(self, missing: Mapping[str, list[int]], invalid: Mapping[str, list[int]]) -> None:
        super().__init__("events", MISSING if missing else INVALID)
        self.missing = missing
        self.invalid = invalid


class AmplitudeInput(Input):
    """Reads the requests of Amplitude's clients."""

    name = "amplitude"
    docs = "https://amplitude.com/docs/apis/analytics/http-v2"
    endpoints = ENDPOINTS
    credential_in_body = True
    credential_keys = ("api_key",)
    prefixes = ("/2/httpapi",)
    example = Request(
        method="POST",
        url="/2/httpapi",
        headers={"content-type": "application/json"},
        body=b'{"api_key": "my_amplitude_api_key", "events": '
        b'[{"user_id": "datamonster@gmail.com", "event_type": "watch_tutorial"}]}',
    )

    def credential(self, request: Request, payload: Any) -> str | None:  # noqa: ARG002 - it is in the body
        """Return the API key."""
        key = payload.get("api_key") if type(payload) is dict else None
        return key if type(key) is str and key else None

    def read(self, request: Request, payload: Any) -> list[Event]:
        """Return the events in *payload*.

        Raises:
            Rejected: Amplitude would refuse it.
        """
        if type(payload) is dict:
            _check(payload)
        return super().read(request, payload)

    def accept(self, request: Request, events: Sequence[Event]) -> Response:
        """Return Amplitude's summary."""
        return json_response(200, {
            "code": 200,
            "events_ingested": len(events),
            "payload_size_bytes": len(request.body),
            "server_upload_time": int(request.received_at.timestamp() * 1000),
        })  # fmt: skip

    def refuse(self, request: Request, error: Rejected) -> Response:  # noqa: ARG002 - it depends on the error alone
        """Return an error in Amplitude's format: 400 except for size and outage."""
        status, text = ERRORS.get(error.fault, (400, "Invalid JSON request body"))
        said: dict[str, Any] = {"code": status, "error": text}
        if isinstance(error, InvalidEvents):
            said |= {
                "error": error.reason,
                "events_with_missing_fields": error.missing,
                "events_with_invalid_fields": error.invalid,
            }
        elif error.fault is Fault.UNAUTHENTICATED:
            said |= {"error": MISSING, "missing_field": "api_key"}
        elif error.fault is Fault.MISSING:
            said |= {"error": MISSING, "missing_field": error.path}
        return json_response(status, said)


def _check(payload: dict[str, Any]) -> None:
    events = payload.get("events")
    if events is None or events == []:
        raise Rejected("events", "required", Fault.MISSING)
    if type(events) is not list:
        return  # the table refuses it
    options = payload.get("options")
    least = options.get("min_id_length") if type(options) is dict else None
    missing: dict[str, list[int]] = {}
    invalid: dict[str, list[int]] = {}
    for index, event in enumerate(events):
        if type(event) is dict:
            for field in _missing(event, least if type(least) is int else MIN_ID_LENGTH):
                missing.setdefault(field, []).append(index)
            for field, kind in TYPES.items():
                if event.get(field) is not None and type(event[field]) is not kind:
                    invalid.setdefault(field, []).append(index)
    if missing or invalid:
        raise InvalidEvents(missing, invalid)


def _missing(event: dict[str, Any], least: int) -> Iterator[str]:
    if not event.get("event_type"):
        yield "event_type"
    ids = (event.get(key) for key in ("user_id", "device_id"))
    if not any(one for one in ids if type(one) is not str or len(one) >= least):
        yield "user_id"
