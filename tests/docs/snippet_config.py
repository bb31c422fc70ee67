"""Complete a part of a configuration from a page, so that it can be loaded."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trustme

FILES = {
    "countries.csv": "DE,Germany\n",
    "left.txt": "u-4711\n",
    "routes/orders.toml": '[[routes]]\nnames = ["Order *"]\nadditional = true\nto = ["any"]\n',
    "environments/production.toml": '[spool]\npath = "spool"\n',
}
"""Files that configurations on pages refer to."""
CERTIFICATE = "certificate.pem"
"""Replaces every file with a certificate or its key."""


def written(text: str, folder: Path) -> Path:
    """Write *text*, completed, into *folder* beside the files that pages name; return its path.

    Files with secrets and certificates become ones that exist. Sources, destinations and routes
    that *text* lacks are added; its own stay unchanged.
    """
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    for number, path_of in enumerate(dict.fromkeys(re.findall(r'"file:([^"]*)"', text))):
        secret = folder / f"secret-{number}"
        secret.write_text(f"a-secret-of-its-own-{number}\n")
        text = text.replace(f'"file:{path_of}"', f'"file:{secret}"')
    pem = f'= "{folder / CERTIFICATE}"'
    text = re.sub(r'= "[^"]*\.pem"', lambda _: pem, text)
    if pem in text:
        issued = trustme.CA().issue_cert("gateway.example")
        issued.private_key_and_cert_chain_pem.write_to_path(folder / CERTIFICATE)
    path = folder / "gateway.toml"
    path.write_text("\n".join([text, *_missing(tomllib.loads(text))]))
    return path


def environment(text: str) -> dict[str, str]:
    """Return a value for each variable in *text* without a default."""
    return {
        name: "https://hooks.example/a-value" if name.endswith("_URL") else "a-value"
        for name in re.findall(r"\$\{(\w+)\}", text)
    }


def _missing(shown: dict[str, Any]) -> Iterator[str]:
    sources, destinations = shown.get("sources", {}), shown.get("destinations", {})
    routes = shown.get("routes", [])
    sent = dict.fromkeys(name for route in routes for name in route["to"])
    come = dict.fromkeys(name for route in routes for name in route.get("from", []))
    exits = [n for n in sent if n not in destinations] or ([] if destinations else ["any"])
    doors = [n for n in come if n not in sources] or ([] if sources else ["any"])
    for name in doors:
        yield f'[sources.{name}]\nvendor = "chrts"\nkeys = ["key-of-{name}"]\n'
    for name in exits:
        yield f'[destinations.{name}]\nvendor = "chrts"\napi_key = "key"\n'
    if not routes:
        names = ", ".join(f'"{name}"' for name in (*destinations, *exits))
        yield f"[[routes]]\nto = [{names}]\n"
