"""Make the request of a delivery: rendered by the vendor's output, or forwarded as received."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import structlog
from msgspec import Struct
from msgspec.structs import replace

from gateway.config import DestinationConfig
from gateway.delivery.job import Job
from gateway.errors import Unrenderable
from gateway.http import NO_HEADERS, Request, with_added_headers
from gateway.json_text import is_too_deep
from gateway.plugin.client_credentials import (
    check_client_key,
    client_secrets,
    forward_as_sent,
    with_client_key,
)
from gateway.plugin.registry import PluginRegistry
from gateway.plugin.vendor import Input, Output
from gateway.redact import Redactor
from gateway.spool import Cause, DeliveryRef
from gateway.verdict import Declined

FIELD = "field"
"""Used instead of a header's name: the client's address is sent in the vendor's own field."""

log = structlog.get_logger()


@final
class PreparedRequest(Struct, frozen=True):
    """A request that is ready to be sent."""

    request: Request
    covers: int = 1
    """Number of jobs that it delivers, from the first on."""
    forwarded: bool = False
    """Whether it is the received request, with only the key replaced."""


@final
class RenderFailure(Struct, frozen=True):
    """The first of the jobs cannot be rendered."""

    reason: str
    cause: Cause | None
    """Cause of the dead letter; None if the vendor's format cannot express the event."""


