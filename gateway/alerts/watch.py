"""Looks at the destinations again and again, and tells what is to be told."""

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import structlog

from gateway.alerts.judging import GATEWAY, Judge, Now, Reading
from gateway.alerts.webhook import Webhook
from gateway.config.alerting import AlertsConfig
from gateway.delivery import state_of
from gateway.errors import SpoolError

if TYPE_CHECKING:
    from gateway.app import Gateway

log = structlog.get_logger()


class Alerting:
    """Tells somebody what is wrong with a running gateway, as its configuration says."""

    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway
        self._task: asyncio.Task[None] | None = None

    async def follow(self, config: AlertsConfig | None) -> None:
        """Go by *config* from now on; what was told before is told again where it lasts."""
        await self.stop()
        if config is not None:
            self._task = asyncio.get_running_loop().create_task(self._watch(config))

    async def stop(self) -> None:
        """Tell nothing more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _watch(self, config: AlertsConfig) -> None:
        judge, webhook = Judge(config), Webhook(config)
        try:
            while True:
                try:
                    await self._look(judge, webhook)
                except Exception:
                    log.exception("alerts_failed")  # the next look may go well
                await asyncio.sleep(config.check_every)
        finally:
            await webhook.close()

    async def _look(self, judge: Judge, webhook: Webhook) -> None:
        readings = await self._readings()
        for alert in judge.due(readings, self._now()):
            log.warning("alert", destination=alert.destination, kind=alert.kind, state=alert.state)
            if await webhook.post(alert):
                judge.told(alert, self._now())

    async def _readings(self) -> list[Reading]:
        gateway = self._gateway
        itself = Reading(GATEWAY, gateway.trouble() or "")
        try:
            depths = await gateway.spool.depths()
        except SpoolError as error:
            return [Reading(GATEWAY, itself.trouble or str(error))]
        found, refusing = [itself], gateway.refusing()
        missing = gateway.spool.unaccounted()
        for name, worker in gateway.workers.items():
            state, depth = state_of(worker), depths.get(name)
            trouble = ""
            if state.paused:
                trouble = "an operator paused it"
            elif state.circuit != "closed":
                trouble = state.reason
            if depth is not None:
                full, lost = refusing.get(name, ""), missing.get(name, 0)
                found.append(
                    Reading(
                        name, trouble, depth.oldest, depth.backlog, depth.dead, full, missing=lost
                    )
                )
        return found

    def _now(self) -> Now:
        return Now(self._gateway.spool.clock.of_day(), time.monotonic())
