"""The text of a first configuration: commented tables, and a test for each source."""

import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import orjson

from gateway.cli.sandbox import SANDBOX
from gateway.config.loader.references import is_secret
from gateway.explain import Explainer, ExplainRequest
from gateway.explain.assertions import sent_to
from gateway.http import Request
from gateway.json_text import dumps, loads
from gateway.plugin.registry import PluginRegistry
from gateway.plugin.vendor import Input

HEAD = """\
# Accepts events in the format of {inputs}; sends them to {outputs}.
#
#   gateway check -c {path}    validate this file
#   gateway test -c {path}     run the tests at its end; nothing is sent
#   gateway demo -c {path}     run it with the sandbox
#   gateway run -c {path}      run it
#
# Every key: docs/configuration.md

[server]
listen = "127.0.0.1:8080"

[spool] # accepted events are stored here until they are delivered
path = "var/spool"

[admin] # the console and the admin API, for this machine only
listen = "127.0.0.1:8081"

# Sources: who may send, and in whose format. The keys are those of the vendors' documents, for a
# first try on this machine. Set the variables to the keys that your clients send.
"""
DESTINATIONS = """
# Destinations: who gets the events. Each url is the sandbox, which takes any credential. To send to
# the vendors themselves, set the variables and remove the urls.
"""
ROUTES = """
# Routes: which events go where. Without `from` and `when`, a route takes every event.

[[routes]]
name = "everything"
to = {to}
"""
TESTS = """
# Tests: an example of each vendor's document, and the destinations that must get it. Replace the
# bodies by what your clients send.
"""


class FirstConfig:
    """A configuration that sends all events of some vendors' formats to some vendors.

    Args:
        path: the file to be, as its comments name it.
        registry: the vendors.
        inputs: the vendors whose formats come in; each is a source.
        outputs: the vendors that get the events; each is a destination.

    Attributes:
        variables: the environment variables that its text names.
    """

    def __init__(
        self, path: Path, registry: PluginRegistry, inputs: Sequence[str], outputs: Sequence[str]
    ) -> None:
        self._path = path
        self._registry = registry
        self._inputs = inputs
        self._outputs = outputs
        self.variables: list[str] = []

    def text(self, explainer: Explainer | None = None) -> str:
        """Return the file's text; with tests if an *explainer* of it says what they must expect."""
        self.variables = []
        inputs, outputs = ", ".join(self._inputs), ", ".join(self._outputs)
        parts = [HEAD.format(inputs=inputs, outputs=outputs, path=self._path)]
        parts += [self._source(self._registry.inputs[name]()) for name in self._inputs]
        parts += [DESTINATIONS, *map(self._destination, self._outputs)]
        parts.append(ROUTES.format(to=_list(self._outputs)))
        if explainer is not None:
            parts.append(TESTS)
            tests = (self._registry.inputs[name]() for name in self._inputs)
            parts += [_test(reads, explainer, self._outputs) for reads in tests]
        return "".join(parts)

    def _variable(self, name: str, default: str) -> str:
        """Return a reference to a variable, as a TOML string."""
        variable = re.sub(r"\W", "_", name).upper()
        self.variables.append(variable)
        return _string(f"${{{variable}:-{default}}}")

    def _source(self, reads: Input) -> str:
        payload = loads(reads.example.body) if reads.credential_in_body else None
        key = reads.credential(reads.example, payload) or "any"
        keys = self._variable(f"{reads.name}_client_key", key)
        return f"\n[sources.{reads.name}]\nvendor = {_string(reads.name)}\nkeys = [{keys}]\n"

    def _destination(self, name: str) -> str:
        lines = [f"\n[destinations.{name}]", f"vendor = {_string(name)}"]
        fields = self._registry.outputs[name].Config.model_fields
        if name in self._registry.sandboxes:
            needed = fields["url"].is_required()
            own = "write your server's address" if needed else "remove it to send to the vendor"
            lines.append(f'url = "http://{SANDBOX}/{name}" # the sandbox; {own}')
        elif fields["url"].is_required():
            lines.append(f'url = "https://{name}.example" # write your server\'s address')
        for key, field in fields.items():
            if key != "url" and field.is_required():
                written = field.alias or key
                if is_secret(field.annotation):
                    lines.append(f"{written} = {self._variable(f'{name}_{written}', 'sandbox')}")
                else:
                    lines.append(f'{written} = "sandbox" # write your own')
        return "\n".join(lines) + "\n"


def _test(reads: Input, explainer: Explainer, destinations: Sequence[str]) -> str:
    """Return a test of the vendor's example; it expects what *explainer* says will happen."""
    example = reads.example
    endpoint = f"{example.method} {example.url}"
    headers = {k: v for k, v in example.headers.items() if k not in reads.credential_headers}
    explained = explainer.explain(
        ExplainRequest(example.body, reads.name, endpoint, headers, datetime.now(UTC))
    )
    got = [name for name in destinations if sent_to(name, explained)]
    return "".join(f"{line}\n" for line in _lines(example, headers, reads.name, got))


def _lines(
    example: Request, headers: dict[str, str], vendor: str, expected: Sequence[str]
) -> Iterator[str]:
    yield "\n[[tests]]"
    yield f"name = {_string(f'an example of {vendor}')}"
    yield f"from = {_string(vendor)}"
    yield f"path = {_string(f'{example.method} {example.url}')}"
    if headers:
        pairs = ", ".join(f"{_string(name)} = {_string(value)}" for name, value in headers.items())
        yield f"headers = {{ {pairs} }}"
    if example.body:
        yield f"body = {_body(example.body)}"
    yield f"expect = {_list(expected)}"


def _body(body: bytes) -> str:
    """Return a body as a TOML string; JSON is indented."""
    try:
        text = dumps(loads(body), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        return _string(body.decode())
    return _string(text) if "'''" in text else f"'''\n{text}\n'''"


def _string(text: str) -> str:
    """Return *text* as a basic string of TOML, whose escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False)


def _list(names: Sequence[str]) -> str:
    return f"[{', '.join(map(_string, names))}]"
