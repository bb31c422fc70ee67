"""``gateway plugins``."""

from collections.abc import Iterator

import click

from gateway.plugins import Registry, load

COLUMN = 16


@click.command("plugins")
def command() -> None:
    """List the vendors and what each can do."""
    registry = load()
    for number, vendor in enumerate(registry.vendors):
        click.secho(f"\n{vendor}" if number else vendor, bold=True)
        for name, values in _facts(registry, vendor):
            for line, value in enumerate(values):
                label = "" if line else name
                click.echo(f"  {click.style(label.ljust(COLUMN), dim=True)}{value}")


def _facts(registry: Registry, vendor: str) -> Iterator[tuple[str, list[str]]]:
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
