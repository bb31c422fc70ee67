"""A public key alone never acts with the secret, and no response shows the gateway's own key."""

import base64
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from tests.e2e.configs import base_config, source
from tests.e2e.raw_http import Vendor, exchange, vendor
from tests.e2e.running import Running, running

PUBLIC, OURS = "PUBLICSHOPID", "OURSHOPID0001"
SECRET = 'our/S3cret+"k\u00e9y" <&>'  # noqa: S105 - made up
ALLOWED = "backend-secret-1"
PATIENT = 'respond = "upstream"\nrespond_timeout = "30s"'
FORM = {"content-type": "application/x-www-form-urlencoded"}
JSON = {"content-type": "application/json"}


@asynccontextmanager
async def exchanging_keys(
    folder: Path, more: str = "", route: str = ""
) -> AsyncIterator[tuple[Running, Vendor]]:
    """Run a vendor, and a gateway that exchanges the client's key for a shop's own."""
    async with vendor() as upstream:

        def config(_: str) -> str:
            return (
                base_config(folder)
                + source("personaclick", PUBLIC, name="pc")
                + f'url = "{upstream.url}"\nrelay_as = "pc"\n{more}\n'
                f'[destinations.pc]\nvendor = "personaclick"\nurl = "{upstream.url}"\n'
                f"shop_id = \"{OURS}\"\nshop_secret = '{SECRET}'\n"
                f'retry_min = "10ms"\nretry_max = "50ms"\n{route}\n'
            )

        async with running(folder, config) as run:
            yield run, upstream


async def asked(
    run: Running, method: str, target: str, headers: dict[str, str] | None = None, body: str = ""
) -> bytes:
    """Send a request byte by byte; return the response."""
    head = f"{method} {target} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n"
    sent = body.encode()
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    whole = f"{head}{lines}content-length: {len(sent)}\r\n\r\n".encode() + sent
    return await exchange(run.url, whole)


GUESSES = {
    "a query": f"?shop_id={PUBLIC}&shop_secret=guess",
    "an escaped name": f"?shop_id={PUBLIC}&shop%5Fsecret=guess",
    "a name escaped twice": f"?shop_id={PUBLIC}&shop%255Fsecret=guess",
    "other letters": f"?shop_id={PUBLIC}&SHOP_Secret=guess",
    "another spelling": f"?shop_id={PUBLIC}&shopSecret=guess",
    "an array": f"?shop_id={PUBLIC}&shop_secret[]=guess",
    "a member": f"?shop_id={PUBLIC}&a[shop_secret]=guess",
    "twice, the first right": f"?shop_id={PUBLIC}&shop_secret={ALLOWED}&shop_secret=guess",
    "twice, the last right": f"?shop_id={PUBLIC}&shop_secret=guess&shop_secret={ALLOWED}",
    "a semicolon": f"?shop_id={PUBLIC}&a=1;shop_secret=guess",
    "nothing": f"?shop_id={PUBLIC}&shop_secret=",
    "no value": f"?shop_id={PUBLIC}&shop_secret",
    "the right one, misspelt": f"?shop_id={PUBLIC}&shop%5fsecret={ALLOWED}",
    "the public key": f"?shop_id={PUBLIC}&shop_secret={PUBLIC}",
}
TWICE = '{"shop_secret": "1", "shop_secret": "2"}'
BODIES = {
    "JSON": (JSON, json.dumps({"shop_id": PUBLIC, "shop_secret": "guess"})),
    "escaped JSON": (JSON, '{"shop\\u005fsecret": "guess"}'),
    "JSON twice": (JSON, TWICE.replace("1", "guess").replace("2", ALLOWED)),
    "JSON twice, the last wrong": (JSON, TWICE.replace("2", "guess").replace("1", ALLOWED)),
    "JSON in an array": (JSON, json.dumps({"shop_secret": ["guess"]})),
    "JSON in an object": (JSON, json.dumps({"shop_secret": {"a": "guess"}})),
    "null": (JSON, json.dumps({"shop_secret": None})),
    "deep within": (JSON, json.dumps({"a": [{"b": {"shop_secret": "guess"}}]})),
    "the right one deep within": (JSON, json.dumps({"a": {"shop_secret": ALLOWED}})),
    "other letters": (JSON, json.dumps({"Shop-Secret": "guess"})),
    "full width": (JSON, json.dumps({"\uff53hop_secret": "guess"})),
    "JSON as text": ({"content-type": "text/plain"}, json.dumps({"shop_secret": "guess"})),
    "a form": (FORM, "shop_secret=guess"),
    "a form, escaped": (FORM, "shop%5Fsecret=guess"),
    "a form, an array": (FORM, f"shop_secret[]={ALLOWED}"),
    "a form, twice": (FORM, f"shop_secret={ALLOWED}&shop_secret=guess"),
    "a form without a label": ({}, "shop_secret=guess"),
    "a header": ({"x-shop-secret": "guess"}, ""),
    "a cookie": ({"cookie": "a=1; shop_secret=guess"}, ""),
}  # fmt: skip
SERVES = 'relay_endpoints = ["GET /profile", "POST /search"]'


