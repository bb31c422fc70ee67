"""What the configuration file may say of alerts."""

from pydantic import Field, SecretStr

from gateway.config.address import address_problem
from gateway.config.problems import Report
from gateway.config.quantities import HOUR, MINUTE, Duration
from gateway.config.tables import Table


class AlertsConfig(Table):
    """Who is told when a destination is in trouble; nobody is without it."""

    url: SecretStr
    """Where alerts are posted, as JSON. It is kept secret: for many chat programs it is the
    credential as well."""
    headers: dict[str, SecretStr] = Field(default={})
    """Headers to post with, such as `{ authorization = "Bearer ${ALERTS_TOKEN}" }`."""
    paused_for: Duration = Field(default=MINUTE, ge=0)
    """How long a destination may be paused, by its circuit or by an operator, and how long the
    gateway may take no events, at all or for a destination, before somebody is told."""
    backlog_age: Duration = Field(default=15 * MINUTE, gt=0)
    """How old the oldest event that is owed to a destination may become."""
    dead_letters: int = Field(default=1, ge=1)
    """How many dead letters must be added at a destination."""
    again: Duration = Field(default=HOUR, gt=0)
    """How long until the same is told again while it lasts. Dead letters that are added in the
    meantime are told of then."""
    check_every: Duration = Field(default=15.0, ge=0.05)
    """How often to look."""


def check_alerts(alerts: AlertsConfig, report: Report) -> None:
    """Report an address that is none; it is not repeated, since it may be a credential."""
    url = alerts.url.get_secret_value().partition("?")[0]
    if address_problem(url):
        what = "is no http or https address; write one like https://hooks.example/alerts"
        report.problem("alerts", "url", what)
