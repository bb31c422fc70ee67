"""Losses of a route that are certain before any event arrives."""

import re
from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.config import Config
from gateway.config.loader.load import load
from gateway.errors import Unrenderable
from gateway.event import Event
from gateway.explain.static_losses import StaticLosses, full, static_losses
from gateway.mapping import filled_fields
from gateway.plugin.registry import load_plugins
from gateway.testing import load_samples, request_of
from gateway.verdict import Declined

ROOT = Path(__file__).parent.parent.parent
PLUGINS = load_plugins()
CONFIG = """
[sources.shop]
vendor = "segment"
keys = ["k-shop"]
[destinations.crm]
vendor = "growlytics"
api_key = "k-crm"
[destinations.same]
vendor = "segment"
write_key = "k-same"
[[routes]]
name = "r"
from = ["shop"]
to = ["crm", "same"]
"""


def told(folder: Path, more: str = "", text: str = CONFIG) -> list[StaticLosses]:
    """Return the static losses of a route with *more* keys."""
    path = folder / "gateway.toml"
    path.write_text(text + more)
    return list(static_losses(load(path, PLUGINS, {}), PLUGINS))


def test_every_field_of_an_event_is_tried() -> None:
    """The full sample event has a value in every field."""
    event = full("track", "Order Completed")
    names = {path.partition(".")[0] for path, _ in filled_fields(event)}
    missing = set(event.__struct_fields__) - names
    assert missing == {"properties", "traits", "context"} - names | {"origin"} - names


def test_a_field_without_a_place_is_reported(tmp_path: Path) -> None:
    """A field that no request of the vendor has is reported as lost; a kept field is not."""
    (crm,) = told(tmp_path, 'types = ["track"]')
    assert (crm.route, crm.destination, crm.vendors) == ("r", "crm", ("segment",))
    assert "context.device" in crm.fields
    assert "properties.total" not in crm.fields


def test_a_dropped_field_is_not_reported(tmp_path: Path) -> None:
    """A field that a step drops is not reported, unless a later step sets it."""
    dropped = 'types = ["track"]\nsteps = [{ drop = ["context", "traits"] }%s]'
    fields = told(tmp_path, dropped % "")[0].fields
    assert not {"context", "traits"} & set(fields)
    put = ', { set = { "traits.title" = "Dr" } }'
    assert "traits.title" in told(tmp_path, dropped % put)[0].fields


def test_a_destination_that_gets_no_events_is_reported(tmp_path: Path) -> None:
    """A route whose events are all declined is reported with the reason."""
    crm, *_ = told(tmp_path, 'types = ["alias"]')
    assert crm.fields == ()
    assert "cannot merge customers" in crm.nothing


@cache
def everything() -> tuple[Config, dict[str, tuple[str, ...]]]:
    """Return a configuration with all vendors, and the static losses of each."""
    config = load(ROOT / "config/gateway.toml", PLUGINS, {})
    return config, {one.destination: one.fields for one in static_losses(config, PLUGINS)}


@pytest.mark.parametrize("vendor", PLUGINS.formats)
def test_static_losses_occur_in_every_sample(vendor: str) -> None:
    """A field reported as lost is lost in every sample that has it, at every destination."""
    config, foretold = everything()
    reads = PLUGINS.inputs[vendor]()
    for to, fields in foretold.items():
        if to == vendor:
            continue
        output = PLUGINS.outputs[to](config.destinations[to].settings)
        for sample in load_samples(ROOT / "tests/vendors" / vendor).values():
            for event in reads.parse(request_of(sample)):
                try:
                    declined = isinstance(output.render(event), Declined)
                except Unrenderable:
                    declined = True
                if declined:
                    continue
                lost = {_plain(loss.path) for loss in output.losses(event) if loss.how == "lost"}
                has = {_plain(path) for path, _ in filled_fields(event)}
                mine = {p for p in has if any(p == f or p.startswith(f"{f}.") for f in fields)}
                assert mine <= lost, (to, event)


def _plain(path: str) -> str:
    return re.sub(r"\[.*?\]|\.extra\..*", lambda m: ".extra" if m[0][0] == "." else "", path)


def test_an_exception_in_a_plugin_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception in a plugin becomes a sentence with route and vendor, without a traceback."""

    def fails(_: object, event: Event) -> None:
        raise ValueError(f"no codec for {event.name}")

    monkeypatch.setattr(PLUGINS.outputs["growlytics"], "render", fails)
    (crm,) = told(tmp_path, 'types = ["track"]')
    assert (crm.route, crm.destination) == ("r", "crm")
    assert crm.failed.startswith("growlytics: ValueError('no codec for ")
    shown = CliRunner().invoke(main, ["check", "-c", str(tmp_path / "gateway.toml")])
    assert shown.exit_code == 0
    assert "A plugin fails" in shown.output
    assert "no codec for" in shown.output


def test_check_shows_static_losses(tmp_path: Path) -> None:
    """`gateway check` lists fields that never arrive, and destinations that get no events."""
    path = tmp_path / "gateway.toml"
    alias = '\n[[routes]]\nname = "joins"\ntypes = ["alias"]\nto = ["crm"]\nadditional = true\n'
    path.write_text(f'{CONFIG}types = ["track"]{alias}')
    shown = CliRunner().invoke(main, ["check", "-c", str(path)]).output
    arrives, _, nothing = shown.partition("Destinations that get no events")
    assert "Fields that never arrive" in arrives
    assert "message_id" in arrives
    assert "joins" in nothing
    assert max(map(len, shown.splitlines())) < 100
