"""When workers that ended are replaced, and when that is hopeless."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockwise_predict.fleet.restarts import RestartDecision, RestartPolicy, WorkerExit

SIZE = 2
FEW, MANY = 3, 3 * SIZE + 10
# What can happen: F a failed start, f one while others work, E any other end, J a worker joins, D a
# block is done.
HAPPENINGS = "FfEJD"


def told(happenings: str, size: int = SIZE) -> list[RestartDecision]:
    """What the policy says to each end."""
    policy, joins, done, said = RestartPolicy(1.0, 100.0), 0, 0, []
    for happening in happenings:
        joins += happening == "J"
        done += happening == "D"
        if happening in "FfE":
            said.append(
                policy.ended(WorkerExit(happening in "Ff", joins, done, happening == "f", size))
            )
    return said


def is_hopeless(history: str) -> bool:
    """As the rule is stated, of all that has happened until an end."""
    starts = history.rpartition("J")[2]
    since_last_start = history[len(history[:-1].rstrip("EJD")) :]
    row = sum(starts.count(each) for each in "Ff")
    if history[-1] == "F" and row >= FEW and "D" not in since_last_start:
        return True
    # The first end after a block is not one in a row without.
    ends = history.rpartition("D")[2].replace("J", "")
    counted = ends[1:] if "D" in history else ends
    return len(counted.replace("f", "")) > MANY


@given(st.text(HAPPENINGS, max_size=60))
def test_it_is_hopeless_when_the_rule_says_so_and_only_then(happenings: str) -> None:
    ends = [n for n, happening in enumerate(happenings) if happening in "FfE"]
    for place, verdict in zip(ends, told(happenings), strict=True):
        assert (verdict.hopeless is not None) == is_hopeless(happenings[: place + 1])
        assert 1.0 <= verdict.delay <= 100.0
        if verdict.hopeless is not None:
            return


@pytest.mark.parametrize(
    ("happenings", "hopeless"),
    [
        ("FF", None),
        ("FFF", "starts"),
        ("ffF", "starts"),
        ("FFf", None),
        ("FFJF", None),
        ("FFJFFF", "starts"),
        ("FFDF", None),
        ("FFDFF", "starts"),
        ("FFEF", "starts"),
        ("f" * 100, None),
        ("E" * MANY, None),
        ("E" * MANY + "E", "ends"),
        ("EJ" * MANY + "E", "ends"),
        ("E" * MANY + "D" + "E" * MANY, None),
    ],
)
def test_rows_of_ends(happenings: str, hopeless: str | None) -> None:
    assert told(happenings)[-1].hopeless == hopeless


@pytest.mark.parametrize(
    ("happenings", "delays"),
    [
        ("ffff", [2, 4, 8, 16]),
        ("f" * 9, [2, 4, 8, 16, 32, 64, 100, 100, 100]),
        ("ffJff", [2, 4, 2, 4]),
        # A worker that had worked is replaced at once, however a bad machine fares.
        ("ffffDE", [2, 4, 8, 16, 1]),
        # All may reach their time limit at once: each round of them counts as one.
        ("EEEEEE", [1, 2, 2, 4, 4, 8]),
    ],
)
def test_replacements_wait_longer_and_longer(happenings: str, delays: list[float]) -> None:
    assert [verdict.delay for verdict in told(happenings)] == delays
