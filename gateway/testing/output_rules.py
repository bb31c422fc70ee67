"""Rules of an output about names, secrets, settings, and events that it cannot send."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

import orjson
import pytest
from msgspec.structs import replace
from pydantic import SecretStr, ValidationError

from gateway.errors import Unrenderable
from gateway.event import Event
from gateway.http import Request
from gateway.plugin.settings import CONVENTIONS, FreeFormSettings, Naming
from gateway.plugin.vendor import Output
from gateway.testing.plugin_watch import PluginSuite
from gateway.testing.samples import ARRIVAL, EVENTS
from gateway.verdict import Declined

FOREIGN = "neutral"
"""The origin of an event from another vendor's format."""
NAME = "my ownEvent_two"
"""A name that no vendor knows, and that each naming convention writes differently."""
MASK = str(SecretStr("masked"))
"""The printed form of a secret."""
MARK = "a-mark-of-the-kit"
FREE_PLACES: tuple[Callable[[Event, Mapping[str, Any]], Event], ...] = (
    lambda event, free: replace(event, properties=replace(event.properties, extra=free)),
    lambda event, free: replace(event, traits=replace(event.traits, extra=free)),
    lambda event, free: replace(event, extra=free),
)
"""Functions that add a sender's own fields to an event."""
HOPELESS: tuple[tuple[dict[str, Any], str], ...] = (  # first what a vendor without url lacks
    ({"url": "api.vendor.example"}, "must be an http or https URL"),
    ({"no_such_setting": 1}, "no_such_setting"),
)


class OutputRules(PluginSuite):
    """Rules of an output that need no sample; part of `gateway.testing.OutputSuite`."""

    output: ClassVar[Output]
    declined: ClassVar[Sequence[tuple[Event, str]]] = ()
    """Events that the vendor's format cannot carry, each with the complete reason."""
    wrong_settings: ClassVar[Sequence[tuple[Mapping[str, Any], str]]] = ()
    """Settings that can never work, each with a pattern of the error message."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test of a fact once per fact."""
        super().pytest_generate_tests(metafunc)
        if "unsayable" in metafunc.fixturenames:
            metafunc.parametrize(("unsayable", "reason"), self.declined, ids=_id)
        if "wrong" in metafunc.fixturenames:
            sends = type(self.output.config).model_fields["url"].is_required()
            hopeless = HOPELESS if sends else HOPELESS[1:]
            metafunc.parametrize(("wrong", "problem"), [*hopeless, *self.wrong_settings], ids=_id)
        if "naming" in metafunc.fixturenames:
            named = isinstance(self.output.config, FreeFormSettings)
            metafunc.parametrize("naming", CONVENTIONS if named else ())

    def test_declines_what_it_cannot_say(self, unsayable: Event, reason: str) -> None:
        """An event that the vendor's format cannot carry is declined with the reason."""
        assert self.output.render(unsayable) == Declined(reason)
        assert self.output.losses(unsayable) == []

    def test_declared_losses_are_of_what_goes_out(self) -> None:
        """A declined event has no losses; the reason says it all."""
        for event in EVENTS:
            if isinstance(rendered(self.output, event), Declined):
                assert self.output.losses(event) == [], event

    def test_takes_no_settings_that_cannot_work(
        self, wrong: Mapping[str, Any], problem: str
    ) -> None:
        """A setting that can never work is an error at the start."""
        settings = {**dict(self.output.config), **wrong}
        with pytest.raises(ValidationError, match=problem):
            type(self.output.config).model_validate(settings)

    def test_sends_its_secrets_and_shows_them_nowhere(self) -> None:
        """A secret is sent as it is, and never shown when settings are printed."""
        shown = repr(self.output.config)
        for secret in _secrets(self.output):
            assert secret not in shown
        for event in EVENTS:
            sent = rendered(self.output, event)
            if isinstance(sent, Request):
                said = f"{sent.url} {dict(sent.headers)} {sent.body!r}"
                assert MASK not in said, "send a secret's `get_secret_value()`"
            elif sent is not None:
                assert not any(secret in sent.reason for secret in _secrets(self.output))

    @pytest.mark.parametrize("event", EVENTS, ids=lambda e: f"{e.type}-{e.name}")
    def test_keeps_what_json_cannot_say(self, event: Event) -> None:
        """An event with a value that JSON cannot express is unrenderable; nothing crashes."""
        for origin in (FOREIGN, self.output.name):
            told = replace(event, origin=origin)
            for place in FREE_PLACES:
                sent = rendered(self.output, place(told, {"odd": [MARK]}))
                goes_out = isinstance(sent, Request) and MARK.encode() in sent.body
                unwritable = rendered(self.output, place(told, {"odd": [object()]}))
                assert unwritable is None if goes_out else type(unwritable) is type(sent)

    def test_spells_names_by_the_convention(self, naming: Naming) -> None:
        """Foreign events are named by the destination's convention; the vendor's own names stay."""
        output = type(self.output)(self.output.config.model_copy(update={"naming": naming}))
        for origin, name in ((FOREIGN, CONVENTIONS[naming](NAME)), (output.name, NAME)):
            event = Event(
                type="track", id="kit-0", name=NAME, origin=origin, received_at=ARRIVAL,
                user_id="u1", anonymous_id="a1", session_id="s1",
            )  # fmt: skip
            sent = output.render(event)
            assert isinstance(sent, Request), sent
            assert name in set(_texts(orjson.loads(sent.body)))


def rendered(output: Output, event: Event) -> Request | Declined | None:
    """Return the rendered *event*; None if it is unrenderable."""
    with suppress(Unrenderable):
        return output.render(event)
    return None


def _secrets(output: Output) -> list[str]:
    return [value.get_secret_value() for _, value in output.config if isinstance(value, SecretStr)]


def _texts(node: Any) -> Iterator[str]:
    """Yield the texts in a JSON value."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict | list):
        for below in node.values() if isinstance(node, dict) else node:
            yield from _texts(below)


def _id(fact: object) -> str:
    if isinstance(fact, Event):
        return f"{fact.type}-{fact.name}"
    return str(fact)[:60]
