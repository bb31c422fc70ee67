"""The words for problems: a headline that names the cause, and the cure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gateway.delivery.file_uploads import UploadStatus, megabytes
from gateway.errors import RefusalCause


class Advice(NamedTuple):
    """A problem, and what to do about it. Neither ends with a full stop."""

    headline: str
    cure: str


def counted(number: int, what: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def spoken(seconds: float) -> str:
    """Return a duration in words, such as ``9 minutes``."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


# Destinations


def paused(name: str, pending: int) -> Advice:
    """Return what to say about a destination that an operator paused."""
    return Advice(f"{name} is paused by an operator, {pending:,} pending", f"resume {name}")


ANY_API = "the API"
"""What the vendor of a destination of ``vendor = "http"`` is called."""


def key_refused(name: str, vendor: str, credential: str) -> Advice:
    """Return what to say about a destination whose key the vendor refuses."""
    return Advice(f"Key refused by {vendor}", f"fix {credential} of {name}, then reload")


def behind(name: str, seconds: float, pending: int) -> Advice:
    """Return what to say about a destination whose deliveries are late."""
    return Advice(
        f"{name} is {spoken(seconds)} behind, {pending:,} pending",
        f"it takes events more slowly than they come; raise concurrency or rate of {name}, or wait",
    )


_TROUBLES: Mapping[str, tuple[str, str]] = {
    "connect": (
        "{name} cannot be reached",
        "check url of {name}, DNS, the firewall, and whether {vendor} is up",
    ),
    "timeout": (
        "{vendor} does not answer {name} in time",
        "check whether {vendor} is up, or raise timeout of {name}",
    ),
    "reset": ("{vendor} breaks off the connections of {name}", "check whether {vendor} is up"),
    "protocol": (
        "{name} does not answer in HTTP",
        "check url of {name}, and what stands between the gateway and {vendor}",
    ),
    "limit": (
        "{vendor} asks {name} to wait",
        "lower rate of {name}, or ask {vendor} for a higher limit",
    ),
    "credential": ("Key refused by {vendor}", "fix the key of {name}, then reload"),
    "moved": ("{vendor} redirects {name}", "change url of {name}, then reload"),
    "internal": (
        "Attempts for {name} meet a bug of the gateway or of a plugin",
        "see delivery_failed in the log",
    ),
}
_SERVER = ("{vendor} answers {name} with errors", "check whether {vendor} is up")


def stopped(name: str, vendor: str, cause: str) -> Advice:
    """Return what to say about a destination to which only probes are sent.

    Args:
        name: the destination.
        vendor: its vendor.
        cause: as in `gateway.verdict.RetryLater`.
    """
    headline, cure = _TROUBLES.get(cause, _SERVER)
    return Advice(
        headline.format(name=name, vendor=vendor),
        f"{cure.format(name=name, vendor=vendor)}; the gateway keeps trying",
    )


def unwritable(name: str, reason: str, share: str = "") -> Advice:
    """Return what to say about a destination whose files cannot be written."""
    return Advice(
        ", ".join(
            filter(None, [f"{name} cannot be written: {reason}", share and f"{share} failed"])
        ),
        f"check the disk and path of {name}; the gateway keeps trying",
    )


_UPLOAD_CURES: Mapping[str, str] = {
    "credential": "fix access_key, secret_key or what they may do, then reload",
    "bucket": "make the bucket, or fix bucket and region, then reload",
    "disk": "check the disk and path of {name}",
    "internal": "see upload_failed in the log",
}


def not_uploaded(name: str, uploads: UploadStatus, *, stopped: bool) -> Advice:
    """Return what to say about a destination whose files cannot be uploaded.

    Args:
        name: the destination.
        uploads: how far they are, with the problem.
        stopped: nothing is written meanwhile.
    """
    waiting = f"{counted(uploads.files, 'file')} ({megabytes(uploads.size)})"
    wait = "nothing is written, since" if stopped else "meanwhile"
    verb = "waits" if uploads.files == 1 else "wait"
    cure = _UPLOAD_CURES.get(uploads.cause, "check endpoint of {name}, and whether it is up")
    return Advice(
        f"{name} cannot upload its files: {uploads.problem}; {wait} {waiting} {verb}",
        f"{cure.format(name=name)}; the gateway keeps trying",
    )


