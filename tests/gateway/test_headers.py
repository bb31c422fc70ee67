"""Header values become text that can be stored and sent again."""

from pathlib import Path

import orjson
import pytest
from multidict import CIMultiDict

from gateway.http import end_to_end_headers
from tests.e2e.configs import everything
from tests.e2e.raw_http import exchange
from tests.e2e.running import running


@pytest.mark.parametrize(
    ("sent", "read"),
    [("a", "a"), ("Zoë", "Zoë"), ("Zo\udceb", "Zoë"), ("\udcff\udcfe", "ÿþ"), ("", "")],
)
def test_values_are_utf8_or_else_latin1(sent: str, read: str) -> None:
    """Header bytes that are not UTF-8 are read as ISO-8859-1."""
    headers = CIMultiDict([("user-agent", sent), ("x", "1"), ("x", "2")])
    found = end_to_end_headers(headers)
    assert list(found.items()) == [("user-agent", read), ("x", "1"), ("x", "2")]


async def test_a_user_agent_in_latin1_is_kept(tmp_path: Path) -> None:
    """An event with a user agent in ISO-8859-1 is accepted, stored and delivered."""
    body = orjson.dumps({"uid": "u1", "name": "x"})
    async with running(tmp_path, lambda sandbox: everything(tmp_path, sandbox)) as run:
        said = await exchange(
            run.url,
            b"POST /event/track HTTP/1.1\r\nhost: a\r\nconnection: close\r\n"
            b"authorization: Bearer right\r\nuser-agent: Zo\xeb\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body),
        )
        assert said.startswith(b"HTTP/1.1 200 "), said
        await run.watch.until(lambda w: any(to == "chrts" for _, to, _ in w.settled))
        (entry,) = await run.journal("chrts")
    assert entry["headers"].get("user-agent") == "Zoë"
