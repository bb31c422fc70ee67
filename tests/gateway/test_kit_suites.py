"""Each rule of the kit's suites fails on the mistake that it checks for."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import orjson
import pytest
from msgspec.structs import replace

from gateway.errors import Fault, Rejected
from gateway.event import Event
from gateway.http import Request, Response
from gateway.mapping import Loss
from gateway.plugin.sandbox import SandboxResponse
from gateway.plugin.settings import FreeFormSettings, Secret
from gateway.testing import FaultAnswer, RefusalSuite, RefusedRequest, SandboxSuite, post
from gateway.testing.output_rules import OutputRules
from gateway.testing.samples import EVENTS
from tests.example_plugins.acme.acme.input import AcmeInput
from tests.example_plugins.acme.acme.output import AcmeOutput
from tests.example_plugins.acme.acme.sandbox import AcmeSandbox

CONFIG = AcmeOutput.Config(url="https://acme.example", api_key=Secret("acme-out"))
VIEWED = next(event for event in EVENTS if event.name == "Product Viewed")
PAGE = Event(type="page", user_id="u1")
NO_PAGE = "acme has no way to say a page call"


class Masked(AcmeOutput):
    """An output that sends its key as asterisks."""

    def headers(self) -> Mapping[str, str]:
        """Return the asterisks."""
        return {"x-acme-key": str(self.config.api_key)}


class Unprotected(AcmeOutput):
    """An output that prints its key."""

    class Config(AcmeOutput.Config):
        """Settings that hide no value."""

        def __repr__(self) -> str:
            return self.api_key.get_secret_value()


class Talkative(AcmeOutput):
    """An output that declares losses of events that it declines."""

    def losses(self, event: Event) -> list[Loss]:
        """Return one loss for any event."""
        return [Loss("name", "lost", event.name)]


class Crashing(AcmeOutput):
    """An output that fails on values that JSON cannot express."""

    def request(self, endpoint: str, payload: dict[str, Any], event: Event) -> Request:
        """Return *payload* with the free fields also as text."""
        more = orjson.dumps(event.properties.extra).decode()
        return super().request(endpoint, {**payload, "also": more}, event)


class Lenient(AcmeOutput):
    """An output that accepts any setting."""

    class Config(AcmeOutput.Config, extra="ignore"):
        """Settings that allow any further key."""


class Stubborn(AcmeOutput):
    """An output that ignores its own naming convention."""

    class Config(FreeFormSettings):
        """Acme's settings with names."""

        url: str = "https://acme.example"
        """Scheme and host."""
        api_key: Secret
        """The key."""


def rules(made: type[AcmeOutput], **settings: Any) -> OutputRules:
    """Return the suite's rules for an output of that class."""
    suite = OutputRules()
    known = {"url": "https://acme.example", "api_key": "acme-out", **settings}
    suite.output = made(made.Config.model_validate(known))  # type: ignore[misc]  # of this suite alone
    return suite


@pytest.mark.parametrize(
    ("made", "check"),
    [
        (Masked, lambda suite: suite.test_sends_its_secrets_and_shows_them_nowhere()),
        (Unprotected, lambda suite: suite.test_sends_its_secrets_and_shows_them_nowhere()),
        (Talkative, lambda suite: suite.test_declared_losses_are_of_what_goes_out()),
        (Talkative, lambda suite: suite.test_declines_what_it_cannot_say(PAGE, NO_PAGE)),
        (AcmeOutput, lambda suite: suite.test_declines_what_it_cannot_say(PAGE, "no pages")),
        (AcmeOutput, lambda suite: suite.test_declines_what_it_cannot_say(VIEWED, NO_PAGE)),
        (Crashing, lambda suite: suite.test_keeps_what_json_cannot_say(VIEWED)),
        (Stubborn, lambda suite: suite.test_spells_names_by_the_convention("snake_case")),
    ],
)
def test_an_output_that_breaks_a_rule_fails(
    made: type[AcmeOutput], check: Callable[[OutputRules], None]
) -> None:
    """An output with a mistake fails the rule that checks for it."""
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(rules(made))


def test_settings_that_take_anything_fail() -> None:
    """Settings that accept impossible values fail the rule that checks for them."""
    for wrong in ({"no_such_setting": 1}, {"url": "https://another.example"}):
        with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
            rules(Lenient).test_takes_no_settings_that_cannot_work(wrong, "what")


class Open(AcmeSandbox):
    """A sandbox that ignores its configured key."""

    def respond(self, request: Request, key: str | None) -> SandboxResponse:
        """Accept any request with a key."""
        del key
        return super().respond(request, None)


class Easy(AcmeSandbox):
    """A sandbox that accepts every request."""

    def respond(self, request: Request, key: str | None) -> SandboxResponse:
        """Accept the request."""
        del request, key
        return SandboxResponse(Response(202))


class Gossip(AcmeSandbox):
    """A sandbox that names the expected key in its refusal."""

    def respond(self, request: Request, key: str | None) -> SandboxResponse:
        """Refuse the request with the key in the reason."""
        return SandboxResponse(Response(401), f"not {request.headers['x-acme-key']} but {key}")


class Grim(AcmeSandbox):
    """A sandbox that accepts no request."""

    def respond(self, request: Request, key: str | None) -> SandboxResponse:
        """Refuse the request."""
        del request, key
        return SandboxResponse(Response(400), "no")


