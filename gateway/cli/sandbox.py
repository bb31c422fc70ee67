"""``gateway sandbox``."""

import asyncio
import errno
import signal
from collections.abc import Sequence

import click
import uvloop
from aiohttp import web

from gateway import plugins
from gateway.cli.run import checked_listen
from gateway.config.listening import Address, address
from gateway.sandbox import make_app


def _pairs(_: click.Context, __: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for value in values:
        vendor, equals, key = value.partition("=")
        if not (vendor and equals and key):
            raise click.BadParameter("write VENDOR=KEY, such as chrts=api_chrts_1")
        pairs[vendor] = key
    return pairs


@click.command("sandbox")
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="127.0.0.1:9100",
    show_default=True,
    callback=checked_listen,
    help="Where to listen.",
)
@click.option(
    "--key",
    "keys",
    metavar="VENDOR=KEY",
    multiple=True,
    callback=_pairs,
    help="The only credential that a vendor accepts; without it, any. May be repeated.",
)
def command(listen: str, keys: dict[str, str]) -> None:
    """Serve the vendors' servers, emulated, for trials and tests.

    Each vendor stands under its name: http://127.0.0.1:9100/chrts/event/track. The page at the
    root shows what came in. Runs until SIGTERM or Ctrl-C.
    """
    sandboxes = [sandbox() for sandbox in plugins.load().sandboxes.values()]
    app = make_app(sandboxes, keys)
    uvloop.run(_serve(app, address(listen), [sandbox.name for sandbox in sandboxes]))


async def _serve(app: web.Application, where: Address, names: Sequence[str]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await _listen(runner, where)
        click.echo(f"{url(runner)}/ is the sandbox of {', '.join(names)}; Ctrl-C ends it")
        await stop.wait()
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, where: Address) -> None:
    try:
        await web.TCPSite(runner, where.host, where.port).start()
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        reason = "the port is in use" if taken else (error.strerror or str(error))
        shown = f"{where.host or ''}:{where.port}"
        raise click.ClickException(
            f"cannot listen on {shown}: {reason}; choose another address with --listen"
        ) from error


def url(runner: web.AppRunner) -> str:
    """Return where a browser on this machine finds what *runner* serves."""
    host, port = runner.addresses[0][:2]
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - a wildcard is no address to look at
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
