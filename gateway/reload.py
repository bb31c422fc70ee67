"""Reload the configuration on SIGHUP, through the admin API, or when a file changes."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from glob import glob
from pathlib import Path
from typing import Protocol

import structlog

from gateway.app import Gateway
from gateway.config import Config
from gateway.config.changes import ConfigChanges
from gateway.config.loader.load import load
from gateway.errors import ConfigError, GatewayError
from gateway.observability.status import LastReload

log = structlog.get_logger()


class Reloader:
    """Reads the configuration again and applies it, one reload at a time."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._task: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._again = False
        self.refused = False
        """The files as last read are invalid, so an older configuration is in effect."""

    @property
    def config(self) -> Config:
        """Return the configuration in effect."""
        return self._gateway.config

    def request(self) -> None:
        """Start a reload; if one is running, reload once more after it."""
        if self._task is not None and not self._task.done():
            self._again = True
            return
        self._task = asyncio.get_running_loop().create_task(self._reload())

    async def settled(self) -> None:
        """Wait for the running reload."""
        if self._task is not None:
            await asyncio.wait([self._task])
        async with self._turn:
            pass

    async def reload_now(self) -> ConfigChanges:
        """Reload after the running reload; return what changed.

        Raises:
            ConfigError: the configuration is invalid; nothing has changed.
            GatewayError: the spool cannot add the new destinations; nothing has changed.
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

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Let no reload begin within the body; wait for the running one first."""
        async with self._turn:
            yield

    async def _reload(self) -> None:
        while True:
            self._again = False
            with contextlib.suppress(GatewayError):  # already logged
                await self.reload_now()
            if not self._again:
                return


GATHER = 300
"""Milliseconds in which changes are collected into one reload."""

LOOK_AGAIN = 1000
"""Milliseconds after which the files are compared anyway: some file systems report no changes."""

KINDS = ("*.toml", "*.csv", "*.json", "*.txt", "*.pem", "*.crt", "*.key")
"""Files that an invalid configuration may be waiting for."""

FileStates = dict[Path, tuple[int, int, int]]
"""Inode, size and modification time of each file."""


class ReloadTarget(Protocol):
    """The reloader as the file watcher uses it."""

    refused: bool
    """The files as last read are invalid. The missing file may be one that the configuration in
    effect does not name, so all files in the same folders count then."""

    @property
    def config(self) -> Config:
        """Return the configuration in effect; a reload may change its files."""

    def request(self) -> None:
        """Request a reload; several requests in a short time make one reload."""


async def watch_files(reloads: ReloadTarget) -> None:
    """Request a reload whenever a file of the configuration changes.

    Folders are watched, not files, since editors and container platforms replace files. New files
    that match an `include` count too.
    """
    from watchfiles import awatch  # noqa: PLC0415 - only --watch needs it

    seen, was, known = reloads.config, False, _print(reloads.config)
    beside = _print(seen, beside=True)
    while True:
        folders = _folders(seen)
        log.info("watching_files", files=len(known))
        async for _ in awatch(
            *folders,
            watch_filter=None,
            debounce=GATHER,
            rust_timeout=LOOK_AGAIN,
            yield_on_timeout=True,
            recursive=False,
        ):
            config, broken = reloads.config, reloads.refused
            now = _print(config, beside=broken)
            if config is not seen or broken != was:  # other files count now: not itself a change
                old = [f for f in now if f in known or not broken or now[f] == beside.get(f)]
                known = {file: known.get(file, now[file]) for file in old}
                seen, was = config, broken
            if now != known:
                known, beside = now, _print(config, beside=True)
                reloads.request()
            if _folders(seen) != folders:
                break


def _folders(config: Config) -> set[Path]:
    """Return the folders that contain files of the configuration, or may contain new ones."""
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
