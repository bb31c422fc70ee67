"""What pages and apps load before they send: the library's script, and the source's settings.

Paths and keys are those that the libraries use: npm @segment/analytics-next 1.84, browser/index.ts
(settings), lib/parse-cdn.ts and browser/standalone.ts (script and its parts), browser/settings.ts
(what the settings hold); npm @rudderstack/analytics-js 3.34, ConfigManager (``/sourceConfig/``).
https://www.twilio.com/docs/segment/connections/sources/catalog/libraries/website/javascript/custom-proxy
"""

import re
from typing import Final, Literal
from urllib.parse import unquote

from pydantic import field_validator

from gateway.plugin import (
    ConfigTable,
    EndpointSet,
    Fault,
    Rejected,
    Request,
    Response,
    json_response,
)

SOURCE_CONFIG: Final = frozenset({"/sourceConfig", "/sourceConfig/"})
"""RudderStack's address of the settings, with and without the slash that its library writes."""
FILES: Final = EndpointSet({
    "GET /v1/projects/{key}/settings",
    "GET /analytics.js/v1/{key}/{script}",
    "GET /analytics.js/v1/{key}/platform/{script}",
    "GET /analytics-next/bundles/{part}",
    *(f"GET {path}" for path in SOURCE_CONFIG),
})  # fmt: skip
SETTINGS: Final = re.compile(r"/v1/projects/(?P<key>[^/]+)/settings")
SCRIPT: Final = re.compile(
    r"/analytics\.js/v1/(?P<key>[^/]+)/(?:platform/)?(?P<name>[\w@-][\w.@-]*)", re.ASCII
)
PART: Final = re.compile(r"/analytics-next/bundles/(?P<name>[\w@-][\w.@-]*)", re.ASCII)
SCRIPT_OF_PACKAGE: Final = "/standalone.js"
"""What the package calls the script that Segment's CDN offers as ``analytics.min.js``."""
BRIEFLY: Final = {"cache-control": "private, max-age=60"}
"""Settings name the address that they were asked at, so no shared cache may keep them."""


class SegmentSourceSettings(ConfigTable):
    """``[sources.*]`` with ``vendor = "segment"``."""

    cdn_url: str = ""
    """The URL of a server with the files of Analytics.js, such as `"https://cdn.segment.com"`. The
    gateway relays and caches them, so that pages load all from one domain. Default: the gateway
    serves no scripts."""
    cdn_layout: Literal["segment", "npm"] = "segment"
    """How the files are arranged at `cdn_url`: as at Segment's CDN, which has a script for each of
    Segment's write keys (`"segment"`), or as in the folder `dist/umd` of the npm package
    `@segment/analytics-next`, for any key (`"npm"`)."""

    @field_validator("cdn_url")
    @classmethod
    def _absolute(cls, url: str) -> str:
        if url and not re.fullmatch(r"https?://[^/?#@\s]+(/[^?#\s]*)?", url):
            raise ValueError('must be an http or https URL, such as "https://cdn.segment.com"')
        return url


def key_of(request: Request) -> str | None:
    """Return the write key in the path of a file's request; None if it has none."""
    found = SETTINGS.fullmatch(request.path) or SCRIPT.fullmatch(request.path)
    return unquote(found["key"]) if found else None


def is_file(path: str) -> bool:
    """Return whether *path* is one of Segment's CDN, which answers errors with plain text."""
    return f"GET {path}" in FILES and path not in SOURCE_CONFIG


def settings_of_library(key: str, address: str) -> Response:
    """Return the settings for Segment's libraries: one destination, which is this source.

    Args:
        key: the write key.
        address: where the library reaches the source.
    """
    protocol, _, host = address.partition("://")
    sends = {"apiKey": key, "apiHost": f"{host}/v1", "protocol": protocol}
    # A rate of 0 keeps the library from reporting on itself (core/stats/remote-metrics.ts).
    said = {"integrations": {"Segment.io": sends}, "metrics": {"sampleRate": 0}}
    return json_response(200, said, BRIEFLY)


def source_config(key: str) -> Response:
    """Return the settings for RudderStack's libraries: a source without destinations.

    ``statsCollection`` must be there for RudderStack's library for Android (GitHub
    rudderlabs/rudder-sdk-android, issue 429).
    """
    off = {"enabled": False}
    source = {
        "id": key,
        "name": key,
        "writeKey": key,
        "enabled": True,
        "config": {"statsCollection": {"errors": off, "metrics": off}},
        "destinations": [],
    }
    return json_response(200, {"source": source}, BRIEFLY)


def path_at_cdn(path: str, layout: str) -> str:
    """Return the path below ``cdn_url`` of the script or part that is asked for at *path*.

    Raises:
        Rejected: there is no such file.
    """
    part, script = PART.fullmatch(path), SCRIPT.fullmatch(path)
    if part is None and script is None:
        raise Rejected("$", "no such file", Fault.NOT_FOUND)
    if layout == "segment":
        return path
    return f"/{part['name']}" if part else SCRIPT_OF_PACKAGE


def error_of_cdn(error: Rejected) -> Response:
    """Return an error as Segment's CDN answers it: 404 for an unknown key."""
    headers = {"content-type": "text/plain; charset=utf-8"}
    status = 404
    if error.fault is Fault.METHOD:
        status, headers["allow"] = 405, "GET, HEAD"
    elif error.fault is Fault.UNAVAILABLE:
        status = 503
    return Response(status, headers, f"{error.reason}\n".encode())