@pytest.mark.parametrize("query", GUESSES.values(), ids=GUESSES)
async def test_an_unknown_secret_in_a_query_is_refused(tmp_path: Path, query: str) -> None:
    """An unknown second credential in a query, in any spelling, is refused and not relayed."""
    async with exchanging_keys(tmp_path, f'secrets = ["{ALLOWED}"]') as (run, upstream):
        for method in ("GET", "HEAD"):
            said = await asked(run, method, f"/profile{query}")
            assert said.startswith(b"HTTP/1.1 403 "), said
        assert upstream.got == []


@pytest.mark.parametrize(("headers", "body"), BODIES.values(), ids=BODIES)
async def test_an_unknown_secret_in_a_body_is_refused(
    tmp_path: Path, headers: dict[str, str], body: str
) -> None:
    """An unknown second credential in a body, a header or a cookie is refused too."""
    async with exchanging_keys(tmp_path, f'secrets = ["{ALLOWED}"]\n{SERVES}') as (run, upstream):
        said = await asked(run, "POST", f"/search?shop_id={PUBLIC}", headers, body)
        assert said.startswith(b"HTTP/1.1 403 "), said
        assert upstream.got == []


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
async def test_only_named_endpoints_are_relayed(tmp_path: Path, method: str) -> None:
    """Documented reads are relayed; any other call is refused in the vendor's words."""
    async with exchanging_keys(tmp_path) as (run, upstream):
        for path in ("/profile/export", "/orders", "/import/products", "/sync/orders", "/"):
            target = f"{path}?shop_id={PUBLIC}&shop_secret={quote(SECRET)}"
            said = await asked(run, method, target)
            assert said.split()[1] in {b"404", b"405", b"501"}, said
            assert b'"status":"error"' in said
        assert upstream.got == []


@pytest.mark.parametrize(
    "path",
    ["/search/", "//search", "/search;a=1", "/Search", "/%73earch", "/search%2f", "/search%00",
     "/recommend/a/b", "/recommend/", "/recommend/%2e%2e", "/recommend/a%2fb", "/recommend/a;b",
     "/recommend/..", "/x/../search", "/recommend/a%252f..", "/recommend/a\\b", "/searchx"],
)  # fmt: skip
async def test_other_spellings_of_a_path_are_refused(tmp_path: Path, path: str) -> None:
    """Another spelling of a path that is relayed is refused."""
    async with exchanging_keys(tmp_path) as (run, upstream):
        said = await asked(run, "GET", f"{path}?shop_id={PUBLIC}")
        assert said.split()[1] in {b"404", b"400", b"501"}, said
        assert upstream.got == []


@pytest.mark.parametrize(
    ("headers", "query"),
    [({"x-http-method-override": "DELETE"}, ""), ({"X-Method-Override": "DELETE"}, ""),
     ({"x-original-url": "/profile/export"}, ""), ({"x-rewrite-url": "/profile/export"}, ""),
     ({}, "&_method=delete"), ({}, "&%5fmethod=delete")],
)  # fmt: skip
async def test_overrides_of_method_or_path_are_refused(
    tmp_path: Path, headers: dict[str, str], query: str
) -> None:
    """A request that overrides its method or path for a framework is refused."""
    async with exchanging_keys(tmp_path, SERVES) as (run, upstream):
        said = await asked(run, "POST", f"/search?shop_id={PUBLIC}{query}", headers)
        assert not said.startswith(b"HTTP/1.1 2"), said
        assert upstream.got == []


async def test_a_public_key_brings_no_secret(tmp_path: Path) -> None:
    """A public key is exchanged for the gateway's, and the secret is not sent."""
    async with exchanging_keys(tmp_path) as (run, upstream):
        for target in (f"/recommend/popular?shop_id={PUBLIC}&did=d", f"/init?shop_id={PUBLIC}"):
            assert (await asked(run, "GET", target)).startswith(b"HTTP/1.1 200 ")
        lines = [got.line for got in upstream.got]
        assert lines == [
            f"GET /recommend/popular?shop_id={OURS}&did=d HTTP/1.1",
            f"GET /init?shop_id={OURS} HTTP/1.1",
        ]


