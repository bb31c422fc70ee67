"""Each reported loss has a reason, and a setting that sends the field if there is one."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.config.steps import Copy
from gateway.errors import PluginError
from gateway.event import Campaign, Context, Device, Event
from gateway.losses.field_outcomes import field_outcomes, with_reasons
from gateway.losses.full_events import full_events
from gateway.losses.reviewed import Reviewed, _read, reviewed
from gateway.plugin.vendor import Output
from gateway.routing.step_values import copy_values
from gateway.verdict import Declined
from tests.fidelity.translation import OUTPUTS, REGISTRY, configured

EVENT = Event(
    type="track", name="x", user_id="u", session_id="s-1", consent={"ads": True},
    context=Context(device=Device(model="One"), extra={"os": "Linux"}), origin="segment",
)  # fmt: skip


def test_a_loss_names_its_reason_and_the_step() -> None:
    """A field left out on purpose has the reason and the setting that sends it."""
    found = {fate.path: fate.why for fate in field_outcomes(OUTPUTS["chrts"], EVENT)}
    assert found["session_id"].endswith('to send it: include = ["session_id"]')
    assert found["context.device.model"].endswith('include = ["context.device.model"]')
    assert found["context.extra.os"].endswith('include = ["context.os"]')
    assert found["consent.ads"].endswith('include = ["consent"]')
    told = {loss.path: loss.why for loss in with_reasons(OUTPUTS["chrts"], EVENT)}
    assert told["session_id"] == found["session_id"]


@pytest.mark.parametrize("vendor", OUTPUTS)
def test_losses_have_the_reasons_of_their_fields(vendor: str) -> None:
    """A loss has the same reason as the field that it is about."""
    output = OUTPUTS[vendor]
    for _, event in full_events():
        fields = {fate.path: fate.why for fate in field_outcomes(output, event)}
        for loss in with_reasons(output, event):
            assert loss.why == fields.get(loss.path, loss.why)
            assert loss.path in fields or any(path.startswith(loss.path) for path in fields)


def test_a_proposed_include_sends_the_field() -> None:
    """Each ``include`` that a reason proposes is valid, and sends the field."""
    for fate in field_outcomes(OUTPUTS["chrts"], EVENT):
        _, mark, proposed = fate.why.partition('include = ["')
        if mark:
            changed = configured("chrts", include=(proposed.partition('"')[0],))
            lost = [f.path for f in field_outcomes(changed, EVENT) if f.how == "lost"]
            assert fate.path not in lost


def proposals(vendor: str) -> list[tuple[Event, str, dict[str, Any]]]:
    """Return the proposals at *vendor*: the event, the lost field, and the setting."""
    return [
        (event, fate.path, tomllib.loads(said.partition(", with")[0]))
        for _, event in full_events()
        for fate in field_outcomes(OUTPUTS[vendor], event)
        if fate.how == "lost" and (said := fate.why.partition("; to send it: ")[2])
        if said.startswith(("include", "copy"))
    ]


@cache
def including(vendor: str, *paths: str) -> Output:
    """Return the output of *vendor* that includes *paths*."""
    return configured(vendor, include=paths)


@pytest.mark.parametrize("vendor", ["chrts", "growlytics", "personaclick"])
def test_whatever_a_reason_proposes_sends_the_field(vendor: str) -> None:
    """Each setting and step that a reason proposes sends the field of every event."""
    proposed = proposals(vendor)
    assert {key for _, _, written in proposed for key in written} == {"include", "copy"}
    for event, path, written in proposed:
        if "include" in written:
            output = including(vendor, *written["include"])
            changed = field_outcomes(output, event)
            assert path not in {fate.path for fate in changed if fate.how == "lost"}, event.name
        else:
            request = OUTPUTS[vendor].render(copy_values(Copy(**written))(event))
            assert not isinstance(request, Declined)
            assert b'new_name"' in request.body, (event.name, path, written)


@pytest.mark.parametrize(
    ("vendor", "name", "path"),
    [
        ("personaclick", "Product Viewed", "context.page.title"),
        ("personaclick", "Products Searched", "message_id"),
        ("personaclick", "Product Added", "consent.ads"),
        ("quartic", "Order Completed", "consent.ads"),
    ],
)
def test_no_setting_is_suggested_without_effect(vendor: str, name: str, path: str) -> None:
    """A call with fixed fields proposes no ``include``."""
    event = dict(full_events())[name]
    lost = next(f for f in field_outcomes(OUTPUTS[vendor], event) if membered_free(f.path) == path)
    assert lost.why == f"{vendor} has no place for it"


def membered_free(path: str) -> str:
    """Return *path* with any category replaced by ``ads``."""
    return "consent.ads" if path.startswith("consent.") else path


def test_a_campaign_that_arrives_is_not_lost() -> None:
    """A campaign sent as utm fields to PersonaClick is not reported as lost."""
    campaign = Campaign(name="spring", source="mail", medium="email", term="boots", content="top")
    event = Event(type="track", name="x", user_id="u", context=Context(campaign=campaign))
    assert not [loss for loss in OUTPUTS["personaclick"].losses(event) if "camp" in loss.path]


def test_translate_shows_the_reason(tmp_path: Path) -> None:
    """`gateway translate` shows a reason for each lost field."""
    body = tmp_path / "body.json"
    body.write_text('{"type":"track","userId":"u","event":"x","context":{"sessionId":"s-1"}}')
    shown = CliRunner().invoke(
        main, ["translate", "--from", "segment", "--to", "chrts", "--path", "/v1/track", str(body)]
    )
    assert shown.exit_code == 0, shown.output
    assert "include" in shown.output


@pytest.mark.parametrize("vendor", REGISTRY.formats)
def test_every_reason_is_a_sentence_part(vendor: str) -> None:
    """A reason continues "it is lost because": it starts in lower case and has no full stop."""
    for one in reviewed(REGISTRY.outputs[vendor]):
        assert one.reason[0].islower()
        assert not one.reason.endswith(".")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[lost]]\nfields = ['x']", "'reason'"),
        ("[[lost]]\nfields = 'x'\nreason = 'y'", "fields and events must be lists"),
        ("[[lost]]\nfields = ['x']\nreason = 'y'\nwhy = 1", "unknown keys: why"),
        ("[[lost]", "each [[lost]] needs fields"),
    ],
)
def test_an_invalid_list_of_reasons_is_a_plugin_error(tmp_path: Path, text: str, said: str) -> None:
    """An invalid list of reasons is a plugin error with its place."""
    path = tmp_path / "losses.toml"
    path.write_text(text)
    with pytest.raises(PluginError) as caught:
        _read(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_vendor_without_a_list_has_no_reasons(tmp_path: Path) -> None:
    """A plugin without a list of reasons has none."""
    assert _read(tmp_path / "losses.toml") == ()
    entry = Reviewed(("context.*",), ("identify",), "because", "")
    assert not entry.holds("track", "", "context.ip")
    assert entry.holds("identify", "", "context.ip")


def test_translate_shows_derived_values(tmp_path: Path) -> None:
    """`gateway translate` shows derived values with what they are derived from."""
    body = tmp_path / "body.json"
    body.write_text(
        '{"type":"track","userId":"u","event":"Order Completed","properties":'
        '{"order_id":"1","revenue":5,"products":[{"product_id":"a","price":5}]}}'
    )
    asked = ["translate", "--from", "segment", "--path", "/v1/track", str(body), "--to"]
    shown = CliRunner().invoke(main, [*asked, "quartic"]).output
    assert "properties.products[].quantity is derived from nothing: 1 is assumed" in shown
    shown = CliRunner().invoke(main, [*asked, "personaclick"]).output
    assert "properties.total is derived from properties.revenue" in shown
