"""Measure routing per event: 20 routes with typical conditions, and five steps.

Run as ``python -m tests.bench.routing``. ``make bench`` prints it beside the floor of a request.
"""

import statistics
import time
from copy import copy
from pathlib import Path
from tempfile import TemporaryDirectory

from gateway.config import Config
from gateway.config.loader.load import load as load_config
from gateway.plugin.registry import load_plugins
from gateway.routing.router import Router
from gateway.testing.samples import EVENTS

ROUTES = 20
STEPS = """[
  { rename = { "Product *" = "Item *" } },
  { hash = ["traits.email", "user_id"], key = "bench" },
  { truncate_ip = ["context.ip"] },
  { set = { "properties.channel" = "gateway" } },
  { drop = ["context.user_agent", "properties.coupon"] },
]"""
CONDITIONS = (
    'event.type == "track" && event.properties.total > {n}00.0',
    'event.name == "Order Completed" && event.properties.currency == "C{n}"',
    'has(event.user_id) && event.context.channel == "c{n}"',
    'event.context.page.url.contains("/campaign-{n}")',
    '!(event.properties.plan in ["plan {n}", "trial"]) && event.consent.advertising',
    'event.traits.email.endsWith("@example-{n}.com") || event.properties.coupon == "C{n}"',
    'event.properties.products.exists(p, p.category == "category {n}")',
)


def configured() -> Config:
    """Return a configuration of `ROUTES` routes; the last takes every event and has the steps."""
    text = (
        '[sources.shop]\nvendor = "chrts"\nkeys = ["key"]\n'
        '[destinations.sink]\nvendor = "chrts"\napi_key = "bench"\n'
    )
    for n in range(ROUTES - 1):
        when = CONDITIONS[n % len(CONDITIONS)].format(n=n + 1)
        text += f"[[routes]]\nto = [\"sink\"]\nadditional = true\nwhen = '''{when}'''\n"
    text += f'[[routes]]\nname = "last"\nto = ["sink"]\nsteps = {STEPS}\n'
    with TemporaryDirectory() as folder:
        path = Path(folder) / "gateway.toml"
        path.write_text(text)
        return load_config(path, load_plugins(), {})


def micros(rounds: int = 100) -> float:
    """Return CPU µs per event for routing and steps (median of rounds, the kit's events)."""
    router = Router(configured().routes)
    spent = []
    for _ in range(rounds):
        events = [copy(event) for event in EVENTS]
        began = time.process_time()
        for event in events:
            for lead in router.route("shop", event):
                steps = router.steps(lead.route)
                if steps is not None:
                    steps.apply(event)
        spent.append(time.process_time() - began)
    return statistics.median(spent) / len(EVENTS) * 1e6


if __name__ == "__main__":
    print(f"{micros():.1f} µs CPU per event")
