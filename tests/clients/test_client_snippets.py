"""What the page on Segment tells people to write is what works."""

import re
import sys
from pathlib import Path

import pytest

from tests.clients.arrivals import CLIENTS, KEY, arrived, gateway
from tests.clients.processes import finished, finished_in_node

LIBRARIES = ["segment-python", "rudderstack-python", "segment-node", "rudderstack-node"]
PAGE = CLIENTS.parents[1] / "docs/vendors/segment.md"
SNIPPETS = re.findall(r"^```(python|js)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("language", "snippet"), SNIPPETS, ids=LIBRARIES)
async def test_a_snippet_sends_its_call(tmp_path: Path, language: str, snippet: str) -> None:
    """Each snippet, with the gateway's address in it, ends well, and its call arrives."""
    async with gateway(tmp_path) as run:
        code = snippet.replace("http://127.0.0.1:8080", run.url).replace("YOUR_WRITE_KEY", KEY)
        if language == "python":
            await finished(sys.executable, "-c", code)
        else:
            await finished_in_node("--input-type=module", "--eval", code)
        await arrived(run, ("Product Viewed",))
