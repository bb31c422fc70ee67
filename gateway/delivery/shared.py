"""What the workers of one destination share."""

from collections.abc import Callable

from gateway.config import DestinationConfig
from gateway.delivery.circuit_breaker import CircuitBreaker
from gateway.delivery.job import DeliveryCounts, DeliveryObserver, Guarded, OnSettled, StepsOf
from gateway.delivery.job_builder import Parse
from gateway.delivery.pump import Begin, Pump, Take
from gateway.delivery.rate_limiter import RateLimiter
from gateway.delivery.sender import Sender
from gateway.spool import DeliveryRef


class SharedState:
    """The connections, the limits and the counts of one destination.

    Args:
        name: name of the destination.
        config: its configuration.
        sender: renders, sends and judges events.
        take: returns the next job of any worker.
        begin: begins it.
        parse: returns the events of a stored request.
        steps_of: returns the steps of a route by its name.
        configs_differ: see `JobBuilder`.
        observer: observes every attempt.
        settled: called at the end of each delivery, if given.
    """

    def __init__(  # noqa: PLR0913 - all dependencies of a destination
        self,
        name: str,
        config: DestinationConfig,
        *,
        sender: Sender,
        take: Take,
        begin: Begin,
        parse: Parse,
        steps_of: StepsOf,
        configs_differ: Callable[[], bool] | None,
        observer: DeliveryObserver,
        settled: OnSettled | None,
    ) -> None:
        self.name = name
        self.config = config
        self.sender = sender
        self.parse = parse
        self.steps_of = steps_of
        self.configs_differ = configs_differ
        self.observer = Guarded(observer, settled)
        self.secrets = config.secrets()
        self.breaker = CircuitBreaker(low=config.retry_min, high=config.retry_max)
        self.limiter = RateLimiter(config.rate, config.burst)
        self.pump = Pump(name, config.concurrency, take, begin)
        self.isolated: set[DeliveryRef] = set()
        """Deliveries under way that failed while the vendor accepted others."""
        self.counts = DeliveryCounts()
