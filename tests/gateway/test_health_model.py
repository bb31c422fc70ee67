"""How the health of a gateway follows from the facts."""

from typing import Any

import pytest
from msgspec.structs import replace

from gateway.delivery.file_uploads import UploadStatus
from gateway.errors import RefusalCause
from gateway.observability.health_model import (
    ACCEPTED,
    BEHIND,
    CLIENT_KEY,
    DestinationFacts,
    GatewayHealth,
    HealthSnapshot,
    SourceFacts,
    SpoolFacts,
    judge,
    judge_cluster,
)
from gateway.observability.recent_traffic import RecentOutcomes
from gateway.spool.cluster import ClusterNode, ClusterShard, ClusterState, ClusterStream

NOW = 1_800_000_000.0
ROOM = SpoolFacts("", 10, 100)
OK = RecentOutcomes({"delivered": 100})


def crm(**facts: Any) -> DestinationFacts:
    """Return a destination that works, with other *facts*."""
    well = DestinationFacts(
        name="crm", vendor="chrts", credential="api_key", paused=False, circuit="closed", cause="",
        reason="", opens_in=0.0, asked_to_wait=0.0, pause_length=0.0, full="", behind=0.0,
        pending=0, dead_letters=0, unaccounted=0, recent=OK,
    )  # fmt: skip
    return well._replace(**facts)


def shop(refused: int = 0, cause: str = RefusalCause.FORBIDDEN, accepted: int = 100) -> SourceFacts:
    """Return a source with so many requests in the last minute."""
    counts = {ACCEPTED: accepted, cause: refused}
    recent = RecentOutcomes({name: count for name, count in counts.items() if count})
    return SourceFacts("shop", "segment", ("crm",), recent)


def judged(
    destination: DestinationFacts | None = None, source: SourceFacts | None = None, **more: Any
) -> GatewayHealth:
    """Return the health of a gateway with one source and one destination."""
    facts: dict[str, Any] = {"not_ready": "", "spool": ROOM} | more
    return judge(
        HealthSnapshot(
            now=NOW, sources=[source or shop()], destinations=[destination or crm()], **facts
        )
    )


@pytest.mark.parametrize(
    ("uploads", "circuit", "state", "said"),
    [
        (UploadStatus(0, 0, "", "", 5, 1), "closed", "healthy", ""),
        (
            UploadStatus(2, 2_600_000, "HTTP 403: AccessDenied", "credential", 0, 3),
            "closed",
            "refused",
            (
                "HTTP 403: AccessDenied; meanwhile 2 files (2.6 MB) wait: fix access_key, "
                "secret_key or what they may do, then reload"
            ),
        ),
        (
            UploadStatus(1, 100_000, "there is no bucket b", "bucket", 0, 3),
            "closed",
            "failing",
            (
                "there is no bucket b; meanwhile 1 file (0.1 MB) waits: make the bucket, or fix "
                "bucket and region, then reload"
            ),
        ),
        (
            UploadStatus(9, 9_000_000, "no answer", "server", 0, 3),
            "open",
            "stopped",
            (
                "no answer; nothing is written, since 9 files (9.0 MB) wait: check endpoint of "
                "crm, and whether it is up"
            ),
        ),
    ],
)
def test_files_that_cannot_be_uploaded_are_a_failure_of_their_destination(
    uploads: UploadStatus, circuit: str, state: str, said: str
) -> None:
    """A failed upload decides about state, headline and cure of a destination that takes events."""
    found = judged(crm(vendor="file", uploads=uploads, circuit=circuit))
    assert found.destinations[0].state == state
    expected = f"crm cannot upload its files: {said}; the gateway keeps trying"
    assert found.headline == (expected if said else "Everything is healthy")


def test_a_gateway_that_works_is_healthy() -> None:
    """Without a problem everything is healthy and there are no findings."""
    found = judged()
    assert (found.state, found.findings) == ("healthy", [])
    assert (found.destinations[0].state, found.sources[0].state) == ("healthy", "accepting")
    assert found.spool.state == "accepting"