class Renderer:
    """Renders events for one destination.

    An exception in a plugin costs only the event that caused it: it becomes a dead letter.

    Args:
        output: the vendor's output.
        passthrough: forward a request in the vendor's own format with only the key replaced, if
            all its events are sent and no step changes them. A request that identifies its user
            only by the client's cookie is rendered, since its body lacks that id. So is a request
            from which a tracking plan removed fields.
        max_age: seconds after which an event is given up instead of sent.
        client_ip: the header that gets the client's address in a forwarded request. With `FIELD`
            the request is rendered, so that the address is in the vendor's own field. If empty, the
            address is not sent.
        client_input: the same vendor's input if the client's own key is sent; None if the
            destination's key is.
        hides: returns the redactor of all secrets of the current configuration.
        clock: returns Unix seconds.
        added: the headers that the transport adds, with credentials hidden.
    """

    def __init__(  # noqa: PLR0913 - all settings that differ between destinations
        self,
        output: Output,
        *,
        passthrough: bool = False,
        max_age: float | None = None,
        client_ip: str = "",
        client_input: Input | None = None,
        hides: Callable[[], Redactor] = Redactor,
        clock: Callable[[], float] = time.time,
        added: Mapping[str, str] = NO_HEADERS,
    ) -> None:
        self.output = output
        self._added = added
        self.passthrough = passthrough
        self.client_input = client_input
        self._client_ip = client_ip
        self._max_age = max_age
        self._clock = clock
        self._hides = hides
        self._own = Redactor(output.config)
        self._known = self._own, self._own

    def forwards_from(self, vendor: str) -> bool:
        """Return whether requests in *vendor*'s format are forwarded unchanged."""
        return self.passthrough and self.output.forwards and vendor == self.output.name

    def own(self, job: Job) -> Redactor:
        """Return the redactor of the keys that *job* is sent with."""
        if self.client_input is None or job.entry.vendor != self.client_input.name:
            return self._own
        return Redactor(self.output.config, client_secrets(job.entry.request, self.client_input))

    def redactor(self, job: Job) -> Redactor:
        """Return the redactor for all texts about *job*.

        It redacts all secrets of the configuration: a sender may have used one as a name, and the
        vendor may repeat it.
        """
        own, whole = self.own(job), self._hides()
        if own is not self._own:
            return whole.combined_with(own)
        if whole is not self._known[0]:
            self._known = whole, whole.combined_with(own)
        return self._known[1]

    def shown(self, request: Request, job: Job) -> dict[str, Any]:
        """Return *request* as it is sent for *job*, as JSON values without secrets."""
        return self.redactor(job).request(with_added_headers(request, self._added))

    def batch_room(self, job: Job) -> int:
        """Return how many of the user's next jobs fit into one request with *job*."""
        if job.unbatched:
            return 0
        if self._forwards(job):
            return job.siblings - 1
        return 0 if self.client_input else self.output.batch_size - 1

    def prepare(self, jobs: Sequence[Job]) -> PreparedRequest | RenderFailure:
        """Return the request for the first of *jobs*, and for those that fit in with it."""
        first = jobs[0]
        if self._max_age is not None and (late := self._expired(first, self._max_age)):
            return RenderFailure(late, "expired")
        try:
            if self.client_input is not None:
                check_client_key(first.entry.request, first.entry.vendor, self.client_input)
            if self._forwards(first) and _complete(jobs):
                forwarded = self._forwarded(jobs[: first.siblings])
                if forwarded is not None:
                    return PreparedRequest(forwarded, first.siblings, forwarded=True)
            request = self.output.render(first.outgoing_event)
        except Unrenderable as error:
            return RenderFailure(str(error), "unrenderable")
        except Exception as error:  # noqa: BLE001 - any exception costs only this event
            return self._failed(error)
        if type(request) is Declined:
            return RenderFailure(request.reason, None)
        if self.client_input is not None:
            return PreparedRequest(with_client_key(request, first.entry.request, self.client_input))
        if self.output.batch_size > 1 and len(jobs) > 1:
            return self._batch(request, jobs)
        return PreparedRequest(request)

    def _failed(self, error: Exception) -> RenderFailure:
        if is_too_deep(error):  # caused by the sender, not by the plugin
            return RenderFailure("a value of the event is nested too deeply", "unrenderable")
        log.error("plugin_failed", vendor=self.output.name, step="render", exc_info=error)
        return RenderFailure(f"render failed: {error!r}", "unrenderable")

    def _expired(self, job: Job, max_age: float) -> str:
        """Return why *job* is too old to be sent; empty if it is not."""
        age = self._age(job)
        return f"expired after {age:.0f} s; max_age is {max_age:g} s" if age > max_age else ""

    def _age(self, job: Job) -> float:
        """Return the seconds since the request arrived."""
        return self._clock() - job.entry.request.received_at.timestamp()

    def _forwarded(self, jobs: Sequence[Job]) -> Request | None:
        """Return the received request of *jobs*, with the client's address if its body lacks it.

        None if the request must be rendered to contain the address.
        """
        request = jobs[0].entry.request
        ip = request.client.ip if request.client is not None else ""
        lacks_ip = bool(ip) and any(job.event.context.ip == ip for job in jobs)
        if lacks_ip and self._client_ip == FIELD:
            return None
        if self.client_input is not None:
            forwarded: Request | None = forward_as_sent(request, self.output.config.url)
        else:
            forwarded = self.output.forward(request)
        if forwarded is None or not lacks_ip or not self._client_ip:
            return forwarded
        return replace(forwarded, headers={**forwarded.headers, self._client_ip: ip})

    def _forwards(self, job: Job) -> bool:
        if not self.forwards_from(job.entry.vendor):
            return False
        as_it_came = not (job.entry.request.client_id or job.entry.dropped) and job.steps is None
        if not as_it_came or job.unbatched or job.mark.index:
            return False
        within = self.output.forward_max_age
        return within is None or self.client_input is not None or self._age(job) <= within

    def _batch(self, request: Request, jobs: Sequence[Job]) -> PreparedRequest:
        """Return *request* merged with as many of the following jobs as fit."""
        covers = 1
        for job in jobs[1:]:
            if job.unbatched:
                break
            try:
                further = self.output.render(job.outgoing_event)
            except Exception:  # noqa: BLE001 - reported when that job is the first
                break
            merged = None
            if not isinstance(further, Declined):
                merged = self.output.merge(request, further)
            if merged is None:
                break
            request, covers = merged, covers + 1
        return PreparedRequest(request, covers)


def make_renderer(
    config: DestinationConfig,
    registry: PluginRegistry,
    hides: Callable[[], Redactor],
    clock: Callable[[], float] = time.time,
) -> Renderer:
    """Return the renderer of a configured destination."""
    return Renderer(
        registry.outputs[config.vendor](config.settings),
        passthrough=config.passthrough and not config.shadow,
        max_age=config.max_age,
        client_ip=config.client_ip,
        client_input=registry.inputs[config.vendor]() if config.credentials == "client" else None,
        hides=hides,
        clock=clock,
        added=config.shown_headers(),
    )


def _complete(jobs: Sequence[Job]) -> bool:
    """Return whether *jobs* begin with all events of one request."""
    first = jobs[0]
    return len(jobs) >= first.siblings and all(
        job.mark == DeliveryRef(first.mark.seq, index) and not job.unbatched and job.steps is None
        for index, job in enumerate(jobs[: first.siblings])
    )
