"""The console's files: read once, sent with a policy that lets no other script in."""

import hashlib
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final, NamedTuple

from aiohttp import web
from aiohttp.typedefs import Handler

HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}
TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class Asset(NamedTuple):
    """A file of the console."""

    body: bytes
    headers: dict[str, str]


def assets() -> dict[str, Asset]:
    """Return the files by the paths at which they are served."""
    found = dict(_below(files("gateway.admin").joinpath("web"), "/console/"))
    found["/"] = found["/console/index.html"]
    return found


def _below(folder: Traversable, path: str) -> Iterator[tuple[str, Asset]]:
    for item in folder.iterdir():
        if item.is_dir():
            yield from _below(item, f"{path}{item.name}/")
        elif kind := TYPES.get(f".{item.name.rpartition('.')[2]}"):
            body = item.read_bytes()
            etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
            yield f"{path}{item.name}", Asset(body, {**HEADERS, "content-type": kind, "etag": etag})


def routes() -> Iterator[web.RouteDef]:
    """Yield how the console's files are served."""
    for path, asset in assets().items():
        yield web.get(path, _serving(asset))


def _serving(asset: Asset) -> Handler:
    async def serve(http: web.Request) -> web.Response:
        if asset.headers["etag"] in http.headers.get("if-none-match", ""):
            return web.Response(status=304, headers={"etag": asset.headers["etag"]})
        return web.Response(body=asset.body, headers=asset.headers)

    return serve
