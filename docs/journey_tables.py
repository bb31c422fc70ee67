# ruff: noqa: INP001 - docs is a folder of pages; this code only fills some of them
"""The journeys of `tests/journeys`, and what each vendor gets of every step."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from docs.markdown import ROOT, blocks, code

FOLDER = "tests/journeys"


def journeys() -> str:
    """Return all journeys, a table of the destinations for each step, in Markdown."""
    files = sorted((ROOT / FOLDER).glob("*.json"))
    return blocks(
        part for file in files for part in _journey(file.stem, json.loads(file.read_text()))
    )


def _journey(name: str, journey: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {journey['about']}"
    settings = journey.get("settings", {})
    told = f"From {journey['source']} ({code(f'{FOLDER}/{name}.json')})."
    beside = "; ".join(f"{vendor} with {code(_text(given))}" for vendor, given in settings.items())
    yield f"{told} Configured: {beside}." if beside else told
    for number, step in enumerate(journey["steps"], 1):
        request = step["request"]
        yield f"### {number}. {step['about']}"
        yield f"{code(request['method'] + ' ' + request['url'])} {code(_text(request['body']))}"
        rows = (row for vendor, said in step["sent"].items() for row in _rows(vendor, said))
        yield "\n".join([_line("to", "request", "body"), "|---|---|---|", *rows])
    yield "**By these documents:**"
    yield "\n".join(f"- {vendor}: {said}" for vendor, said in journey["documents"].items())
    if notes := journey.get("notes"):
        yield "**What the review changed:**"
        yield "\n".join(f"- {note}" for note in notes)


def _rows(vendor: str, said: Any) -> Iterator[str]:
    for one in said if isinstance(said, list) else [said]:
        if "declined" in one:
            yield _line(vendor, "declined", one["declined"])
        elif "as_it_came" in one:
            own = one["as_it_came"]
            yield _line(vendor, "as it came", f"with {code(_text(own))}" if own else "")
        else:
            yield _line(vendor, code(f"{one['method']} {one['path']}"), code(_text(one["body"])))


def _line(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
