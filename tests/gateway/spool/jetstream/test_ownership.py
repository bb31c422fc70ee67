"""Who is alive, who owns which shard: rules on one node, and on clusters in virtual time."""

from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.spool.jetstream.ownership import CLAIM_INTERVAL, PATIENCE, Ownership, wanted_owners
from gateway.spool.jetstream.presence import (
    INTERVAL,
    LEASE,
    MARGIN,
    WARM_UP,
    Presence,
    SignOfLife,
    node_name,
)
from tests.gateway.spool.jetstream.cluster_simulation import ClusterSimulation, SimulatedNode

SHARDS = 8
AGAIN = WARM_UP + LEASE + 3 * PATIENCE
"""Seconds after the last fault in which a cluster becomes as it should be."""

# ---- one node --------------------------------------------------------------------------------


def listening(presence: Presence, until: float, begin: float = 0.0) -> float:
    """Let a node hear itself from *begin* to *until*; return when it heard itself last."""
    now = begin
    while now + INTERVAL <= until:
        now += INTERVAL
        presence.hear(SignOfLife(presence.node, now), now)
    return now


def test_a_name_is_that_of_one_start() -> None:
    """Two starts on one host have different names."""
    assert node_name("shop-1") != node_name("shop-1")
    assert node_name("shop-1").startswith("shop-1-")


def test_a_node_stops_before_others_may_begin() -> None:
    """A lease counts from when a sign was sent, and ends a margin before others take over."""
    presence = Presence("a")
    presence.hear(SignOfLife("a", 100.0), 100.4)
    assert presence.leased(100.0 + LEASE - MARGIN - 0.01)
    assert not presence.leased(100.0 + LEASE - MARGIN)
    assert not presence.lapsed(100.0 + LEASE - 0.01)
    assert presence.lapsed(100.0 + LEASE)


def test_a_lapsed_lease_is_not_renewed_before_the_shards_are_dropped() -> None:
    """After a pause, a sign of before it does not make the old shards deliver again."""
    presence = Presence("a")
    presence.hear(SignOfLife("a", 100.0), 100.0)
    presence.hear(SignOfLife("a", 109.9), 110.0)
    assert presence.lapsed(110.0)
    assert not presence.leased(110.0)
    presence.lapse()
    presence.hear(SignOfLife("a", 110.1), 110.2)
    assert presence.leased(110.2)


def test_a_node_is_ready_after_a_whole_lease() -> None:
    """A node is ready once it listened for `WARM_UP` without a break, at the start and later."""
    presence = Presence("a")
    last = listening(presence, INTERVAL + WARM_UP - 0.1)
    assert not presence.ready(last)
    last = listening(presence, INTERVAL + WARM_UP + INTERVAL, last)
    assert presence.ready(last)
    again = last + LEASE - MARGIN + 0.2  # a break, though not long enough to lapse
    presence.hear(SignOfLife("a", again), again)
    assert presence.leased(again)
    assert not presence.ready(again)


def test_an_old_sign_does_not_undo_a_newer_one() -> None:
    """Of two signs of a node, the one that was sent later counts, whichever is heard last."""
    presence = Presence("a")
    presence.hear(SignOfLife("b", 7.0, owned={1: 1}), 100.0)
    presence.hear(SignOfLife("b", 6.4, owned={2: 1}), 100.1)
    assert presence.others(100.2)["b"].sign.owned == {1: 1}
    assert presence.others(100.0 + LEASE) == {}


def test_who_falls_silent_without_leaving_is_gone_until_it_is_replaced() -> None:
    """A node on the same host takes its place; after a pause of its own, nobody knows who went."""
    presence = Presence("a-1")
    now = listening(presence, WARM_UP)
    for node, leaving in (("b-1", False), ("c-1", True), ("d-1", False)):
        presence.hear(SignOfLife(node, now, leaving=leaving), now)
    now = listening(presence, now + LEASE + INTERVAL, now)
    assert presence.others(now) == {}
    assert set(presence.gone(now)) == {"b-1", "d-1"}
    presence.hear(SignOfLife("b-2", now), now)
    presence.hear(SignOfLife("d-1", now), now)
    assert presence.gone(now) == {}
    assert presence.others(now + 2 * LEASE) == presence.gone(now + 2 * LEASE) == {}


def ready_ownership(shards: int = 1) -> tuple[Ownership, float]:
    """Return the ownership of a node that is ready, and the time."""
    ownership = Ownership(Presence("a"), shards)
    return ownership, listening(ownership.presence, 2 * WARM_UP)