FAILING = RecentOutcomes({"delivered": 8, "retry": 2, "dead_letter": 0})


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ({"recent": RecentOutcomes({"retry": 1})}, "failing"),
        ({"recent": RecentOutcomes({"delivered": 1, "retry": 1})}, "healthy"),
        ({"recent": RecentOutcomes({"delivered": 8, "retry": 2})}, "healthy"),
        ({"recent": RecentOutcomes({"delivered": 12, "retry": 3})}, "failing"),
        ({"recent": RecentOutcomes({"delivered": 13, "retry": 3})}, "healthy"),
        ({"recent": RecentOutcomes({"dead_letter": 160}), "dead_letters": 160}, "failing"),
        ({"recent": RecentOutcomes({"retry": 5}, age=7200), "pending": 1}, "failing"),
        ({"recent": RecentOutcomes({"retry": 5}, age=7200), "dead_letters": 1}, "failing"),
        ({"recent": RecentOutcomes({"retry": 5}, age=7200)}, "healthy"),
        ({"behind": BEHIND}, "behind"),
        ({"behind": BEHIND - 1}, "healthy"),
        ({"paused": True, "circuit": "open", "cause": "server"}, "paused"),
        ({"circuit": "open", "cause": "server", "behind": 900}, "stopped"),
        ({"circuit": "half_open", "cause": "connect"}, "stopped"),
        ({"circuit": "open", "cause": "credential"}, "refused"),
        ({"recent": RecentOutcomes({"retry": 1}), "cause": "credential"}, "refused"),
        ({"cause": "credential"}, "healthy"),
        ({"asked_to_wait": 1, "pause_length": 60, "cause": "limit"}, "stopped"),
        ({"asked_to_wait": 1, "pause_length": 2, "cause": "limit"}, "healthy"),
    ],
)
def test_the_state_of_a_destination(facts: dict[str, Any], state: str) -> None:
    """The state follows from pause, circuit, cause, failures and age, in this order."""
    assert judged(crm(**facts)).destinations[0].state == state


@pytest.mark.parametrize(
    ("facts", "level", "text"),
    [
        (
            {"circuit": "open", "cause": "credential", "pending": 3},
            "error",
            "Key refused by chrts, 3 pending: fix api_key of crm, then reload",
        ),
        (
            {"circuit": "open", "cause": "timeout", "vendor": "http", "pending": 3},
            "error",
            (
                "The API does not answer crm in time, 3 pending: check whether the API is up, or "
                "raise timeout of crm; the gateway keeps trying"
            ),
        ),
        (
            {"circuit": "open", "cause": "connect", "full": "at a bound", "pending": 9},
            "error",
            (
                "crm cannot be reached, 9 pending, its queue is full: check url of crm, DNS, the "
                "firewall, and whether chrts is up; the gateway keeps trying"
            ),
        ),
        (
            {"recent": RecentOutcomes({"dead_letter": 160}), "dead_letters": 160},
            "error",
            (
                "chrts refuses events of crm, 160 of the last 160 attempts failed, "
                "160 dead letters: read the reasons of its dead letters, fix the mapping, the "
                "settings or the sender, then replay"
            ),
        ),
        (
            {"recent": RecentOutcomes({"dead_letter": 4}), "cause": CLIENT_KEY, "dead_letters": 4},
            "error",
            (
                "chrts refuses the clients' keys at crm, 4 of the last 4 attempts failed, "
                "4 dead letters: fix the key in the clients that send, then replay the dead letters"
            ),
        ),
        (
            {"recent": RecentOutcomes({"retry": 4}), "cause": "server", "pending": 1},
            "error",
            (
                "chrts answers crm with errors, 4 of the last 4 attempts failed, 1 pending: check "
                "whether chrts is up; the gateway keeps trying"
            ),
        ),
        (
            {
                "circuit": "open",
                "cause": "server",
                "vendor": "file",
                "pending": 3,
                "reason": "HTTP 503: Permission denied: /a",
            },
            "error",
            (
                "crm cannot be written: Permission denied: /a, 3 pending: check the disk and path "
                "of crm; the gateway keeps trying"
            ),
        ),
        (
            {"behind": 540, "pending": 1200},
            "warning",
            (
                "crm is 9 minutes behind, 1,200 pending: it takes events more slowly than they "
                "come; raise concurrency or rate of crm, or wait"
            ),
        ),
        ({"paused": True}, "warning", "crm is paused by an operator, 0 pending: resume crm"),
        (
            {"dead_letters": 1},
            "warning",
            "crm has 1 dead letter: read the reasons, fix the cause, then replay or delete them",
        ),
        (
            {"full": "destination 'crm' has reached max_backlog (5)"},
            "error",
            "No new events are accepted for crm: destination 'crm' has reached max_backlog (5)",
        ),
        (
            {"unaccounted": 2},
            "error",
            "Deliveries to crm that are unaccounted for: 2: see balance_wrong in the log",
        ),
    ],
)
def test_a_destination_has_one_finding(facts: dict[str, Any], level: str, text: str) -> None:
    """All that is wrong with a destination is one finding, with its cause and its cure."""
    findings = judged(crm(**facts)).findings
    (found,) = (one for one in findings if one.subject == "destination")
    assert (found.level, found.text, found.name) == (level, text, "crm")