@pytest.mark.parametrize("known", [ALLOWED, SECRET])
async def test_a_known_secret_is_exchanged_for_ours(tmp_path: Path, known: str) -> None:
    """A configured secret is exchanged for the gateway's: in a query, in JSON and in a form."""
    async with exchanging_keys(tmp_path, f'secrets = ["{ALLOWED}"]\n{SERVES}') as (run, upstream):
        pair = f"shop_id={PUBLIC}&shop_secret={quote_plus(known)}"
        ours = f"shop_id={OURS}&shop_secret={quote(SECRET, safe='')}"
        body = json.dumps({"shop_id": PUBLIC, "shop_secret": known, "q": "a"})
        for method, target, headers, sent in (
            ("GET", f"/profile?{pair}&email=a%40b.c", {}, ""),
            ("POST", "/search", JSON, body),
            ("POST", "/search", FORM, f"{pair}&q=a"),
        ):
            said = await asked(run, method, target, headers, sent)
            assert said.startswith(b"HTTP/1.1 200 "), said
        assert upstream.got[0].line == f"GET /profile?{ours}&email=a%40b.c HTTP/1.1"
        assert json.loads(upstream.got[1].body) == {
            "shop_id": OURS, "shop_secret": SECRET, "q": "a",
        }  # fmt: skip
        assert upstream.got[2].body == f"{ours}&q=a".encode()


REPEATED = {
    "plain": SECRET.encode(),
    "JSON": json.dumps(SECRET, ensure_ascii=False).encode(),
    "ASCII JSON": json.dumps({"a": SECRET}).encode(),
    "PHP's JSON": json.dumps(SECRET).replace("/", "\\/").encode(),
    "JSON within JSON": json.dumps(json.dumps(SECRET, ensure_ascii=False)).encode(),
    "a URL": quote(SECRET, safe="").encode(),
    "a URL in small letters": quote(SECRET, safe="").lower().replace("s3cret", "S3cret").encode(),
    "a path": quote(SECRET).encode(),
    "a form": quote_plus(SECRET).encode(),
    "HTML": b"our/S3cret+&quot;k\xc3\xa9y&quot; &lt;&amp;&gt;",
    "Basic": base64.b64encode(f"{OURS}:{SECRET}".encode()),
    "Basic without a user": base64.b64encode(f":{SECRET}:".encode()),
    "base64 for URLs": base64.urlsafe_b64encode(f"{OURS}:{SECRET}".encode()),
    "the key": f'{{"shop_id": "{OURS}"}}'.encode(),
}


def leaks(said: bytes) -> bool:
    """Tell whether a response contains an identifying part of the gateway's credentials."""
    within = base64.b64encode(f"{OURS}:{SECRET}".encode())[18:36]
    parts = (OURS.encode(), b"S3cret", b"M2NyZXQ", within)
    return any(part in said for part in parts)


@pytest.mark.parametrize("body", REPEATED.values(), ids=REPEATED)
@pytest.mark.parametrize("status", [b"200 OK", b"403 No"])
async def test_our_credential_in_a_body_is_redacted(
    tmp_path: Path, body: bytes, status: bytes
) -> None:
    """The gateway's credential in a body, in any encoding, becomes asterisks of the same length."""
    async with exchanging_keys(tmp_path) as (run, upstream):
        body = b"before " + body + b" after"
        upstream.answer = b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)
        assert leaks(body)
        said = await asked(run, "GET", f"/init?shop_id={PUBLIC}")
        head, _, rest = said.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 " + status)
        assert len(rest) == len(body)
        assert rest.startswith(b"before ")
        assert rest.endswith(b" after")
        assert b"***" in rest
        assert not leaks(rest), rest


async def test_our_credential_in_headers_is_redacted(tmp_path: Path) -> None:
    """The credential is also redacted in `location`, `set-cookie`, other headers and the reason."""
    async with exchanging_keys(tmp_path) as (run, upstream):
        quoted = quote(SECRET, safe="").encode()
        basic = base64.b64encode(f"{OURS}:{SECRET}".encode())
        upstream.answer = (
            b"HTTP/1.1 302 Found %b\r\nlocation: https://v.example/?s=%b\r\nset-cookie: k=%b\r\n"
            b"link: <https://v.example/%b>\r\nx-auth: Basic %b\r\nx-plain: here\r\n"
            b"content-length: 0\r\n\r\n" % (OURS.encode(), quoted, quoted, OURS.encode(), basic)
        )
        said = await asked(run, "GET", f"/init?shop_id={PUBLIC}")
        assert said.startswith(b"HTTP/1.1 302 Found *")
        assert b"ocation: https://v.example/?s=***" in said
        assert b"x-plain: here" in said
        assert not leaks(said), said


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 11])
async def test_our_credential_in_pieces_is_redacted(tmp_path: Path, size: int) -> None:
    """A credential that arrives in several chunks is redacted, and the length stays."""
    async with exchanging_keys(tmp_path) as (run, upstream):
        body = b"a" * 10 + OURS.encode() + b"b" * 10 + SECRET.encode() + b"OURSHOPID000"
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        upstream.answer = (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
        )
        async with run.client.get(f"{run.url}/init?shop_id={PUBLIC}") as answer:
            said = await answer.read()
        assert len(said) == len(body)
        assert said.endswith(b"OURSHOPID000"), "what only begins like one is none"
        assert not leaks(said)


