"""Steps that let an event through or not: sample, consent. They judge once, when it is accepted."""

from collections.abc import Callable, Mapping
from hashlib import blake2b

from gateway.config.steps import Consent, Sample
from gateway.event import Event

Filter = Callable[[Event, Mapping[str, bool]], str]
"""Returns why an event is kept back, given what is remembered of its user; empty where it goes."""


def sample(step: Sample) -> Filter:
    """Return what the step says."""
    least = int(step.sample * 2**64)
    seed = step.seed.encode() + b"\0"

    def sampled(event: Event, _: Mapping[str, bool]) -> str:
        who = event.user_key or event.message_id or event.id
        drawn = blake2b(seed + who.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        if int.from_bytes(drawn, "big") < least:
            return ""
        return f"not among the {step.sample:.4g} of the users who are sampled"

    return sampled


def consent(step: Consent) -> Filter:
    """Return what the step says."""

    def consented(event: Event, remembered: Mapping[str, bool]) -> str:
        for category in step.consent:
            granted = event.consent.get(category)
            if granted is None:
                granted = remembered.get(category)
                if granted is None:
                    return f"no consent to {category} is known"
            if granted is not True:
                return f"the user has not consented to {category}"
        return ""

    return consented