@pytest.mark.parametrize(("failed", "state"), [(10.9, "failing"), (11.0, "healthy")])
def test_a_destination_recovers(failed: float, state: str) -> None:
    """Ten seconds in which attempts only succeed end the failure, whatever failed before."""
    recent = RecentOutcomes({"retry": 50, "delivered": 5}, ages={"retry": failed, "delivered": 1})
    assert judged(crm(recent=recent)).destinations[0].state == state


def test_the_next_attempt_has_a_time() -> None:
    """A stopped destination says until when, and what the vendor answered."""
    (found,) = judged(
        crm(circuit="open", cause="server", reason="HTTP 503", opens_in=4.0)
    ).destinations
    assert (found.until, found.detail) == (NOW + 4, "HTTP 503")
    (waits,) = judged(crm(asked_to_wait=30.0, pause_length=60.0, cause="limit")).destinations
    assert waits.until == NOW + 30
    assert judged(crm(recent=RecentOutcomes({"retry": 4}))).destinations[0].until is None


@pytest.mark.parametrize(
    ("source", "cause", "level"),
    [
        (shop(refused=25, accepted=0), "forbidden", "error"),
        (shop(refused=1, accepted=0), "forbidden", "error"),
        (shop(refused=25, accepted=100), "forbidden", "warning"),
        (shop(refused=2, accepted=2), "", ""),
        (shop(refused=3, accepted=13), "", ""),
        (shop(refused=9, cause=RefusalCause.SPOOL_FAILED), "", ""),
        (shop(refused=30, cause=RefusalCause.SPOOL_FAILED), "spool_failed", "error"),
    ],
)
def test_the_state_of_a_source(source: SourceFacts, cause: str, level: str) -> None:
    """A source is refusing if too many of its requests are refused; the main cause is shown."""
    found = judged(source=source)
    assert found.sources[0].cause == cause
    assert [one.level for one in found.findings] == ([level] if level else [])


def test_old_refusals_are_forgotten() -> None:
    """An hour after its last request a source is accepting again."""
    refused = shop(refused=25, accepted=0)
    aged = [refused._replace(recent=refused.recent._replace(age=age)) for age in (3599, 3600)]
    assert [judged(source=one).sources[0].state for one in aged] == ["refusing", "accepting"]


@pytest.mark.parametrize("cause", list(RefusalCause))
def test_every_cause_has_words(cause: RefusalCause) -> None:
    """The finding about each cause names the source, the number and a cure."""
    (found,) = judged(source=shop(refused=7, cause=cause, accepted=0)).sources
    if cause is not RefusalCause.NOT_ACCEPTING:
        assert "shop" in found.headline
    assert "7 of the last 7 requests refused" in found.headline
    assert found.cure
    assert "{" not in found.headline + found.cure


def test_a_full_destination_is_the_cause() -> None:
    """A source whose destinations are all full is refusing before anybody sends."""
    full = crm(
        full="destination 'crm' has reached max_backlog (5)", circuit="open", cause="connect"
    )
    found = judged(full, shop(accepted=0))
    assert (found.sources[0].state, found.sources[0].cause) == ("refusing", "spool_full")
    assert found.sources[0].headline == (
        "shop refuses senders because crm is full, every request refused"
    )
    assert [one.name for one in found.findings] == ["crm", "shop"]