async def test_compressed_and_partial_responses_are_redacted(tmp_path: Path) -> None:
    """The gateway requests whole, uncompressed responses, and inflates compressed ones."""
    async with exchanging_keys(tmp_path) as (run, upstream):
        packed = gzip.compress(b"x" * 100_000 + SECRET.encode())
        upstream.answer = (
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n%b"
            % (len(packed), packed)
        )
        headers = {"accept-encoding": "gzip, br", "range": "bytes=0-10", "if-range": "x"}
        url = f"{run.url}/init?shop_id={PUBLIC}"
        async with run.client.get(url, headers=headers) as answer:
            said = await answer.read()
            assert "content-encoding" not in answer.headers
        assert said == b"x" * 100_000 + b"*" * len(SECRET.encode())
        assert upstream.got[0].header("accept-encoding") == "identity"
        assert not upstream.got[0].names & {"range", "if-range"}
        for coding in (b"br", b"gzip, gzip"):
            upstream.answer = (
                b"HTTP/1.1 200 OK\r\ncontent-encoding: %b\r\ncontent-length: 2\r\n\r\n{}" % coding
            )
            said = await asked(run, "GET", f"/init?shop_id={PUBLIC}")
            assert b"\r\n\r\n{}" not in said


async def test_the_clients_own_credential_is_not_redacted(tmp_path: Path) -> None:
    """A credential that the client itself sent is not redacted in its response."""
    async with exchanging_keys(tmp_path) as (run, upstream):
        body = SECRET.encode()
        upstream.answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        target = f"/profile?shop_id={PUBLIC}&shop_secret={quote(SECRET, safe='')}"
        assert (await asked(run, "GET", target)).endswith(body)


async def test_an_upstream_reply_is_redacted(tmp_path: Path) -> None:
    """The gateway's credential is redacted in the vendor's reply to an event too."""
    route = '[[routes]]\nto = ["pc"]'
    async with exchanging_keys(tmp_path, PATIENT, route) as (run, upstream):
        body = b'{"status":"success","shop":"%b","s":%b}' % (
            OURS.encode(), json.dumps(SECRET).encode(),
        )  # fmt: skip
        upstream.answer = (
            b"HTTP/1.1 200 OK\r\nx-shop: %b\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%b" % (OURS.encode(), len(body), body)
        )
        push = json.dumps({
            "shop_id": PUBLIC, "did": "d", "seance": "s", "event": "view", "items": [{"id": "1"}],
        })  # fmt: skip
        said = await asked(run, "POST", "/push", JSON, push)
        assert b'"shop":"*' in said
        assert not leaks(said), said
        assert OURS.encode() in upstream.got[0].body


async def test_an_unknown_secret_in_an_event_is_refused(tmp_path: Path) -> None:
    """With `secrets`, an unknown secret is refused, and so is a server-only call without one."""
    route = '[[routes]]\nto = ["pc"]'
    push = {"shop_id": PUBLIC, "did": "d", "seance": "s", "event": "view", "items": [{"id": "1"}]}
    person = {"shop_id": PUBLIC, "email": "ada@shop.example"}
    async with exchanging_keys(tmp_path, f'secrets = ["{ALLOWED}"]', route) as (run, upstream):
        for path, body, status in (
            ("/push", {**push, "shop_secret": "guess"}, b"403"),
            ("/profile/set", {**person, "shop_secret": "guess"}, b"403"),
            ("/profile/set", person, b"400"),
            ("/push", push, b"200"),
            ("/profile/set", {**person, "did": "d", "seance": "s"}, b"200"),
            ("/profile/set", {**person, "shop_secret": ALLOWED}, b"200"),
        ):
            said = await asked(run, "POST", path, JSON, json.dumps(body))
            assert said.split()[1] == status, (path, body, said)
        await run.watch.until(lambda w: len(w.settled) == 3)
        assert len(upstream.got) == 3


async def test_an_unknown_secret_in_an_event_is_dropped(tmp_path: Path) -> None:
    """Without `secrets`, an event is delivered without the client's secret or the gateway's."""
    async with exchanging_keys(tmp_path, route='[[routes]]\nto = ["pc"]') as (run, upstream):
        push = json.dumps({
            "shop_id": PUBLIC, "shop_secret": "guess", "did": "d", "seance": "s", "event": "view",
            "items": [{"id": "1"}],
        })  # fmt: skip
        assert b" 200 " in await asked(run, "POST", "/push", JSON, push)
        await run.watch.until(lambda w: len(w.settled) == 1)
        assert b"secret" not in upstream.got[0].body