def test_a_node_claims_nothing_that_another_names() -> None:
    """A shard is claimed once nobody alive names it, and tried again only after a while."""
    ownership, now = ready_ownership()
    ownership.presence.hear(SignOfLife("b", 1.0, owned={0: 3}), now)
    assert not ownership.decide(now).claim
    ownership.presence.hear(SignOfLife("b", 1.1), now)
    assert ownership.decide(now).claim == [0]
    assert not ownership.decide(now).claim
    ownership.ended(0, now)
    assert not ownership.decide(now + CLAIM_INTERVAL - 0.01).claim
    assert ownership.decide(now + CLAIM_INTERVAL).claim == [0]


def claiming(ownership: Ownership, now: float) -> float:
    """Let a node claim shard 0 anew; return when."""
    if 0 in ownership.held:
        ownership.ended(0, now)
    now += CLAIM_INTERVAL + 0.01
    presence = ownership.presence
    presence.hear(SignOfLife(presence.node, now), now)
    assert ownership.decide(now).claim == [0]
    return now


def test_a_shard_is_not_taken_from_one_that_just_claimed_it() -> None:
    """An owner whose signs do not name the shard yet keeps it; one that let it go does not."""
    ownership, now = ready_ownership()
    now = claiming(ownership, now)
    assert ownership.may_claim(0, "gone", now)
    assert ownership.may_claim(0, "a", now)
    ownership.presence.hear(SignOfLife("b", 1.0), now)
    assert not ownership.may_claim(0, "b", now)
    looked = now
    while now - looked < INTERVAL + MARGIN:
        ownership.presence.hear(SignOfLife("b", now), now)
        assert not ownership.may_claim(0, "b", now)
        now = claiming(ownership, now)
    ownership.presence.hear(SignOfLife("b", now), now)
    assert ownership.may_claim(0, "b", now)
    ownership.presence.hear(SignOfLife("b", now + 0.1, owned={0: 0}), now)
    assert not ownership.may_claim(0, "b", now)


def test_nothing_is_taken_by_a_claim_that_had_to_wait() -> None:
    """After the servers did not answer for a while, the owner's signs are waited for."""
    ownership, now = ready_ownership()
    now = claiming(ownership, now)
    later = now + 2 * MARGIN
    assert not ownership.may_claim(0, "gone", later)
    ownership.ended(0, later)
    ownership.presence.hear(SignOfLife("a", later), later)
    assert not ownership.decide(later + INTERVAL + MARGIN - 0.01).claim
    assert ownership.decide(later + INTERVAL + MARGIN).claim == [0]
    assert ownership.may_claim(0, "gone", later + INTERVAL + MARGIN)


def test_a_shard_that_another_claimed_later_is_dropped() -> None:
    """A node drops its shard once it hears of a later claim, and not for an earlier one."""
    ownership, now = ready_ownership()
    ownership.decide(now)
    ownership.claimed(0, 4)
    ownership.presence.hear(SignOfLife("b", 1.0, owned={0: 3}), now)
    assert not ownership.decide(now).drop
    ownership.presence.hear(SignOfLife("b", 1.1, owned={0: 5}), now)
    assert ownership.decide(now).drop == [0]
    assert not ownership.decide(now).drop
    assert ownership.held == {0: 4}  # until nothing of it runs
    ownership.ended(0, now)
    assert ownership.held == {}


def test_a_claim_that_was_dropped_meanwhile_owns_nothing() -> None:
    """What a claim returns after the lease lapsed does not bring the shard back."""
    ownership, now = ready_ownership()
    assert ownership.decide(now).claim == [0]
    assert ownership.decide(now + LEASE).drop == [0]
    ownership.claimed(0, 1)
    ownership.leave()
    assert not ownership.decide(now + LEASE).give


def test_a_shard_is_given_once_it_is_wanted_elsewhere_for_a_while() -> None:
    """A shard must be wanted elsewhere for `PATIENCE` without a break before it is given."""
    ownership, now = ready_ownership(64)
    for shard in ownership.decide(now).claim:
        ownership.claimed(shard, 1)
    for wait, ready in ((0.0, True), (0.9, False), (1.0, True), (1.9, True)):
        at = now + wait
        ownership.presence.hear(SignOfLife("a", at), at)
        ownership.presence.hear(SignOfLife("b", at, ready=ready), at)
        assert not ownership.decide(at).give
    assert len(ownership.decide(now + 1.01 + PATIENCE).give) == 32
    assert not ownership.decide(now + 1.01 + PATIENCE).give


