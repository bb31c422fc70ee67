"""``gateway sandbox`` and ``gateway demo``: emulated vendors, alone or with a gateway."""

import asyncio
import contextlib
import errno
import os
import shlex
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Sequence
from pathlib import Path

import click
import uvloop
from aiohttp import web

from gateway.cli.options import checked_listen, config_option
from gateway.config import Config
from gateway.config.loader.load import load as load_config
from gateway.config.types import Address, address
from gateway.http import Request
from gateway.plugin.registry import PluginRegistry, load_plugins
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
    help="The address to listen on.",
)
@click.option(
    "--key",
    "keys",
    metavar="VENDOR=KEY",
    multiple=True,
    callback=_pairs,
    help="The only key that the vendor accepts; without it, any key. May be repeated.",
)
def sandbox(listen: str, keys: dict[str, str]) -> None:
    """Run emulated vendor servers for trials and tests.

    The URL of each vendor begins with its name: http://127.0.0.1:9100/chrts/event/track. The page
    at http://127.0.0.1:9100/ shows the received requests. Runs until SIGTERM or Ctrl-C.
    """
    sandboxes = [sandbox() for sandbox in load_plugins().sandboxes.values()]
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
        click.echo(f"{url(runner)}/ is the sandbox of {', '.join(names)}; stop it with Ctrl-C")
        await stop.wait()
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, where: Address) -> None:
    try:
        await web.TCPSite(runner, where.host, where.port).start()
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        reason = "the port is in use" if in_use else (error.strerror or str(error))
        shown = f"{where.host or ''}:{where.port}"
        raise click.ClickException(
            f"cannot listen on {shown}: {reason}; choose another address with --listen"
        ) from error


def url(runner: web.AppRunner) -> str:
    """Return the URL of *runner* for a browser on this machine."""
    host, port = runner.addresses[0][:2]
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - a browser cannot open a wildcard address
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


SANDBOX = "127.0.0.1:9100"
START_TIMEOUT = 20.0
"""Seconds in which the gateway and the sandbox must accept connections."""
POLL_INTERVAL = 0.05
"""Seconds between two attempts to connect."""


@click.command()
@config_option
def demo(path: Path) -> None:
    """Start the sandbox and the gateway, and print example requests; Ctrl-C stops both.

    The destinations in the configuration should point at the sandbox.
    """
    registry = load_plugins()
    config = load_config(path, registry)
    sys.exit(asyncio.run(_demo(path, config, registry)))


async def _demo(path: Path, config: Config, registry: PluginRegistry) -> int:
    sandbox = await _start("sandbox", "--listen", SANDBOX)
    gateway = await _start("run", "--config", str(path))
    both = [sandbox, gateway]
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    terminal = os.isatty(sys.stdin.fileno())

    def hung_up() -> None:
        """Reload on SIGHUP, as `gateway run` does; stop if the terminal was closed."""
        if terminal and not os.isatty(sys.stdin.fileno()):
            stop.set()
        elif gateway.returncode is None:
            gateway.send_signal(signal.SIGHUP)

    loop.add_signal_handler(signal.SIGHUP, hung_up)
    ended = [loop.create_task(process.wait()) for process in both]
    stopped = loop.create_task(stop.wait())
    host, port = config.server.address
    sandbox_host, _, sandbox_port = SANDBOX.rpartition(":")
    up = loop.create_task(_up([(host or "127.0.0.1", port), (sandbox_host, int(sandbox_port))]))
    await asyncio.wait([up, stopped, *ended], return_when=asyncio.FIRST_COMPLETED)
    if up.done() and not up.cancelled() and up.result():
        _print_examples(config, registry, f"http://{host or '127.0.0.1'}:{port}")
        await asyncio.wait([stopped, *ended], return_when=asyncio.FIRST_COMPLETED)
    stopped_by_user = stop.is_set()
    for task in (up, stopped):
        task.cancel()
    for process in (gateway, sandbox):
        await _end(process)
    await asyncio.gather(*ended)
    return 0 if stopped_by_user else 1


async def _start(*arguments: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *arguments, start_new_session=True
    )


async def _end(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    await process.wait()


async def _up(addresses: list[tuple[str, int]]) -> bool:
    """Wait until all *addresses* accept connections; return False after START_TIMEOUT."""
    deadline = asyncio.get_running_loop().time() + START_TIMEOUT
    for host, port in addresses:
        while True:
            try:
                _, writer = await asyncio.open_connection(host, port)
            except OSError:
                if asyncio.get_running_loop().time() > deadline:
                    return False
                await asyncio.sleep(POLL_INTERVAL)
            else:
                writer.close()
                break
    return True


def _print_examples(config: Config, registry: PluginRegistry, url: str) -> None:
    click.echo()
    click.secho("The gateway is up. In another terminal, try:", bold=True)
    for source in config.sources.values():
        vendor = registry.inputs[source.vendor]
        click.echo()
        click.secho(f"  # in the format of {vendor.name}", dim=True)
        click.echo(curl(url + source.mount, vendor.example))
    click.echo()
    if config.admin is not None:
        click.echo(f"Then open http://{config.admin.listen}/ to follow the event, and")
        click.echo(f"http://{SANDBOX}/ to see what each vendor received. Ctrl-C stops both.")
    else:
        click.echo(
            f"Then open http://{SANDBOX}/ to see what each vendor received. Ctrl-C stops both."
        )


def curl(url: str, request: Request) -> str:
    """Return *request* as a ``curl`` command for a shell, one option per line."""
    headers = {"content-type": "application/json", **request.headers}
    parts = [f"curl -i {shlex.quote(url + request.url)}"]
    parts += [f"-H {shlex.quote(f'{name}: {value}')}" for name, value in headers.items()]
    parts.append(f"-d {shlex.quote(request.body.decode())}")
    return "  " + " \\\n    ".join(parts)
