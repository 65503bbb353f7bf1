"""Steps that take long are told to whoever watches."""

from __future__ import annotations

import pytest

from blockwise_predict.config.steps import Doing, step, watched_by


def test_the_innermost_step_is_told_and_the_one_around_it_afterwards() -> None:
    told: list[str | None] = []

    def watch(doing: Doing | None) -> None:
        told.append(None if doing is None else str(doing))

    with watched_by(watch), step("opening"):
        with step("hashing", 8) as to:
            to(2)
            to(8)
        with step("looking"):
            pass
    assert told == [
        *("opening", "hashing, 0%", "hashing, 25%", "hashing, 100%", "opening"),
        *("looking", "opening", None),
    ]


def test_without_a_watcher_nothing_is_told() -> None:
    told: list[Doing | None] = []
    with watched_by(told.append):
        pass
    with step("hashing", 8) as to:
        to(1)
    assert told == []


def test_a_step_that_fails_has_ended() -> None:
    told: list[Doing | None] = []
    with watched_by(told.append):
        with pytest.raises(ValueError, match="bad"), step("hashing"):
            raise ValueError("bad")
        with step("nothing to do", 0):
            pass
    assert told == [Doing("hashing"), None, Doing("nothing to do", 0, 0), None]
    assert str(told[2]) == "nothing to do"
