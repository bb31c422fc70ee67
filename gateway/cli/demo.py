"""``gateway demo``: the sandbox and the gateway together, and what to try."""

import asyncio
import contextlib
import os
import shlex
import signal
import sys
from asyncio.subprocess import Process
from pathlib import Path

import click

from gateway.config import Config
from gateway.config import load as load_config
from gateway.exchange import Request
from gateway.plugins import Registry, load

SANDBOX = "127.0.0.1:9100"
PATIENCE = 20.0
"""Seconds in which both must be up."""
STEP = 0.05


@click.command()
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=Path("config/gateway.toml"),
    show_default=True,
    help="The configuration; its destinations should point at the sandbox.",
)
def command(path: Path) -> None:
    """Start the sandbox and the gateway, and print what to try; Ctrl-C stops both."""
    registry = load()
    config = load_config(path, registry)
    sys.exit(asyncio.run(_demo(path, config, registry)))


async def _demo(path: Path, config: Config, registry: Registry) -> int:
    sandbox = await _start("sandbox", "--listen", SANDBOX)
    gateway = await _start("run", "--config", str(path))
    both = [sandbox, gateway]
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    terminal = os.isatty(sys.stdin.fileno())

    def hung_up() -> None:
        """Reload, as `gateway run` does; stop where it means that the terminal is gone."""
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
        _say(config, registry, f"http://{host or '127.0.0.1'}:{port}")
        await asyncio.wait([stopped, *ended], return_when=asyncio.FIRST_COMPLETED)
    asked = stop.is_set()
    for task in (up, stopped):
        task.cancel()
    for process in (gateway, sandbox):
        await _end(process)
    await asyncio.gather(*ended)
    return 0 if asked else 1


async def _start(*arguments: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *arguments, start_new_session=True
    )


async def _end(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    await process.wait()


async def _up(addresses: list[tuple[str, int]]) -> bool:
    """Tell whether every one of *addresses* takes connections before patience ends."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    for host, port in addresses:
        while True:
            try:
                _, writer = await asyncio.open_connection(host, port)
            except OSError:
                if asyncio.get_running_loop().time() > deadline:
                    return False
                await asyncio.sleep(STEP)
            else:
                writer.close()
                break
    return True


def _say(config: Config, registry: Registry, url: str) -> None:
    click.echo()
    click.secho("The gateway is up. Try, in another terminal:", bold=True)
    for source in config.sources.values():
        reads = registry.inputs[source.vendor]
        click.echo()
        click.secho(f"  # as a client of {reads.name}", dim=True)
        click.echo(curl(url + source.mount, reads.example))
    click.echo()
    if config.admin is not None:
        click.echo(f"Then open http://{config.admin.listen}/ to see what became of it, and")
        click.echo(f"http://{SANDBOX}/ to see what each vendor received. Ctrl-C stops both.")
    else:
        click.echo(
            f"Then open http://{SANDBOX}/ to see what each vendor received; Ctrl-C stops both."
        )


def curl(url: str, request: Request) -> str:
    """Return *request* as a command for a shell, one option a line."""
    headers = {"content-type": "application/json", **request.headers}
    parts = [f"curl -i {shlex.quote(url + request.url)}"]
    parts += [f"-H {shlex.quote(f'{name}: {value}')}" for name, value in headers.items()]
    parts.append(f"-d {shlex.quote(request.body.decode())}")
    return "  " + " \\\n    ".join(parts)
