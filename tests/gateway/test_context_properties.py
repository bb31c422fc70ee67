"""The function that includes context fields has the same result as a loop over the fields."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.event import EPOCH, NOTHING, Context, Event, Properties, Traits, as_json
from gateway.event_fields import edited
from gateway.losses.full_events import full_events
from gateway.plugin.context_properties import FREE, GROUPS, PLACES, Included, compile_include
from gateway.testing.samples import AT, EVENTS

Names = tuple[str, ...]
PATHS = st.sampled_from([*PLACES, *GROUPS, "context.os", "traits.vip", "traits.city"])
TRACKED = [event for event in (*EVENTS, *(e for _, e in full_events())) if event.type == "track"]
TAKEN = {"utm_source": 1, "email": 2, "event_email": 3, "timestamp": 4, "vip": 5, "city": None}


def found(event: Event, path: str) -> Iterator[tuple[Names, str, Any]]:
    """Yield names, property name and value of the fields at *path*."""
    if path == "consent":
        for category, given_ in event.consent.items():
            yield ("consent", category), f"consent_{category}", given_
    elif path in GROUPS:
        for place in PLACES:
            if place.startswith(f"{path}."):
                yield from found(event, place)
        if path in FREE:
            for key, value in getattr(event, path).extra.items():
                yield (path, "extra", key), key, value
    elif path not in PLACES:
        part, _, key = path.partition(".")
        yield (part, "extra", key), key, getattr(event, part).extra.get(key)
    else:
        yield tuple(path.split(".")), PLACES[path], attrgetter(path)(event)


def interpreted(
    event: Event, paths: Sequence[str], names: Mapping[str, str]
) -> tuple[Event, dict[str, str]]:
    """Return *event* with the fields at *paths*, included one after the other."""
    held, told, came = event.properties.extra, dict[str, Any](), dict[str, Names]()
    for path in paths:
        for place, usual, value in found(event, path):
            if place == ("timestamp",):
                value = None if event.time == EPOCH else event.time  # noqa: PLW2901
            name = names.get(usual, usual)
            if value is None or place in came.values():
                continue
            if name in held or name in told:
                name = f"event_{name}"
            if name in held or name in told:
                continue
            told[name] = written(value) if place == ("timestamp",) else as_json(value)
            came[name] = place
    if not told:
        return event, {}
    moved = replace(event, properties=replace(event.properties, extra={**told, **held}))
    for place in came.values():
        moved = edited(moved, place, lambda _: None)
    return moved, {name: ".".join(place) for name, place in came.items()}


def written(moment: datetime) -> str:
    """Return *moment* as a vendor might write it."""
    return f"at {moment:%H:%M}"


@given(
    event=st.sampled_from(TRACKED),
    paths=st.lists(PATHS, max_size=5, unique=True),
    names=st.sampled_from([{}, {"phone": "mobile", "vip": "important"}]),
    taken=st.sets(st.sampled_from(sorted(TAKEN))),
)
def test_it_includes_what_a_loop_would(
    event: Event, paths: list[str], names: dict[str, str], taken: set[str]
) -> None:
    """Event, order of the properties and paths are those of the loop, for any fields.

    Fields that are not moved are in their old places, too.
    """
    extra = {**event.properties.extra, **{name: TAKEN[name] for name in taken}}
    event = replace(event, properties=replace(event.properties, extra=extra))
    include = compile_include(paths, written, names)
    expected, came = interpreted(event, paths, names)
    for included, whole in (
        (include(event, True), expected),  # noqa: FBT003 - as an output calls it
        (include(event, False), replace(event, properties=expected.properties)),  # noqa: FBT003
    ):
        assert included.event == whole
        assert included.paths == came
        assert list(included.event.properties.extra) == list(expected.properties.extra)


def test_two_fields_with_one_name_both_become_properties() -> None:
    """A field whose name another included field has got gets a prefix, and none is lost."""
    context = Context(channel="web", extra={"channel": "tv"})
    event = Event(type="track", name="x", timestamp=AT, context=context, traits=Traits())
    included = compile_include(["context"])(event, True)  # noqa: FBT003 - as an output calls it
    assert included.event.properties.extra == {"channel": "web", "event_channel": "tv"}
    assert included.event.context == Context()


def test_a_field_without_a_free_name_stays_in_its_place() -> None:
    """If both names of a field are taken, the field is not moved."""
    properties = Properties(extra={"channel": 1, "event_channel": 2})
    event = Event(type="track", name="x", context=Context(channel="web"), properties=properties)
    include = compile_include(["context.channel"])
    assert include(event, True) == Included(event, NOTHING)  # noqa: FBT003 - as an output calls it
