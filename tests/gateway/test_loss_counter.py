"""Losses of delivered events are counted by field, from a sample within a budget."""

import math
import time

import pytest

from gateway.event import Event
from gateway.losses.field_outcomes import LossCounter, field_outcomes, lossy_fields
from gateway.losses.full_events import full_events
from gateway.losses.reviewed import named
from gateway.mapping import Loss
from gateway.plugin.vendor import Output
from gateway.testing.samples import EVENTS
from plugins.chrts.output import ChrtsOutput
from tests.gateway.test_unreadable_answers import KEY, OUTPUTS

FULL = [event for _, event in full_events()]


@pytest.mark.parametrize("output", OUTPUTS, ids=[output.name for output in OUTPUTS])
def test_the_counted_fields_are_those_that_are_not_kept(output: Output) -> None:
    """The counter counts the fields that `field_outcomes` calls lost or coerced."""
    for event in (*EVENTS, *FULL):
        outcomes = field_outcomes(output, event)
        expected = {(named(one.path), one.how) for one in outcomes if one.how != "kept"}
        assert lossy_fields(output, event) == expected


class SlowOutput(ChrtsOutput):
    """Takes 2 ms of CPU time for the losses of an event."""

    def losses(self, event: Event) -> list[Loss]:
        """Return the losses, slowly."""
        began = time.thread_time()
        while time.thread_time() - began < 0.002:
            pass
        return super().losses(event)


def test_counting_losses_takes_no_more_than_its_share() -> None:
    """An event that took long to examine postpones the next one, whatever the rate."""
    output = SlowOutput(SlowOutput.Config(api_key=KEY))
    counter = LossCounter(output, per_second=math.inf, share=1e-6)
    counter.offer(lambda: FULL[0])
    counter.offer(lambda: FULL[0])
    assert counter.looked == 1
    unlimited = LossCounter(output, per_second=math.inf, share=math.inf)
    unlimited.offer(lambda: FULL[0])
    unlimited.offer(lambda: FULL[0])
    assert unlimited.looked == 2