def test_a_gateway_that_accepts_nothing_is_down() -> None:
    """A gateway that is not ready is down, and says why, once."""
    found = judged(not_ready="starting or stopping")
    assert (found.state, found.sources[0].state) == ("down", "refusing")
    assert [one.text for one in found.findings] == [
        "The gateway accepts no events: starting or stopping"
    ]
    failed = judged(not_ready="the disk fails", spool=SpoolFacts("the disk fails", 10, 100))
    assert [one.subject for one in failed.findings] == ["spool"]
    assert failed.spool.state == "refusing"


def test_a_spool_fills() -> None:
    """From 80 % of its size on, the spool is filling."""
    assert judged(spool=SpoolFacts("", 79, 100)).spool.state == "accepting"
    found = judged(spool=SpoolFacts("", 80, 100))
    assert (found.spool.state, found.state) == ("filling", "degraded")
    assert found.findings[0].headline == "The spool is 80% full"


def test_requests_that_reach_no_source_are_named() -> None:
    """Requests at unknown addresses are a finding while no source has accepted any."""
    lost = RecentOutcomes({RefusalCause.NOT_FOUND: 2})
    found = judged(source=shop(accepted=0), elsewhere=lost)
    assert found.findings[0].headline == "2 requests came to an address that no source serves"
    assert judged(elsewhere=lost).findings == []


def test_errors_come_first_and_notes_change_no_state() -> None:
    """Findings are ordered by level; warnings of the configuration are notes."""
    noted = judged(config_warnings=["keys accepts any key"])
    assert (noted.state, noted.headline) == ("healthy", "Everything is healthy")
    assert noted.findings[0].text == "Keys accepts any key"
    placed = judged(config_warnings=["gateway.toml:3: keys accepts any key"])
    assert placed.findings[0].text == "gateway.toml:3: keys accepts any key"
    found = judged(
        crm(behind=100),
        shop(refused=9, accepted=0),
        config_warnings=["keys accepts any key"],
        failed_conditions={"orders": 2},
    )
    assert [one.level for one in found.findings] == ["error", "warning", "warning", "note"]
    assert (found.state, found.headline) == ("degraded", found.findings[0].text)
    assert judged(crm(paused=True)).state == "attention"


NODE = ClusterNode("a-1", "ready", "1", NOW, 0.0, "same")
OTHER = replace(NODE, name="b-1")
SHARD = ClusterShard(0, "a-1", 1, 0, 0.0)
STREAM = ClusterStream("g_LOG", "s1", 3, 3, [])
CLUSTER = ClusterState("a-1", [NODE, OTHER], [SHARD], [STREAM])


@pytest.mark.parametrize(
    ("cluster", "level", "headline"),
    [
        (
            replace(CLUSTER, shards=[replace(SHARD, owner="")]),
            "error",
            "No gateway delivers shard 0",
        ),
        (
            replace(CLUSTER, streams=[replace(STREAM, leader="", current=0)]),
            "error",
            "NATS does not answer for g_LOG",
        ),
        (
            replace(CLUSTER, streams=[replace(STREAM, current=1, behind=["s2", "s3"])]),
            "warning",
            "NATS servers s2, s3 are away or behind",
        ),
        (
            replace(CLUSTER, nodes=[NODE, replace(OTHER, state="gone", silent=180, config="x")]),
            "warning",
            "Gateway b-1 was last heard 3 minutes ago",
        ),
        (
            replace(CLUSTER, nodes=[NODE, replace(OTHER, config="x")]),
            "warning",
            "The configuration of b-1 differs from that of a-1",
        ),
    ],
)
def test_troubles_of_a_cluster_are_named(cluster: ClusterState, level: str, headline: str) -> None:
    """Each trouble is one finding, with a cure, and makes the gateway's own health worse."""
    (finding,) = judge_cluster(cluster)
    assert (finding.level, finding.headline, finding.page) == (level, headline, "cluster")
    assert finding.cure
    assert judged(cluster=cluster).findings == [finding]
    assert judge_cluster(CLUSTER) == []
