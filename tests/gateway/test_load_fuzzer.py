"""The load fuzzer finds mistakes of a vendor, and shows the request that caused each."""

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
    """The example's suite; tests replace one half with a wrong one."""

    samples = SAMPLES
    input = AcmeInput()
    output = AcmeOutput(CONFIG)


def found(suite: type[Suite]) -> str:
    """Return the first finding of the load fuzzer for *suite*."""
    result = suite().storm(ENDPOINT, 300, 0)
    assert result.found
    return result.found[0]


def test_a_correct_vendor_has_no_findings() -> None:
    """A correct vendor accepts some requests, refuses others, and has no findings."""
    result = Suite().storm(ENDPOINT, 300, 0)
    assert result.found == []
    assert result.sent == 300 == sum(result.statuses.values())
    assert 0 < result.events < 300
    assert result.refused + result.statuses[202] == 300


def test_the_same_seed_produces_the_same_requests() -> None:
    """The same seed produces the same requests."""
    one, again, other = (Suite().storm(ENDPOINT, 200, seed).statuses for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_a_traceback_while_reading_is_found() -> None:
    """An input that raises makes the response 503, and the finding shows the payload."""

    class Trusting(AcmeInput):
        def read(self, request: Request, payload: Any) -> list[Event]:
            if type(payload) is dict:
                str(payload.get("what", "")).encode("ascii")
            return super().read(request, payload)

    class Wrong(Suite):
        input = Trusting()

    assert found(Wrong).startswith("the response is 503 ")
    assert "sent: b'POST /" in found(Wrong)


def test_a_refusal_in_another_format_is_found() -> None:
    """A refusal that is not in the vendor's own format is a finding."""

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
    """An event that differs when it is parsed again from the spool is a finding."""
    times = iter(range(10**6))

    class Counting(AcmeInput):
        def read(self, request: Request, payload: Any) -> list[Event]:
            events = super().read(request, payload)
            return [replace(event, session_id=f"s{next(times)}") for event in events]

    class Wrong(Suite):
        input = Counting()

    assert found(Wrong).startswith("parsed from the spool, the event differs")


def test_a_traceback_while_rendering_is_found() -> None:
    """An output that raises is a finding with the event's request."""

    class Fragile(AcmeOutput):
        def render(self, event: Event) -> Request | Declined:
            assert not event.properties.extra, "no room"
            return super().render(event)

    class Wrong(Suite):
        output = Fragile(CONFIG)

    assert found(Wrong).startswith("acme, AssertionError(")
    assert '"more"' in found(Wrong)


def test_a_traceback_while_forwarding_is_found() -> None:
    """An output that raises while forwarding its own vendor's request is a finding."""

    class Fragile(AcmeOutput):
        def forward(self, request: Request) -> Request | None:
            raise LookupError(request.path)

    class Wrong(Suite):
        output = Fragile(CONFIG)

    assert found(Wrong).startswith("forwarding, LookupError('/v1/events')")


def test_a_run_with_only_refusals_counts_no_events() -> None:
    """A run in which every request is refused counts no events."""

    class Closed(AcmeInput):
        def read(self, request: Request, payload: Any) -> list[Event]:
            raise Rejected("$", f"{request.path} is closed to {type(payload).__name__}")

    class Wrong(Suite):
        input = Closed()

    result = Wrong().storm(ENDPOINT, 100, 0)
    assert (result.events, result.found) == (0, [])
    assert result.refused == 100


def test_an_output_that_declines_everything_fails() -> None:
    """An output that declines every event fails its suite."""

    class Mute(AcmeOutput):
        def render(self, event: Event) -> Declined:
            return Declined(f"no word for {event.type}")

    class Wrong(OutputSuite):
        output = Mute(CONFIG)

    with pytest.raises(AssertionError, match="declines every event in"):
        Wrong().test_renders_something()


def test_a_folder_without_samples_is_named(tmp_path: Path) -> None:
    """A suite without samples is an error that names the folder."""
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        load_samples(tmp_path)


def test_the_request_fuzzer_leaves_good_requests_unchanged() -> None:
    """The request fuzzer changes copies; the good requests stay unchanged."""
    likes: Sequence[Request] = [request_of(s) for s in load_samples(SAMPLES).values()]
    bodies = [{"what": "looked", "who": "u1", "more": {"list": [1, {"deep": None}]}}]
    fuzzer = RequestFuzzer(
        Random(0),  # noqa: S311 - no secret
        likes=likes, bodies=bodies, hostile=drawn(HOSTILE, 50, 0), carry=Suite().carrying,
    )  # fmt: skip
    packed = [fuzzer.packed(fuzzer.request()) for _ in range(500)]
    assert len(set(packed)) > 400
    assert likes == [request_of(s) for s in load_samples(SAMPLES).values()]
    assert bodies == [{"what": "looked", "who": "u1", "more": {"list": [1, {"deep": None}]}}]


def test_the_pytest_plugin_prints_a_table(tmp_path: Path) -> None:
    """The pytest plugin runs only the fuzzer for the given time, and prints a table."""
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
