"""How a request's source is found."""

from typing import Any

import pytest

from gateway.errors import Fault, Rejected
from gateway.http import Request
from gateway.ingest.sources import Source, SourceIndex, SourceMatch
from plugins.chrts.input import ChrtsInput
from plugins.quartic.input import QuarticInput

TRACK = "/event/track"


def source(name: str, **more: Any) -> Source:
    """Return a source of chrts."""
    return Source(name, ChrtsInput(), more.pop("keys", None), **more)


def found(
    index: SourceIndex, path: str, host: str = "gateway.example:8080"
) -> tuple[str, str] | None:
    """Return the name of the source for *path*, and the path in the vendor's terms."""
    match = index.find(path, {"host": host})
    return match and (match.source.name, match.path)


@pytest.mark.parametrize(
    ("path", "method", "meant"),
    [
        (f"{TRACK}/", "POST", True),
        (f"/{TRACK}", "POST", True),
        (f"//{TRACK}//", "POST", True),
        (f"/m{TRACK}/", "POST", True),
        (f"//m/{TRACK}", "POST", True),
        (f"{TRACK}/", "OPTIONS", True),
        (f"{TRACK}/", "GET", False),
        (f"{TRACK}/x", "POST", False),
    ],
)
def test_additional_slashes_are_ignored(path: str, method: str, *, meant: bool) -> None:
    """Doubled and trailing slashes are ignored for endpoints that take events, and no other."""
    index = SourceIndex([source("a"), source("b", mount="/m")])
    asked = {"access-control-request-method": "POST"}
    match = index.find(path, asked, method)
    assert (match is not None and match.path == TRACK) is meant


def test_a_source_serves_its_vendors_paths() -> None:
    """Without a mount, a source serves its vendor's documented paths."""
    index = SourceIndex([source("shop")])
    assert found(index, TRACK) == ("shop", TRACK)
    assert found(index, "/elsewhere") is None
    assert found(index, "/") is None


def test_a_mount_distinguishes_sources() -> None:
    """A source with a mount serves every path below it."""
    index = SourceIndex([source("a"), source("b", mount="/shop-b")])
    assert found(index, TRACK) == ("a", TRACK)
    assert found(index, f"/shop-b{TRACK}") == ("b", TRACK)
    assert found(index, "/shop-b/other") == ("b", "/other")
    assert found(index, "/shop-bb/other") is None


def test_hosts_distinguish_sources() -> None:
    """A source with hosts serves only them, without regard to case and port."""
    index = SourceIndex([source("any"), source("a", hosts=("a.example",))])
    assert found(index, TRACK, "A.example:8443") == ("a", TRACK)
    assert found(index, TRACK, "b.example") == ("any", TRACK)
    only = SourceIndex([source("a", hosts=("a.example", "[::1]"))])
    assert found(only, TRACK, "b.example") is None
    assert found(only, TRACK, "[::1]:80") == ("a", TRACK)


def test_the_longest_mount_is_used() -> None:
    """If two mounts match, the longer one is used."""
    index = SourceIndex([source("a", mount="/m"), source("b", mount="/m/n")])
    assert found(index, "/m/n/other") == ("b", "/other")
    assert found(index, "/m/other") == ("a", "/other")


def test_keys_distinguish_sources_at_one_path() -> None:
    """Sources of one vendor may share a path and hosts; the key selects the source."""
    index = SourceIndex(
        [
            source("a", keys=["1", "2"]),
            source("b", keys=["3"]),
            source("c", keys=["4"], hosts=("c.example", "d.example")),
            source("d", keys=["5"], hosts=("d.example",)),
        ]
    )
    for host, key, name in (
        ("any.example", "2", "a"), ("any.example", "3", "b"), ("d.example", "5", "d"),
        ("d.example", "4", "c"), ("c.example", "4", "c"),
    ):  # fmt: skip
        match = index.find(TRACK, {"host": host})
        assert match
        assert match.for_key(key).name == name
    for host, key in (("any.example", "4"), ("c.example", "5"), ("d.example", "1")):
        match = index.find(TRACK, {"host": host})
        assert match
        with pytest.raises(Rejected) as caught:
            match.for_key(key)
        assert caught.value.fault is Fault.FORBIDDEN
        with pytest.raises(Rejected) as caught:
            match.for_key(None)
        assert caught.value.fault is Fault.UNAUTHENTICATED