class Sandboxed(SandboxSuite):
    """Acme's suite; tests replace its sandbox with a wrong one."""

    sandbox = AcmeSandbox()
    outputs: ClassVar = {"": AcmeOutput(CONFIG)}
    key = "acme-out"
    success = frozenset({202})
    wrong_method = 404


OUTPUT = Sandboxed.outputs[""]


@pytest.mark.parametrize(
    ("made", "check"),
    [
        (Open, lambda suite: suite.test_knows_its_key(OUTPUT)),
        (Easy, lambda suite: suite.test_needs_a_key(OUTPUT)),
        (Easy, lambda suite: suite.test_knows_no_other_path(OUTPUT)),
        (Easy, lambda suite: suite.test_knows_no_other_method(OUTPUT)),
        (Easy, lambda suite: suite.test_needs_an_object(b"[]", OUTPUT)),
        (Gossip, lambda suite: suite.test_shows_no_key(OUTPUT)),
        (Grim, lambda suite: suite.test_accepts_every_rendered_request(VIEWED, OUTPUT)),
    ],
)
def test_a_sandbox_that_breaks_a_rule_fails(
    made: type[AcmeSandbox], check: Callable[[SandboxSuite], None]
) -> None:
    """A sandbox that is too lenient or too strict fails the rule that checks for it."""
    suite = Sandboxed()
    suite.sandbox = made()  # type: ignore[misc]  # of this suite alone
    with pytest.raises(AssertionError):
        check(suite)


class Refusals(RefusalSuite):
    """Some of Acme's refusals."""

    input = AcmeInput()
    faults: ClassVar = {Fault.FORBIDDEN: FaultAnswer(403), Fault.METHOD: FaultAnswer(405)}
    refused: ClassVar = [
        RefusedRequest(
            post("/v1/events", {"what": "looked"}), 400, {"ok": False, "error": "who: required"}
        )
    ]
    credentials = ((post("/v1/events"), None),)

    def refusal(self, status: int, message: str) -> object:
        """Return the body of an error."""
        del status
        return {"ok": False, "error": message}


class Curt(AcmeInput):
    """An input that gives the same response to each fault."""

    def refuse(self, request: Request, error: Rejected) -> Response:
        """Return a response with a status only."""
        return replace(super().refuse(request, error), body=b'{"ok": false}')


class Chatty(AcmeInput):
    """An input whose refusals carry a header that is not declared."""

    def refuse(self, request: Request, error: Rejected) -> Response:
        """Return Acme's response with a further header."""
        answer = super().refuse(request, error)
        return replace(answer, headers={**answer.headers, "allow": "POST"})


class Trusting(AcmeInput):
    """An input that reads the path as the key."""

    def credential(self, request: Request, payload: Any) -> str | None:
        """Return a key for every request."""
        del payload
        return request.path


class WithHeader(Refusals):
    """A suite that declares a header for one of the responses."""

    faults: ClassVar = {
        **Refusals.faults, Fault.METHOD: FaultAnswer(405, headers={"allow": "POST"})
    }  # fmt: skip


class Endless(Refusals):
    """A suite without any refused request."""

    refused: ClassVar = []


@pytest.mark.parametrize(
    ("made", "suite", "check"),
    [
        (Curt, Refusals(), lambda suite: suite.test_answers_each_fault(Fault.FORBIDDEN)),
        (AcmeInput, Refusals(), lambda suite: suite.test_answers_each_fault(Fault.TOO_LARGE)),
        (AcmeInput, WithHeader(), lambda suite: suite.test_answers_each_fault(Fault.METHOD)),
        (Chatty, WithHeader(), lambda suite: suite.test_answers_each_fault(Fault.FORBIDDEN)),
        (Curt, Refusals(), lambda suite: suite.test_refuses_what_breaks_a_rule(suite.refused[0])),
        (Chatty, Refusals(), lambda suite: suite.test_refuses_what_breaks_a_rule(suite.refused[0])),
        (AcmeInput, Endless(), lambda suite: suite.test_every_endpoint_refuses_something()),
        (
            Trusting,
            Refusals(),
            lambda suite: suite.test_finds_the_credential(*suite.credentials[0]),
        ),
        (
            AcmeInput,
            Refusals(),
            lambda suite: suite.test_knows_both_with_and_without_a_credential(),
        ),
    ],
)
def test_an_input_that_refuses_wrongly_fails(
    made: type[AcmeInput], suite: RefusalSuite, check: Callable[[RefusalSuite], None]
) -> None:
    """An input whose refusals differ from the declared ones fails the rule for them."""
    suite.input = made()  # type: ignore[misc]  # of this suite alone
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(suite)


def test_a_fault_without_an_answer_is_named() -> None:
    """The message about an undeclared fault is the line to add."""

    class Forgetful(Refusals):
        faults: ClassVar = {}

    Forgetful.input = AcmeInput()
    with pytest.raises(pytest.fail.Exception, match=r"Fault\.METHOD: FaultAnswer\(400\)"):
        Forgetful().test_answers_each_fault(Fault.METHOD)


def test_a_declared_refusal_that_is_accepted_fails() -> None:
    """A request that is declared as refused, but accepted, fails."""
    good = RefusedRequest(post("/v1/events", {"what": "looked", "who": "u1"}), 400, {})
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        Refusals().test_refuses_what_breaks_a_rule(good)
