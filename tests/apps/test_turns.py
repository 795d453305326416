"""Decisions over time: the path is the best one, and segments tell it."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdrnn.apps.speaker_id.turns import FixedLagViterbi, Segment, TurnBuilder


def value(path: tuple[int, ...], scores: np.ndarray, switch_cost: float) -> float:
    changes = sum(a != b for a, b in pairwise(path))
    return float(scores[range(len(path)), path].sum() - switch_cost * changes)


def decide(scores: np.ndarray, switch_cost: float, lag: int) -> list[int]:
    tracker = FixedLagViterbi(scores.shape[1], switch_cost, lag)
    decided = [tracker.push(row) for row in scores]
    return [state for state in decided if state is not None] + tracker.undecided()


@given(T=st.integers(1, 6), states=st.integers(1, 3), seed=st.integers(0, 1000), lag=st.integers(5, 8))
def test_with_all_evidence_heard_the_path_is_the_best_of_all(T: int, states: int, seed: int, lag: int) -> None:
    scores = np.random.default_rng(seed).normal(size=(T, states))
    best = max(value(path, scores, 0.7) for path in product(range(states), repeat=T))
    path = decide(scores, 0.7, lag)
    assert len(path) == T
    assert value(tuple(path), scores, 0.7) == pytest.approx(best)


@given(T=st.integers(0, 20), lag=st.integers(0, 4))
def test_every_step_is_decided_once_and_no_later_than_the_lag(T: int, lag: int) -> None:
    tracker = FixedLagViterbi(2, 0.5, lag)
    decided = 0
    for t in range(T):
        decided += tracker.push(np.array([0.0, (-1.0) ** (t // 3)])) is not None
        assert decided == max(0, t + 1 - lag)
    assert decided + len(tracker.undecided()) == T


def test_a_change_must_be_worth_its_price() -> None:
    blip = np.array([[1.0, 0.0]] * 5 + [[0.0, 0.4]] + [[1.0, 0.0]] * 5)
    assert decide(blip, 0.5, 3) == [0] * 11
    turn = np.array([[1.0, 0.0]] * 5 + [[0.0, 0.4]] * 6)
    assert decide(turn, 0.5, 3) == [0] * 5 + [1] * 6


def test_an_endless_stream_neither_overflows_nor_sticks() -> None:
    tracker = FixedLagViterbi(2, 0.5, 2)
    for _ in range(100):  # their plain sum is more than a float can hold
        tracker.push(np.array([0.0, 1e307]))
    assert [tracker.push(np.array([1e307, 0.0])) for _ in range(4)][-1] == 0


def test_segments_are_labelled_for_people() -> None:
    labels = [Segment(0, 1, speaker, score).label for speaker, score in (("Anna", 0.5), (None, 0.2), (None, 0.0))]
    assert labels == ["Anna", "(unknown)", "(silence)"]


def test_segments_join_equal_decisions() -> None:
    turns = TurnBuilder(0.1)
    decisions = [("a", 0.5), ("a", 0.7), (None, 0.2), ("b", 0.9), ("b", 0.8), ("b", 0.7)]
    ended = [segment for segment in (turns.push(*decision) for decision in decisions) if segment]
    assert [*ended, turns.finish(0.65)] == [
        Segment(0.0, 0.2, "a", 0.6),
        Segment(0.2, 0.3, None, 0.2),
        Segment(0.3, 0.65, "b", 0.8),
    ]
    assert TurnBuilder(0.1).finish(1.0) is None


def test_silence_and_a_stranger_do_not_join() -> None:
    turns = TurnBuilder(0.1)
    decisions = [(None, 0.0), (None, 0.0), (None, 0.3), (None, 0.1), (None, 0.0)]
    ended = [segment for segment in (turns.push(*decision) for decision in decisions) if segment]
    assert [*ended, turns.finish(0.5)] == [
        Segment(0.0, 0.2, None, 0.0),
        Segment(0.2, 0.4, None, 0.2),
        Segment(0.4, 0.5, None, 0.0),
    ]