def failing(name: str, vendor: str, cause: str, share: str) -> Advice:
    """Return what to say about a destination whose attempts fail; *share* says how many."""
    headline, cure = stopped(name, vendor, cause)
    return Advice(f"{headline}, {share} failed", cure)


def events_refused(name: str, vendor: str, share: str, *, clients_key: bool) -> Advice:
    """Return what to say about a destination whose events become dead letters."""
    if clients_key:
        return Advice(
            f"{vendor} refuses the clients' keys at {name}, {share} failed",
            "fix the key in the clients that send, then replay the dead letters",
        )
    return Advice(
        f"{vendor} refuses events of {name}, {share} failed",
        "read the reasons of its dead letters, fix the mapping, the settings or the sender, "
        "then replay",
    )


def full(name: str, reason: str) -> Advice:
    """Return what to say about a destination at a bound."""
    return Advice(f"No new events are accepted for {name}", reason)


def unaccounted(name: str, missing: int) -> Advice:
    """Return what to say about a wrong balance."""
    what = "unaccounted for" if missing > 0 else "more than were accepted"
    return Advice(
        f"Deliveries to {name} that are {what}: {abs(missing):,}", "see balance_wrong in the log"
    )


def dead_letters(name: str, number: int) -> Advice:
    """Return what to say about dead letters of a destination that works."""
    return Advice(
        f"{name} has {counted(number, 'dead letter')}",
        "read the reasons, fix the cause, then replay or delete them",
    )


# Sources

_REFUSALS: Mapping[str, tuple[str, str]] = {
    RefusalCause.FORBIDDEN: (
        "{source} refuses keys",
        "send a key of [sources.{source}] keys, or add the client's key there, then reload",
    ),
    RefusalCause.UNAUTHENTICATED: (
        "Requests to {source} have no key",
        "let the client send a key of [sources.{source}] keys as {vendor} wants it",
    ),
    RefusalCause.MALFORMED: (
        "{source} gets bodies that cannot be parsed",
        "read the reason in the failed events of {source}, then fix the client",
    ),
    RefusalCause.INVALID: (
        "{source} gets invalid fields",
        "read the field in the failed events of {source}, then fix the client",
    ),
    RefusalCause.BODY_TOO_LARGE: (
        "{source} gets bodies that are too large",
        "send less in one request, or raise [server] max_body and restart",
    ),
    RefusalCause.BODY_TIMEOUT: (
        "{source} gets bodies too slowly",
        "check the network of the clients, or raise [server] body_timeout",
    ),
    RefusalCause.NOT_FOUND: (
        "{source} is called at endpoints that {vendor} does not have",
        "correct the path in the client",
    ),
    RefusalCause.METHOD: (
        "{source} is called with wrong methods",
        "use the method that {vendor} documents for the endpoint",
    ),
    RefusalCause.UNSUPPORTED: (
        "{source} is called at endpoints that it does not serve",
        "set url of [sources.{source}] to relay them to {vendor}",
    ),
    RefusalCause.NOT_ACCEPTING: (
        "{source} refuses senders",
        "see why the gateway accepts no events",
    ),
    RefusalCause.SPOOL_FULL: (
        "{source} refuses senders because {full} is full",
        "fix {full}, or raise its bound; events are accepted again as soon as there is room",
    ),
    RefusalCause.SPOOL_FAILED: (
        "{source} refuses senders because the spool cannot be written",
        "check the disk; append_failed in the log has the reason",
    ),
    RefusalCause.RELAY_FULL: (
        "Calls that {source} relays wait too long",
        "check whether {vendor} answers at url of [sources.{source}]",
    ),
    RefusalCause.RELAY_FAILED: (
        "{vendor} does not answer calls that {source} relays",
        "check url of [sources.{source}], and whether {vendor} is up",
    ),
    RefusalCause.MEMORY: (
        "{source} refuses senders because of memory",
        "raise [server] max_bodies, or send less at once",
    ),
    RefusalCause.INTERNAL: (
        "Requests to {source} meet a bug of the gateway or of a plugin",
        "see request_failed in the log",
    ),
}
_REFUSAL = ("{source} refuses requests", "read the reason in the failed events of {source}")