def test_a_sign_is_sent_in_turn_and_when_something_changes() -> None:
    """A sign is due each `INTERVAL`, and at once when a shard is held or the node leaves."""
    ownership, now = ready_ownership()
    assert ownership.sign(now) is not None
    assert ownership.sign(now + INTERVAL - 0.01) is None
    ownership.decide(now)
    claiming = ownership.sign(now + 0.01)
    assert claiming is not None
    assert (claiming.ready, claiming.leaving, claiming.owned) == (True, False, {0: 0})
    ownership.claimed(0, 1)
    assert ownership.sign(now + 0.02) == SignOfLife(
        "a", now + 0.02, ready=True, leaving=False, owned={0: 1}
    )
    ownership.leave()
    assert ownership.sign(now + 0.03) is not None
    assert ownership.sign(now + 0.04 + INTERVAL) is not None


# ---- who should own what -----------------------------------------------------------------------

names = st.frozensets(st.text(min_size=1, max_size=8), min_size=1, max_size=6)


@settings(max_examples=30)
@given(nodes=names, shards=st.integers(1, 32))
def test_shards_are_shared_out_evenly(nodes: frozenset[str], shards: int) -> None:
    """Every shard has an owner, and no node more than its share."""
    wanted = wanted_owners(nodes, shards)
    assert len(wanted) == shards
    assert set(wanted) <= nodes
    assert max(map(wanted.count, nodes)) <= -(-shards // len(nodes))


def test_few_shards_move_when_a_node_comes() -> None:
    """A new node takes its share, and few shards move between the others."""
    for number in range(2, 7):
        nodes = [node_name(f"n{n}") for n in range(number + 1)]
        before, after = (wanted_owners(frozenset(nodes[:n]), 240) for n in (number, number + 1))
        moved = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
        beside = sum(1 for _, new in moved if new != nodes[-1])
        assert len(moved) - beside <= -(-240 // (number + 1))
        assert beside <= 240 // 5


# ---- clusters ------------------------------------------------------------------------------------

Fault = Callable[[ClusterSimulation, SimulatedNode], None]


def cluster(nodes: int, shards: int = SHARDS, seed: int = 0) -> ClusterSimulation:
    """Return a cluster whose nodes own their shares."""
    found = ClusterSimulation(shards, seed)
    for _ in range(nodes):
        found.start()
    found.run(WARM_UP + 3 * PATIENCE)
    assert_calm(found)
    return found


def assert_calm(found: ClusterSimulation) -> None:
    """Check that each shard runs on the node that should own it, and nowhere else."""
    up = found.up()
    wanted = wanted_owners(frozenset(node.name for node in up), found.shards)
    for shard in range(found.shards):
        assert [node.name for node in up if shard in node.running] == [wanted[shard]]
        assert found.journals[shard].owner == wanted[shard]


def part(found: ClusterSimulation, *nodes: SimulatedNode) -> None:
    """Part *nodes* from the others and from the journals."""
    found.apart = [node.name for node in nodes]


@pytest.mark.parametrize("seed", range(5))
def test_a_killed_nodes_shards_are_delivered_again_within_a_second_after_the_lease(
    seed: int,
) -> None:
    """After `kill -9` every shard is delivered again within a lease and a second."""
    found = cluster(3, seed=seed)
    begin = found.now
    found.kill(found.up()[0])
    found.run(LEASE + 1)
    assert max(found.gaps(begin, found.now)) < LEASE + 1
    found.run(3 * PATIENCE)
    assert_calm(found)
    assert not any(each.fenced for each in found.deliveries)
    assert not found.out_of_order()


@pytest.mark.parametrize("seed", range(5))
def test_a_node_that_stops_hands_over_without_a_gap(seed: int) -> None:
    """After SIGTERM nothing is repeated, and no shard waits for half a second."""
    found = cluster(3, seed=seed)
    begin, leaving = found.now, found.up()[0]
    found.stop(leaving)
    found.run(5)
    assert not leaving.alive
    assert max(found.gaps(begin, found.now)) < 0.5
    assert not found.repeats(begin)
    assert_calm(found)


def test_all_nodes_may_stop_at_once() -> None:
    """Nodes that all leave release everything, and the next ones begin where they ended."""
    found = cluster(2)
    for node in found.up():
        found.stop(node)
    found.run(1)
    assert all(journal.released for journal in found.journals)
    begin = found.now
    found.start()
    found.run(2 * WARM_UP)
    assert not found.repeats(begin)
    assert not found.out_of_order()
    assert_calm(found)


def test_a_new_node_moves_each_shard_at_most_once() -> None:
    """A node that joins gets its share without a repeat, and then nothing moves any more."""
    found = cluster(2)
    begin = found.now
    found.start()
    found.run(WARM_UP + 3 * PATIENCE)
    assert_calm(found)
    moved = [shard for at, _, shard in found.moves if at >= begin]
    assert len(moved) == len(set(moved)) >= SHARDS // 3
    assert not found.repeats(begin)
    ended = found.now
    found.run(60)
    assert not [move for move in found.moves if move[0] >= ended]


@pytest.mark.parametrize("seconds", [0.5, 2.0, 2.8, 3.2, 6.0, 12.0])
def test_a_paused_node_judges_nobody_when_it_wakes(seconds: float) -> None:
    """After a pause a node claims nothing for `WARM_UP`, and delivers nothing that was claimed."""
    found = cluster(3)
    node, begin = found.up()[0], found.now
    found.pause(node, seconds)
    found.run(seconds + WARM_UP)
    assert not [move for move in found.moves if move[0] >= begin and move[1] == node.name]
    found.run(AGAIN)
    assert_calm(found)
    assert not any(each.fenced for each in found.deliveries)
    assert not found.out_of_order()


def test_all_nodes_may_be_paused_at_once() -> None:
    """When all wake, as after a machine was suspended, they agree again and nothing is skipped."""
    found = cluster(3)
    for node in found.up():
        found.pause(node, 8)
    found.run(8 + AGAIN)
    assert_calm(found)
    assert not found.out_of_order()


def test_the_minority_stops_by_itself() -> None:
    """A node cut off from all journals loses its shards, delivers little, and takes part again."""
    found = cluster(3)
    node, begin = found.up()[0], found.now
    part(found, node)
    found.run(60)
    assert not found.out_of_order()
    late = [d for d in found.deliveries if d.at > begin + 10]
    assert {d.shard for d in late} == set(range(SHARDS))
    assert node.name not in {d.node for d in late}
    healed = found.now
    part(found)
    found.run(AGAIN)
    assert_calm(found)
    assert not found.out_of_order()
    assert not [taken for taken in found.taken if taken[0] >= healed]


def test_a_claim_whose_answer_was_lost_leaves_no_shard_without_owner() -> None:
    """A shard that its owner does not know to own goes to the one that should own it."""
    found = cluster(2)
    one, other = found.up()
    for shard, journal in enumerate(found.journals):
        journal.owner = other.name if journal.owner == one.name else one.name
        journal.epoch += 1
        assert shard not in found.nodes[journal.owner].running
    found.run(AGAIN)
    assert_calm(found)


faults = st.lists(
    st.tuples(
        st.sampled_from(["kill", "stop", "pause", "part", "loss", "late", "unsure", "start"]),
        st.integers(0, 4),
        st.floats(0.1, 9.0),
        st.floats(0.05, 4.0),
    ),
    max_size=12,
)


@settings(max_examples=25)
@example(seed=0, nodes=2, faults=[("part", 0, 3.0, 1.0)])  # a shard is dropped while it is given
@given(seed=st.integers(0, 2**16), nodes=st.integers(1, 4), faults=faults)
@example(seed=1, nodes=3, faults=[("loss", 0, 9.0, 0.1), ("unsure", 0, 9.0, 4.0)] * 3)
def test_whatever_happens_order_holds_and_every_shard_finds_its_owner(
    seed: int, nodes: int, faults: list[tuple[str, int, float, float]]
) -> None:
    """Under all faults first deliveries stay in order; in calm every shard has its one owner."""
    found = ClusterSimulation(SHARDS, seed)
    for _ in range(nodes):
        found.start()
    found.run(WARM_UP + PATIENCE)
    for kind, number, seconds, then in faults:
        up = found.up()
        node = up[number % len(up)]
        if kind == "kill" and len(up) > 1:
            found.kill(node)
        elif kind == "stop" and len(up) > 1:
            found.stop(node)
        elif kind == "start" and len(up) < 6:
            found.start()
        elif kind == "pause":
            found.pause(node, seconds)
        else:
            set_fault(found, kind, seconds, node)
            found.after(seconds, lambda k=kind: set_fault(found, k, 0.0))  # type: ignore[misc] # bound now
        found.run(then)
    found.run(10)  # the faults end
    found.run(AGAIN)
    assert_calm(found)
    moves = len(found.moves)
    found.run(20)
    assert len(found.moves) == moves
    assert not found.out_of_order()
    assert max(found.gaps(found.now - 20, found.now)) < 1


def set_fault(
    found: ClusterSimulation, kind: str, much: float, node: SimulatedNode | None = None
) -> None:
    """Set how bad the network is; 0 is good."""
    if kind == "part":
        found.apart = [node.name] if node else []
    elif kind == "loss":
        found.loss = much / 9
    elif kind == "late":
        found.latency = (0.001, 0.03 + much / 4)
    elif kind == "unsure":
        found.unsure = much / 10
