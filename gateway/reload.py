"""Reload the configuration, on request or when a file changes."""

import asyncio
import contextlib
import time
from glob import glob
from pathlib import Path
from typing import Protocol

import structlog
import watchfiles

from gateway.app import Gateway
from gateway.config import Config
from gateway.config.changes import ConfigChanges
from gateway.config.loader.load import load
from gateway.errors import ConfigError, GatewayError
from gateway.observability.status import LastReload

log = structlog.get_logger()


class Reloader:
    """Reads the configuration file again when asked, one request at a time."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._task: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._again = False
        self.refused = False
        """The files as they were last read are not in effect."""

    @property
    def config(self) -> Config:
        """Return the configuration in effect."""
        return self._gateway.config

    def request(self) -> None:
        """Reload now, or once more after the reload that is under way."""
        if self._task is not None and not self._task.done():
            self._again = True
            return
        self._task = asyncio.get_running_loop().create_task(self._reload())

    async def settled(self) -> None:
        """Wait for the reload that is under way."""
        if self._task is not None:
            await asyncio.wait([self._task])
        async with self._turn:
            pass

    async def reload_now(self) -> ConfigChanges:
        """Reload, after the reload that is under way; return what changed.

        Raises:
            ConfigError: the file has problems; nothing has changed.
            GatewayError: the spool cannot take the new destinations; nothing has changed.
        """
        gateway = self._gateway
        async with self._turn:
            refused = True
            try:
                listen = gateway.config.server.listen
                path = gateway.config.path
                new = await asyncio.to_thread(load, path, gateway.registry, listen=listen)
                changes = await gateway.apply(new)
                refused = False
            except ConfigError as error:
                log.warning("reload_failed", problems=error.problems)
                raise
            except GatewayError as error:
                log.warning("reload_failed", reason=str(error))
                raise
            finally:
                self.refused = refused
                loaded_at = gateway.last_reload.loaded_at if refused else time.time()
                gateway.last_reload = LastReload(not refused, loaded_at)
            return changes

    async def _reload(self) -> None:
        while True:
            self._again = False
            with contextlib.suppress(GatewayError):  # said in the log
                await self.reload_now()
            if not self._again:
                return


GATHER = 300
"""Milliseconds in which changes that belong together are gathered."""

LOOK_AGAIN = 1000
"""Milliseconds after which the files are looked at anyway: not every file system tells."""

KINDS = ("*.toml", "*.csv", "*.json")
"""What a configuration may be waiting for."""

FileStates = dict[Path, tuple[int, int, int]]
"""What tells one state of files from another: inode, size and time of each."""


class ReloadTarget(Protocol):
    """What reloads, as far as the watch knows it."""

    refused: bool
    """The files as they were last read are not in effect. What is missing may be a file that
    nothing in effect names, so that all files beside them count then."""

    @property
    def config(self) -> Config:
        """Return the configuration in effect, whose files may be others after a reload."""

    def request(self) -> None:
        """Reload, once for changes that come together."""


async def watch_files(reloads: ReloadTarget) -> None:
    """Ask for a reload whenever a file of the configuration is another one than before.

    The folders are watched, not the files, since editors and container platforms put a new file
    in an old one's place; files that come to match an `include` count too.
    """
    seen, was, known = reloads.config, False, _print(reloads.config)
    beside = _print(seen, beside=True)
    while True:
        folders = _folders(seen)
        log.info("watching_files", files=len(known))
        async for _ in watchfiles.awatch(
            *folders,
            watch_filter=None,
            debounce=GATHER,
            rust_timeout=LOOK_AGAIN,
            yield_on_timeout=True,
            recursive=False,
        ):
            config, broken = reloads.config, reloads.refused
            now = _print(config, beside=broken)
            if config is not seen or broken != was:  # other files count; that alone is no change
                old = [f for f in now if f in known or not broken or now[f] == beside.get(f)]
                known = {file: known.get(file, now[file]) for file in old}
                seen, was = config, broken
            if now != known:
                known, beside = now, _print(config, beside=True)
                reloads.request()
            if _folders(seen) != folders:
                break


def _folders(config: Config) -> set[Path]:
    """Return the folders in which a file of the configuration is, or may come to be."""
    read = {file.parent for file in config.files.read}
    above = [str(Path(pattern).parent) for pattern in config.files.patterns]
    matched = {Path(found) for folder in above for found in glob(folder)}  # noqa: PTH207 - absolute
    return {folder for folder in read | matched if folder.is_dir()}


def _print(config: Config, *, beside: bool = False) -> FileStates:
    files = {*config.files.read, *(Path(f) for p in config.files.patterns for f in glob(p))}  # noqa: PTH207 - absolute
    if beside:
        files |= {
            file for folder in _folders(config) for kind in KINDS for file in folder.glob(kind)
        }
    found = {}
    for file in files:
        try:
            state = file.stat()
        except OSError:
            continue
        found[file] = (state.st_ino, state.st_size, state.st_mtime_ns)
    return found
