"""The storm notices what is wrong with a vendor, and says what brought it about."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.errors import Rejected
from gateway.event import Event
from gateway.http import Request, Response
from gateway.plugin.settings import Secret
from gateway.plugin.vendor import json_response
from gateway.testing import OutputSuite, VendorSuite, load_samples
from gateway.testing.request_fuzzer import RequestFuzzer
from gateway.testing.samples import request_of
from gateway.testing.strategies import HOSTILE, drawn
from gateway.verdict import Declined
from tests.example_plugins.acme.acme.input import AcmeInput
from tests.example_plugins.acme.acme.output import AcmeOutput

EXAMPLE = Path(__file__).parents[1] / "example_plugins/acme"
SAMPLES = EXAMPLE / "samples"
CONFIG = AcmeOutput.Config(url="https://acme.example", api_key=Secret("acme-out"))
ENDPOINT = "POST /v1/events"


class Suite(VendorSuite):
    """The example's, to be given one half that is wrong."""

    samples = SAMPLES
    input = AcmeInput()
    output = AcmeOutput(CONFIG)


def found(suite: type[Suite]) -> str:
    """Return the first thing that a storm over *suite* finds."""
    tally = suite().storm(ENDPOINT, 300, 0)
    assert tally.found
    return tally.found[0]


def test_a_calm_vendor_stands_it() -> None:
    """A vendor that is right takes some, refuses others, and nothing is found."""
    tally = Suite().storm(ENDPOINT, 300, 0)
    assert tally.found == []
    assert tally.sent == 300 == sum(tally.statuses.values())
    assert 0 < tally.events < 300
    assert tally.refused + tally.statuses[202] == 300


def test_the_same_seed_brings_the_same_storm() -> None:
    """What a storm finds can be found again."""
    one, again, other = (Suite().storm(ENDPOINT, 200, seed).statuses for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_a_traceback_while_reading_is_found() -> None:
    """An input that fails on some payload answers 500, and the payload is told."""

    class Trusting(AcmeInput):
        def read(self, request: Request, payload: Any) -> list[Event]:
            if type(payload) is dict:
                str(payload.get("what", "")).encode("ascii")
            return super().read(request, payload)

    class Wrong(Suite):
        input = Trusting()

    assert found(Wrong).startswith("the response is 500 ")
    assert "sent: b'POST /" in found(Wrong)


def test_other_words_than_the_vendors_are_found() -> None:
    """A refusal that the suite does not know as the vendor's is none of its own."""

    class Foreign(AcmeInput):
        def refuse(self, request: Request, error: Rejected) -> Response:
            if error.path == "who":
                return json_response(400, ["who?"])
            return super().refuse(request, error)

    class Wrong(Suite):
        input = Foreign()

        def native(self, answer: Response) -> bool:
            return b'"ok":false' in answer.body

    assert found(Wrong).startswith("the response is 400 b'[\"who?\"]'")


def test_an_event_that_is_another_when_read_again_is_found() -> None:
    """What is read back from the spool must be what was accepted."""
    times = iter(range(10**6))

    class Counting(AcmeInput):
        def read(self, request: Request, payload: Any) -> list[Event]:
            events = super().read(request, payload)
            return [replace(event, session_id=f"s{next(times)}") for event in events]

    class Wrong(Suite):
        input = Counting()

    assert found(Wrong).startswith("parsed from the spool, the event differs")


def test_a_traceback_while_rendering_is_found() -> None:
    """An output that fails on some event is named, with the request that the event came in."""

    class Fragile(AcmeOutput):
        def render(self, event: Event) -> Request | Declined:
            assert not event.properties.extra, "no room"
            return super().render(event)

    class Wrong(Suite):
        output = Fragile(CONFIG)

    assert found(Wrong).startswith("acme, AssertionError(")
    assert '"more"' in found(Wrong)


def test_a_traceback_while_forwarding_is_found() -> None:
    """So is one that cannot forward what its own vendor's input took."""

    class Fragile(AcmeOutput):
        def forward(self, request: Request) -> Request | None:
            raise LookupError(request.path)

    class Wrong(Suite):
        output = Fragile(CONFIG)

    assert found(Wrong).startswith("forwarding, LookupError('/v1/events')")


def test_samples_that_are_not_taken_are_no_storm() -> None:
    """A storm whose requests are all refused proves nothing, and fails."""

    class Closed(AcmeInput):
        def read(self, request: Request, payload: Any) -> list[Event]:
            raise Rejected("$", f"{request.path} is closed to {type(payload).__name__}")

    class Wrong(Suite):
        input = Closed()

    tally = Wrong().storm(ENDPOINT, 100, 0)
    assert (tally.events, tally.found) == (0, [])
    assert tally.refused == 100


def test_an_output_without_words_fails() -> None:
    """An output that declines whatever it is told does not pass its suite."""

    class Mute(AcmeOutput):
        def render(self, event: Event) -> Declined:
            return Declined(f"no word for {event.type}")

    class Wrong(OutputSuite):
        output = Mute(CONFIG)

    with pytest.raises(AssertionError, match="declines every event in"):
        Wrong().test_renders_something()


def test_a_folder_without_samples_is_named(tmp_path: Path) -> None:
    """A suite without samples would pass with nothing tested; it says where it looked."""
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        load_samples(tmp_path)


def test_a_mess_leaves_good_requests_as_they_are() -> None:
    """Bad requests are made of copies."""
    likes: Sequence[Request] = [request_of(s) for s in load_samples(SAMPLES).values()]
    bodies = [{"what": "looked", "who": "u1", "more": {"list": [1, {"deep": None}]}}]
    mess = RequestFuzzer(
        Random(0),  # noqa: S311 - no secret
        likes=likes, bodies=bodies, hostile=drawn(HOSTILE, 50, 0), carry=Suite().carrying,
    )  # fmt: skip
    packed = [mess.packed(mess.request()) for _ in range(500)]
    assert len(set(packed)) > 400
    assert likes == [request_of(s) for s in load_samples(SAMPLES).values()]
    assert bodies == [{"what": "looked", "who": "u1", "more": {"list": [1, {"deep": None}]}}]


def test_the_long_form_prints_what_it_came_to(tmp_path: Path) -> None:
    """As a pytest plugin it runs the storms alone, as long as asked, and prints a table."""
    shutil.copytree(SAMPLES, tmp_path / "samples")
    shutil.copy(EXAMPLE / "test_acme.py", tmp_path)
    (tmp_path / "pytest.ini").write_text(
        f"[pytest]\npythonpath = {EXAMPLE}\nasyncio_default_fixture_loop_scope = function\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "gateway.testing.fuzz", "--payloads", "1500",
         "--seed", "7"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "storm: --payloads 1500 --seed 7" in done.stdout
    line = next(line for line in done.stdout.splitlines() if line.startswith(ENDPOINT))
    assert line.split()[2] == "1,500"
    assert "1 passed" in done.stdout
