"""The Amplitude sandbox, from https://amplitude.com/docs/apis/analytics/http-v2."""

from collections.abc import Iterable

from gateway.plugin import Request
from gateway.sandbox import (
    INTEGER,
    LIST,
    NUMBER,
    OBJECT,
    TEXT,
    BodyField,
    BodyProblem,
    ProblemKind,
    Sandbox,
    SandboxResponse,
    json_body,
    json_labelled,
    json_response,
)

MAX_BYTES = 1_000_000
MAX_EVENTS = 2000
TEXTS = ("insert_id", "app_version", "platform", "language", "ip")


class AmplitudeSandbox(Sandbox):
    """``POST /2/httpapi`` with ``api_key`` in the body as the key."""

    name = "amplitude"
    docs = "https://amplitude.com/docs/apis/analytics/http-v2"

    def respond(self, request: Request, key: str | None) -> SandboxResponse:
        """Respond to one request; see ``Sandbox.respond``."""
        if (request.method, request.path) != ("POST", "/2/httpapi"):
            return _refused(400, "Invalid request path")
        if len(request.body) > MAX_BYTES:
            return _refused(413, "Payload too large")
        body = json_body(request)
        if not body or not json_labelled(request):
            return _refused(400, "Invalid JSON request body")
        api_key = body.need("api_key", TEXT).filled()
        events = body.need("events", LIST).satisfies(bool, "at least one event")
        if not api_key or not events:
            field = "events" if api_key else "api_key"
            return _refused(400, "Request missing required field", missing_field=field)
        if key not in (None, api_key.value):
            return _refused(400, "Invalid API key")
        if len(events.value) > MAX_EVENTS:
            return _refused(413, "Payload too large")
        least = body.may("options", OBJECT).may("min_id_length", INTEGER)
        for event in events.each(OBJECT):
            _check(event, least.value if least else 5)
        if body.problems:
            return _invalid(body.problems)
        summary = {
            "code": 200,
            "events_ingested": len(events.value),
            "payload_size_bytes": len(request.body),
            "server_upload_time": int(request.received_at.timestamp() * 1000),
        }
        return SandboxResponse(json_response(200, summary))


def _check(event: BodyField, least: int) -> None:
    event.need("event_type", TEXT).filled()
    ids = [event.may(key, TEXT) for key in ("user_id", "device_id")]
    if event and not any(one and len(one.value) >= least for one in ids):
        event.fail(ProblemKind.MISSING, "a user_id or device_id that is long enough")
    event.may("time", INTEGER)
    event.may("revenue", NUMBER)
    for key in TEXTS:
        event.may(key, TEXT)
    for key in ("event_properties", "user_properties", "groups"):
        event.may(key, OBJECT)


def _invalid(problems: Iterable[BodyProblem]) -> SandboxResponse:
    missing: dict[str, list[int]] = {}
    invalid: dict[str, list[int]] = {}
    for problem in problems:
        _, index, *field = problem.path
        kinds = missing if problem.wrong is ProblemKind.MISSING else invalid
        kinds.setdefault(str(field[0]) if field else "user_id", []).append(int(index))
    text = "Request missing required field" if missing else "Invalid field values on some events"
    return _refused(
        400, text, events_with_missing_fields=missing, events_with_invalid_fields=invalid
    )


def _refused(status: int, text: str, **more: object) -> SandboxResponse:
    return SandboxResponse(json_response(status, {"code": status, "error": text, **more}), text)
