"""Record what is expected anew: ``python -m tests.expectations``."""

import click

from tests.expectations.losses import FILE, changes, computed, record, recorded

if __name__ == "__main__":
    before = recorded() if FILE.exists() else {}
    after = computed()
    worse, other = changes(before, after)
    record(after)
    for change in (*worse, *other):
        click.echo(change)
    click.echo(f"recorded: {len(worse)} worse, {len(other)} otherwise changed")
