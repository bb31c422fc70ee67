"""The limit on repeated log lines."""

from gateway.log_limit import LogLimit


def test_the_first_lines_of_a_kind_are_written_and_all_are_counted() -> None:
    """Per interval only the first lines of a kind pass; each has the count of all so far."""
    now = [0.0]
    limit = LogLimit(2, 10.0, lambda: now[0])
    assert [limit.take("a") for _ in range(4)] == [1, 2, 0, 0]
    assert limit.take("b") == 1
    now[0] = 9.9
    assert limit.take("a") == 0
    now[0] = 10.0
    assert [limit.take("a") for _ in range(3)] == [6, 7, 0]
    assert limit.counts["a"] == 8