def refusing(source: str, vendor: str, cause: str, share: str, full: Sequence[str]) -> Advice:
    """Return what to say about a source that refuses requests.

    Args:
        source: its name.
        vendor: its vendor.
        cause: the `RefusalCause` of most refusals.
        share: how many of its requests are refused.
        full: its destinations that accept no new events.
    """
    headline, cure = _REFUSALS.get(cause, _REFUSAL)
    values = {"source": source, "vendor": vendor, "full": " and ".join(full) or "the spool"}
    return Advice(f"{headline.format(**values)}, {share} refused", cure.format(**values))


# The gateway itself


def spool_refuses(reason: str) -> Advice:
    """Return what to say about a spool that accepts nothing; the reason names the remedy."""
    return Advice("The spool accepts no events", reason)


def spool_filling(share: float) -> Advice:
    """Return what to say about a spool that is nearly full."""
    return Advice(
        f"The spool is {share:.0%} full",
        "fix the destinations with a backlog, delete dead letters, or raise [spool] max_bytes",
    )


def not_ready(reason: str) -> Advice:
    """Return what to say about a gateway that accepts no events."""
    return Advice("The gateway accepts no events", reason)


def no_source(count: int) -> Advice:
    """Return what to say about requests at addresses that no source serves."""
    requests = counted(count, "request")
    return Advice(
        f"{requests} came to an address that no source serves",
        "compare the client's URL with mount and hosts of the sources",
    )


def removed(destination: str, pending: int, dead: int) -> Advice:
    """Return what to say about what is left of a destination that is configured no more."""
    left = f"{counted(pending, 'event')} pending" if pending else ""
    letters = counted(dead, "dead letter") if dead else ""
    cures = []
    if pending:
        cures.append(
            f"add [destinations.{destination}] again; after max_age they become dead letters"
        )
    if dead:
        drop = f"gateway dead-letters delete --destination {destination}"
        cures.append(f"delete its dead letters with `{drop}`, or add it again to replay them")
    return Advice(
        f"{destination} was removed with {' and '.join(filter(None, [left, letters]))}",
        "; ".join(cures),
    )


def condition_failed(route: str, count: int) -> Advice:
    """Return what to say about a condition or filter that cannot be evaluated."""
    return Advice(
        f"The condition of {route} failed for {counted(count, 'event')}",
        "see condition_failed in the log, then fix the condition",
    )


# The cluster


def streams_unled(streams: Sequence[str]) -> Advice:
    """Return what to say about streams whose leader does not answer."""
    return Advice(
        f"NATS does not answer for {', '.join(streams)}",
        "wait for the election of a leader; if it lasts, start the servers that are away",
    )


def shards_unowned(shards: Sequence[int]) -> Advice:
    """Return what to say about shards that no gateway delivers."""
    numbers = ", ".join(map(str, shards))
    return Advice(
        f"No gateway delivers shard {numbers}" if len(shards) == 1
        else f"No gateway delivers shards {numbers}",
        "a takeover lasts some seconds; if it lasts longer, shard_claim_failed or log_lost in the "
        "gateways' logs says why: see \"If NATS lost something\" in docs/cluster.md",
    )  # fmt: skip


def servers_behind(servers: Sequence[str]) -> Advice:
    """Return what to say about NATS servers that lack a part of the log."""
    names = ", ".join(servers)
    one = len(servers) == 1
    return Advice(
        f"NATS {'server' if one else 'servers'} {names} {'is' if one else 'are'} away or behind",
        f"start {'it' if one else 'them'}; meanwhile fewer servers may fail than replicas allow",
    )


def node_gone(node: str, silent: float) -> Advice:
    """Return what to say about a gateway that fell silent without leaving."""
    return Advice(
        f"Gateway {node} was last heard {spoken(silent)} ago",
        "start it again; the others deliver its shards",
    )


def configs_differ(node: str, others: Sequence[str]) -> Advice:
    """Return what to say about gateways with another configuration than the one that tells."""
    names = ", ".join(others)
    return Advice(
        f"The configuration of {names} differs from that of {node}",
        "give all gateways the same files, and reload each",
    )
