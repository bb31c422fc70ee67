"""Batches: an event that cannot be rendered does not affect the others."""

from pathlib import Path

import pytest

from gateway.config.loader.load import load as load_config
from gateway.delivery.job import Job
from gateway.delivery.renderer import PreparedRequest, Renderer, RenderFailure, make_renderer
from gateway.errors import Unrenderable
from gateway.event import Event
from gateway.http import Request
from gateway.plugin.registry import load_plugins
from gateway.redact import Redactor
from gateway.routing.steps import StepChain
from gateway.spool import DeliveryRef, Entry
from tests.soak.marks import config

ENTRY = Entry("r", "shop", Request(method="POST", url="/"), {"tracardi": (0, 1, 2)})


class Failing(StepChain):
    """Route steps that fail."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def apply(self, event: Event) -> Event:  # noqa: ARG002 - it fails on any
        """Fail on *event*.

        Raises:
            Exception: whatever was given.
        """
        raise self._error


@pytest.fixture
def rendering(tmp_path: Path) -> Renderer:
    """Return a renderer for a vendor that takes several events per request."""
    path, registry = tmp_path / "gateway.toml", load_plugins()
    path.write_text(config(str(tmp_path / "spool"), {"tracardi": 9}))
    destination = load_config(path, registry).destinations["tracardi"]
    return make_renderer(destination, registry, Redactor)


def job(index: int, steps: StepChain | None = None) -> Job:
    """Return the delivery of event *index*."""
    event = Event(type="track", name="opened", id=f"e{index}", user_id="u", anonymous_id="s")
    return Job(DeliveryRef(1, index), ENTRY, event, siblings=3, steps=steps)


@pytest.mark.parametrize("error", [Unrenderable("no"), KeyError("a plugin's mistake")])
def test_a_batch_ends_before_an_unrenderable_event(rendering: Renderer, error: Exception) -> None:
    """A batch ends before an event that cannot be rendered, and leaves it for its own attempt."""
    together = rendering.prepare([job(0), job(1), job(2)])
    assert isinstance(together, PreparedRequest)
    assert together.covers == 3
    prepared = rendering.prepare([job(0), job(1, Failing(error)), job(2)])
    assert isinstance(prepared, PreparedRequest)
    assert prepared.covers == 1
    alone = rendering.prepare([job(1, Failing(error)), job(2)])
    assert isinstance(alone, RenderFailure)
    assert alone.cause == "unrenderable"
