"""``gateway plugins`` and ``gateway new-vendor``: list vendors, and create a plugin for one."""

import importlib.util
import keyword
import re
from collections.abc import Iterator
from pathlib import Path

import click
import orjson

import gateway
from gateway.cli.options import json_option
from gateway.plugin.registry import PluginRegistry, load_plugins

ROOT = Path(gateway.__file__).parent
PLACES = (ROOT / "template", ROOT.parent / "tests/example_plugins")
"""Where the examples are: in an installed gateway, or in the repository."""
SUFFIXES = frozenset({".py", ".json", ".toml", ".md"})
NAME = re.compile(r"[a-z][a-z0-9_]*")
DASHED = re.compile(r"acme(?=\.example|-)|(?<=-)acme")
WITHOUT = {
    "output-only": ("acme/input.py", "samples/"),
    "input-only": ("acme/output.py", "acme/losses.toml", "acme/sandbox.py", "samples/"),
}
"""Files of the whole example that an example of one half does without."""


@click.command("new-vendor")
@click.argument("name")
@click.option(
    "--into",
    "folder",
    type=click.Path(path_type=Path),
    help="The folder to create.  [default: NAME]",
)
@click.option("--output-only", "half", flag_value="output-only", help="Create no input.")
@click.option("--input-only", "half", flag_value="input-only", help="Create no output.")
def new_vendor(name: str, folder: Path | None, half: str | None) -> None:
    """Create a plugin for a new vendor, with samples and passing tests.

    The plugin is a copy of the example in docs/add-a-vendor.md. NAME is the vendor's name in
    configurations, in lower case, such as my_shop.
    """
    _check(name)
    folder = folder or Path(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise click.ClickException(f"{folder} is not empty; choose another folder with --into")
    for path, text in _plugin_files(name, half):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        click.echo(f"  {target}")
    click.echo(
        f'\nNext: cd {folder}, pip install -e ".[test]", python -m pytest. All tests pass. Then\n'
        "replace the samples by the vendor's own requests, and fix what fails."
    )


def _check(name: str) -> None:
    """Check that a vendor can have this *name*.

    Raises:
        click.ClickException: it cannot: the name is invalid or in use.
    """
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise click.ClickException(
            f"{name!r} cannot be a module's name; use small letters, digits and _, as in my_shop"
        )
    if name in load_plugins().vendors:
        raise click.ClickException(
            f"there is already a vendor {name!r}; choose another name (see `gateway plugins`)"
        )
    if importlib.util.find_spec(name) is not None:
        raise click.ClickException(
            f"there is already a Python module {name!r}; choose another name, such as {name}_cdp"
        )


def _plugin_files(name: str, half: str | None) -> Iterator[tuple[Path, str]]:
    """Yield the path and text of each file of the example, with *name* in place of "acme".

    Where *half* is given, it is the example of that half.
    """
    place = next(path for path in PLACES if path.is_dir())
    found = _files(place / "acme")
    if half is not None:
        kept = {path: file for path, file in found.items() if not path.startswith(WITHOUT[half])}
        found = {**kept, **_files(place / f"acme-{half}")}
    for path, file in sorted(found.items()):
        yield Path(_named(path, name)), _named(file.read_text(encoding="utf-8"), name)


def _files(template: Path) -> dict[str, Path]:
    """Return the files of *template* by their paths in it."""
    found = {path.relative_to(template): path for path in template.rglob("*")}
    return {
        str(inner): path
        for inner, path in found.items()
        if path.suffix in SUFFIXES
        and not any(part.startswith((".", "__pycache__")) for part in inner.parts)
    }


def _named(text: str, name: str) -> str:
    text = DASHED.sub(name.replace("_", "-"), text)
    title = "".join(word.capitalize() for word in name.split("_"))
    return text.replace("acme", name).replace("Acme", title)


LABEL_WIDTH = 16
"""Columns of the labels in the list of vendors."""


@click.command("plugins")
@json_option("the list")
def plugins(*, as_json: bool) -> None:
    """List the vendors and what each supports."""
    registry = load_plugins()
    if as_json:
        found = [{"name": one, **dict(_facts(registry, one))} for one in registry.vendors]
        click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
        return
    for number, vendor in enumerate(registry.vendors):
        click.secho(f"\n{vendor}" if number else vendor, bold=True)
        for name, values in _facts(registry, vendor):
            for line, value in enumerate([", ".join(values)] if name == "has" else values):
                label = "" if line else name
                click.echo(f"  {click.style(label.ljust(LABEL_WIDTH), dim=True)}{value}")


def _facts(registry: PluginRegistry, vendor: str) -> Iterator[tuple[str, list[str]]]:
    halves = {
        "input": registry.inputs.get(vendor),
        "output": registry.outputs.get(vendor),
        "sandbox": registry.sandboxes.get(vendor),
    }
    known = {name: half for name, half in halves.items() if half}
    yield "has", list(known)
    reader, writer = registry.inputs.get(vendor), registry.outputs.get(vendor)
    if reader:
        yield "accepts", list(reader.endpoints)
        yield "responds 501", sorted(reader.unsupported)
    if writer:
        yield "sends to", list(writer.endpoints)
    yield "documentation", sorted({half.docs for half in known.values()})
    packages = {half.__module__.rpartition(".")[0] or half.__module__ for half in known.values()}
    yield "package", sorted(packages)