def test_an_unknown_path_is_known_by_its_beginning() -> None:
    """An unknown path belongs to the vendor with the longest matching prefix on that host."""
    chrts, quartic = source("c"), Source("q", QuarticInput(), None)
    here = Source("here", QuarticInput(), None, hosts=("q.example",))
    index = SourceIndex([chrts, quartic, here])
    assert found(index, "/event/other") == ("c", "/event/other")
    assert found(index, "/store/other") == ("q", "/store/other")
    assert found(index, "/store/other", "q.example") == ("here", "/store/other")
    assert found(index, "/event/other", "q.example") == ("c", "/event/other")
    assert found(index, "/other") is None
    mounted = SourceIndex([source("c", mount="/m"), Source("q", QuarticInput(), None, mount="/m")])
    assert found(mounted, "/m/store/other") == ("q", "/store/other")
    assert found(mounted, "/m/event/other") == ("c", "/event/other")


def test_a_mount_with_hosts_needs_both() -> None:
    """A source with a mount and hosts requires both to match."""
    index = SourceIndex([source("a", mount="/m", hosts=("a.example",))])
    assert found(index, f"/m{TRACK}", "a.example") == ("a", TRACK)
    assert found(index, "/m/other", "a.example") == ("a", "/other")
    assert found(index, f"/m{TRACK}", "b.example") is None
    assert found(index, "/m/other", "b.example") is None


@pytest.mark.parametrize(
    ("key", "fault"),
    [(None, Fault.UNAUTHENTICATED), ("", Fault.UNAUTHENTICATED), ("other", Fault.FORBIDDEN)],
)
def test_a_source_takes_its_own_credentials(key: str | None, fault: Fault) -> None:
    """A listed key is accepted, another is forbidden, and a missing one is unauthenticated."""
    shop = source("shop", keys=["right", "also"])
    shop.check_key("right")
    shop.check_key("also")
    with pytest.raises(Rejected) as caught:
        shop.check_key(key)
    assert caught.value.fault is fault
    assert "right" not in str(caught.value)


def test_any_credential_is_still_a_credential() -> None:
    """A source with ``keys = "any"`` rejects a request without a key."""
    shop = source("shop")
    shop.check_key("whatever")
    with pytest.raises(Rejected):
        shop.check_key(None)


@pytest.mark.parametrize(
    ("method", "path", "fault"),
    [
        ("GET", "/store/track/event", Fault.METHOD),
        ("GET", "/store/contact", Fault.UNSUPPORTED),
        ("POST", "/store/other", Fault.NOT_FOUND),
    ],
)
def test_an_endpoint_that_is_not_translated_says_why(method: str, path: str, fault: Fault) -> None:
    """Wrong method, unsupported endpoint and unknown path have different faults."""
    shop = Source("q", QuarticInput(), None)
    assert shop.translates("POST", "/store/contact")
    assert not shop.translates(method, path)
    assert shop.rejection_for(method, path).fault is fault


def test_credentials_are_not_stored() -> None:
    """The stored request keeps the relevant headers, and no credential."""
    request = Request(
        method="POST",
        url=TRACK,
        headers={"authorization": "Bearer secret", "user-agent": "x", "cookie": "secret"},
        id="r",
    )
    stored = source("shop").to_stored(request, b"{}")
    assert dict(stored.headers) == {"user-agent": "x"}
    assert (stored.body, stored.id, stored.url) == (b"{}", "r", TRACK)


def test_a_match_has_source_and_path() -> None:
    """A match has the source and the vendor's path."""
    match = SourceIndex([source("a")]).find(TRACK, {})
    assert isinstance(match, SourceMatch)
    assert match.path == TRACK


def test_a_credential_is_stored_where_it_is_sent_on() -> None:
    """A source that forwards client keys stores the key's header."""
    request = Request(
        method="POST", url=TRACK, headers={"authorization": "Bearer k", "cookie": "c"}
    )
    stored = source("shop", keeps_client_key=True).to_stored(request, b"{}")
    assert dict(stored.headers) == {"authorization": "Bearer k"}
