"""Alerts over HTTP."""

import msgspec
import structlog

from gateway.alerts.judging import Alert
from gateway.config.alerting import AlertsConfig
from gateway.errors import TransportError
from gateway.exchange import Request
from gateway.redact import Redactor
from gateway.transport import HttpTransport

TIMEOUT = 10.0
"""Seconds for one alert."""

log = structlog.get_logger()


class Webhook:
    """Posts alerts as JSON.

    Args:
        config: where to, and with which headers.
    """

    def __init__(self, config: AlertsConfig) -> None:
        self._url = config.url.get_secret_value()
        headers = {name: value.get_secret_value() for name, value in config.headers.items()}
        self._headers = {"content-type": "application/json"} | headers
        self._redactor = Redactor(config)
        self._transport = HttpTransport(timeout=TIMEOUT, connections=1)

    async def post(self, alert: Alert) -> bool:
        """Return whether *alert* was taken: answered with 2xx. What goes wrong is logged."""
        request = Request(
            method="POST", url=self._url, headers=self._headers, body=msgspec.json.encode(alert)
        )
        try:
            answer = await self._transport.send(request)
        except TransportError as error:
            reason = str(error)
        else:
            if answer.status // 100 == 2:  # noqa: PLR2004 - 2xx, RFC 9110 section 15.3
                return True
            said = answer.body[:200].decode(errors="replace")
            reason = f"answered {answer.status}: {said}"
        log.warning(
            "alert_not_sent",
            destination=alert.destination,
            kind=alert.kind,
            reason=self._redactor.text(reason),
        )
        return False

    async def close(self) -> None:
        """Close its connection."""
        await self._transport.close()
