"""Forms and queries: nesting of names, value types, and what is forwarded."""

from contextlib import suppress
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Rejected
from gateway.http import Request
from plugins.personaclick.forms import DEEPEST, LABEL, fields, is_form
from plugins.personaclick.input import PersonaclickInput
from plugins.personaclick.output import PersonaclickOutput

INPUT = PersonaclickInput()
OUTPUT = PersonaclickOutput(PersonaclickOutput.Config.model_validate({"shop_id": "ours"}))
VIEW = "shop_id=theirs&did=d&seance=s&stream=web&event=view&items[][id]=1"


def post(body: str | bytes, url: str = "/push", label: str = LABEL) -> Request:
    """Return a form request as a browser sends it."""
    raw = body.encode() if isinstance(body, str) else body
    return Request(method="POST", url=url, headers={"content-type": label}, body=raw)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("a=1&a=2", {"a": "2"}),
        ("a=&b", {"a": "", "b": ""}),
        ("a[]=1&a[]=2", {"a": ["1", "2"]}),
        ("a[b]=1&a[c][d]=2", {"a": {"b": "1", "c": {"d": "2"}}}),
        ("a[][b]=1&a[][c]=2&a[][b]=3", {"a": [{"b": "1", "c": "2"}, {"b": "3"}]}),
        ("a[][b][c]=1&a[][b][d]=2&a[][b][c]=3", {"a": [{"b": {"c": "1", "d": "2"}},
                                                     {"b": {"c": "3"}}]}),
        ("items[10][id]=c&items[2][id]=b&items[0][id]=a", {"items": [{"id": "a"}, {"id": "b"},
                                                                    {"id": "c"}]}),
        ("items[x][id]=a", {"items": {"x": {"id": "a"}}}),
        ("a%5Bb%5D=x+y%20z&%D0%B8=%E2%82%AC", {"a": {"b": "x y z"}, "и": "€"}),
        ("=1&[a]=2&a[=3&a]=4", {"a": "3", "a]": "4"}),
        ("value=100&time=1636967010&label=7", {"value": 100, "time": 1636967010, "label": "7"}),
        ("value=many", {"value": "many"}),
        ("tax_free=True", {"tax_free": True}),
        ("tax_free=perhaps", {"tax_free": "perhaps"}),
    ],
)  # fmt: skip
def test_names_nest_as_in_rails(text: str, found: dict[str, Any]) -> None:
    """Brackets make objects and lists; a repeated name starts a new member; the last one holds."""
    assert fields(text) == found


@pytest.mark.parametrize("text", ["a=1&a[b]=2", "a[]=1&a[b]=2", "a[b]=1&a[]=2", "a" + "[b]" * 40])
def test_contradictions_are_refused(text: str) -> None:
    """A name with two shapes, or one that nests too deeply, is rejected."""
    with pytest.raises(Rejected) as caught:
        INPUT.parse(post(f"shop_id=x&{text}"))
    assert INPUT.refuse(post(""), caught.value).status == 400
    assert DEEPEST < 40


@given(st.text(alphabet="ab[]=&%01;", max_size=40))
def test_any_payload_is_read_or_rejected(text: str) -> None:
    """Any form is either rejected or read as valid JSON values."""
    with suppress(Rejected):
        assert orjson.loads(orjson.dumps(fields(text))) == fields(text)


def test_a_form_that_is_no_text_is_refused() -> None:
    """A form that is not UTF-8 is rejected."""
    with pytest.raises(Rejected):
        INPUT.parse(post(b"shop_id=\xff"))


@pytest.mark.parametrize(
    ("label", "body", "form"),
    [
        (LABEL, "a=1", True),
        (f"{LABEL.upper()}; charset=utf-8", "a=1", True),
        (LABEL, ' {"a": 1}', False),
        (LABEL, "[1]", False),
        ("text/plain", "a=1", False),
        ("", "a=1", False),
    ],
)
def test_json_under_a_form_s_label_is_json(label: str, body: str, *, form: bool) -> None:
    """A body that looks like JSON is read as JSON, even with a form's content type."""
    assert is_form(post(body, label=label)) is form


def test_a_query_complements_a_body() -> None:
    """A key in the query is used if the body lacks it, as for a beacon."""
    (event,) = INPUT.parse(post(VIEW, "/push?did=other&segment=B"))
    assert (event.anonymous_id, event.properties.extra) == ("d", {"segment": "B"})
    body = b'{"did":"d","seance":"s","event":"search","search_query":"x"}'
    request = post(body, "/push?shop_id=theirs", "text/plain")
    assert INPUT.credential(request, INPUT.decode(request)) == "theirs"
    (event,) = INPUT.parse(request)
    assert event.properties.query == "x"


def test_a_request_with_a_clients_key_is_not_forwarded() -> None:
    """A form, or a query that may hold the client's key, is rendered anew, not forwarded."""
    assert OUTPUT.forward(post(VIEW)) is None
    assert OUTPUT.forward(post("", f"/push?{VIEW}")) is None
    assert OUTPUT.forward(post('{"shop_id":"theirs"}', "/push?shop_id=theirs", "a/json")) is None
    (event,) = INPUT.parse(post("", f"/push?{quote(VIEW, safe='=&')}"))
    sent = OUTPUT.render(event)
    assert isinstance(sent, Request)
    assert b"theirs" not in sent.body
    assert sent.url.endswith("/push")
