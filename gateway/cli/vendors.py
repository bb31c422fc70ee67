"""``gateway plugins`` and ``gateway new-vendor``."""

import importlib.util
import keyword
import re
from collections.abc import Iterator
from pathlib import Path

import click

import gateway
from gateway.plugin.registry import PluginRegistry, load_plugins

ROOT = Path(gateway.__file__).parent
TEMPLATES = (ROOT / "template", ROOT.parent / "tests/example_plugin")
"""Where the example is: in an installed gateway, or in the repository."""
SHOWN = frozenset({".py", ".json", ".toml", ".md"})
NAME = re.compile(r"[a-z][a-z0-9_]*")
DASHED = re.compile(r"acme(?=\.example|-)|(?<=-)acme")


@click.command("new-vendor")
@click.argument("name")
@click.option(
    "--into",
    "folder",
    type=click.Path(path_type=Path),
    help="The folder to write; one of the vendor's name if left out.",
)
def new_vendor(name: str, folder: Path | None) -> None:
    """Write a plugin to start from, with samples and tests that pass.

    It is the example of docs/add-a-vendor.md under another name: NAME in lower case, such as
    my_shop, which is what configurations call the vendor.
    """
    _check(name)
    folder = folder or Path(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise click.ClickException(f"{folder} is not empty; choose another folder with --into")
    for path, text in _written(name):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        click.echo(f"  {target}")
    click.echo(
        f'\nThen: cd {folder}, pip install -e ".[test]", python -m pytest. All of it passes: put\n'
        "the vendor's own requests in place of the samples, and mend what fails."
    )


def _check(name: str) -> None:
    """Pass a *name* that a vendor can have.

    Raises:
        click.ClickException: it cannot.
    """
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise click.ClickException(
            f"{name!r} can be no module's name; use small letters, digits and _, such as my_shop"
        )
    if name in load_plugins().vendors:
        raise click.ClickException(f"there is a vendor {name!r} already; gateway plugins lists it")
    if importlib.util.find_spec(name) is not None:
        raise click.ClickException(
            f"there is a Python module {name!r} already, which would hide the plugin; add a word"
        )


def _written(name: str) -> Iterator[tuple[Path, str]]:
    """Yield the example's files under *name*: their paths and texts."""
    template = next(path for path in TEMPLATES if path.is_dir())
    for path in sorted(template.rglob("*")):
        inner = path.relative_to(template)
        hidden = any(part.startswith((".", "__pycache__")) for part in inner.parts)
        if path.suffix in SHOWN and not hidden:
            yield Path(_named(str(inner), name)), _named(path.read_text(encoding="utf-8"), name)


def _named(text: str, name: str) -> str:
    text = DASHED.sub(name.replace("_", "-"), text)
    title = "".join(word.capitalize() for word in name.split("_"))
    return text.replace("acme", name).replace("Acme", title)


COLUMN = 16


@click.command("plugins")
def plugins() -> None:
    """List the vendors and what each can do."""
    registry = load_plugins()
    for number, vendor in enumerate(registry.vendors):
        click.secho(f"\n{vendor}" if number else vendor, bold=True)
        for name, values in _facts(registry, vendor):
            for line, value in enumerate(values):
                label = "" if line else name
                click.echo(f"  {click.style(label.ljust(COLUMN), dim=True)}{value}")


def _facts(registry: PluginRegistry, vendor: str) -> Iterator[tuple[str, list[str]]]:
    halves = {
        "input": registry.inputs.get(vendor),
        "output": registry.outputs.get(vendor),
        "sandbox": registry.sandboxes.get(vendor),
    }
    known = {name: half for name, half in halves.items() if half}
    yield "has", [", ".join(known)]
    reads, writes = registry.inputs.get(vendor), registry.outputs.get(vendor)
    if reads:
        yield "accepts", list(reads.endpoints)
        yield "answers 501 to", sorted(reads.unsupported)
    if writes:
        yield "sends to", list(writes.endpoints)
    yield "documented at", sorted({half.docs for half in known.values()})
    packages = {half.__module__.rpartition(".")[0] or half.__module__ for half in known.values()}
    yield "comes from", sorted(packages)
