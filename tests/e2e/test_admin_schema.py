"""The admin API does what its OpenAPI document says, for any request."""

import asyncio
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.config import SchemathesisConfig

from gateway.admin.app import ENDPOINTS
from gateway.admin.endpoint import document
from tests.e2e.admin import SETUP, TOKEN, fill
from tests.e2e.configs import filled
from tests.e2e.process import ROOT

schema = schemathesis.openapi.from_dict(
    document([found for found in ENDPOINTS if not found.streams]),
    config=SchemathesisConfig.from_dict({"auth": {"openapi": {"token": {"bearer": TOKEN}}}}),
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of the admin API of a gateway with dead letters of several kinds."""
    folder = tmp_path_factory.mktemp("admin")
    path = folder / "gateway.toml"
    path.write_text(filled(SETUP, folder, "http://127.0.0.1:9"))
    asyncio.run(fill(folder / "spool", 12))
    command = [sys.executable, "-m", "gateway", "run", "--config", str(path)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as process:
        reading = threading.Thread(target=deque, args=(process.stderr, 0))  # until it ends
        try:
            found = _listening(process)
            reading.start()  # a full pipe would stop the gateway
            yield found
        finally:
            process.kill()
            if reading.is_alive():
                reading.join()


def _listening(process: "subprocess.Popen[bytes]") -> str:
    assert process.stderr is not None
    for line in process.stderr:
        said = orjson.loads(line)
        if said["event"] == "admin_listening":
            return f"http://{said['host']}:{said['port']}"
    raise AssertionError("the gateway ended")


KNOWN = {"source": "shop", "destination": "crm", "path": "POST /event/track"}
"""Names that this gateway has; its document cannot list them."""


def with_known_names(case: schemathesis.Case[Any]) -> None:
    """Put names that exist into a *case* that is valid by the document."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if isinstance(case.query, dict):
        case.query.pop("node", None)  # a gateway that is alone knows none
    body = case.body if isinstance(case.body, dict) else {}
    for packed in {"entries", "dead_letters"} & body.keys():
        body[packed] = []  # the document cannot say what is in their MessagePack
    for filters in (case.query, body, body.get("filter")):
        if isinstance(filters, dict):
            filters.update({name: KNOWN[name] for name in KNOWN if filters.get(name)})


@pytest.mark.xdist_group("admin_schema")
@schema.parametrize()
@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
def test_the_api_is_as_its_document_says(case: schemathesis.Case[Any], url: str) -> None:
    """Responses have the status, type and shape that the document says; none is a 500."""
    with_known_names(case)
    case.call_and_validate(base_url=url, timeout=20)


def test_every_endpoint_says_what_it_does() -> None:
    """Each operation of the document has a summary and a unique name."""
    operations = [
        found for path in document(ENDPOINTS)["paths"].values() for found in path.values()
    ]
    assert all(found["summary"] for found in operations)
    names = [found["operationId"] for found in operations]
    assert len(names) == len(set(names))
