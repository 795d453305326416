"""Decisions over time: the path is the best one, and segments tell it."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdrnn.apps.speaker_id.turns import Decision, FixedLagViterbi, Segment, TurnBuilder


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
    segments = [Segment(0, 1, "Anna", 0.5), Segment(0, 1, None, 0.2), Segment(0, 1, None, 0.0, nobody="(silence)")]
    assert [one.label for one in segments] == ["Anna", "(unknown)", "(silence)"]
    assert segments[0].as_object() == {
        "start": 0, "end": 1, "speaker": "Anna", "score": 0.5, "probability": 0.0, "label": "Anna", "overlap": 0.0
    }  # fmt: skip


def segments(decisions: str, end: float) -> list[Segment]:
    """Of ticks of 0.1 s: A and B are voices, ? is a stranger's, - is silence."""
    turns = TurnBuilder(0.1)
    nobody = {"?": Decision(None, "(unknown)", 0.2, 0.9), "-": Decision(None, "(silence)")}
    ended = [turns.push(nobody.get(letter, Decision(letter, "(unknown)", 0.5, 0.8))) for letter in decisions]
    return [segment for segment in (*ended, turns.finish(end)) if segment is not None]


def test_segments_join_equal_decisions() -> None:
    turns = TurnBuilder(0.1)
    decisions = [Decision("a", "(unknown)", 0.5, 0.9)] * 5 + [Decision("a", "(unknown)", 0.7, 0.7)] * 5
    decisions += [Decision("b", "(unknown)", 0.8, 1.0)] * 6
    ended = [segment for segment in map(turns.push, decisions) if segment]
    assert [*ended, turns.finish(1.65)] == [Segment(0.0, 1.0, "a", 0.6, 0.8), Segment(1.0, 1.65, "b", 0.8, 1.0)]
    assert TurnBuilder(0.1).finish(1.0) is None


def test_silence_and_a_stranger_do_not_join() -> None:
    assert segments("-----?????-----", 1.5) == [
        Segment(0.0, 0.5, None, 0.0, nobody="(silence)"),
        Segment(0.5, 1.0, None, 0.2, 0.9),
        Segment(1.0, 1.5, None, 0.0, nobody="(silence)"),
    ]


def test_crumbs_go_to_the_segment_before_them() -> None:
    assert segments("AAAAAA??-BBBBB", 1.4) == [Segment(0.0, 0.9, "A", 0.5, 0.8), Segment(0.9, 1.4, "B", 0.5, 0.8)]
    assert segments("AAAAAA????AA", 1.2) == [Segment(0.0, 1.2, "A", 0.5, 0.8)]
    assert segments("AAAAAABBB", 0.9) == [Segment(0.0, 0.9, "A", 0.5, 0.8)]


def test_at_the_beginning_crumbs_go_to_the_segment_after_them() -> None:
    assert segments("?--AAAAA", 0.8) == [Segment(0.0, 0.8, "A", 0.5, 0.8)]
    assert segments("??", 0.2) == segments("A?", 0.2) == [Segment(0.0, 0.2, None, 0.2, 0.9)]


@given(ticks=st.lists(st.tuples(st.sampled_from("AB"), st.booleans()), min_size=1, max_size=60))
def test_overlaps_are_counted_where_they_are_told_also_in_crumbs(ticks: list[tuple[str, bool]]) -> None:
    turns = TurnBuilder(0.1)
    ended = [turns.push(Decision(name, "(unknown)", overlap=overlap)) for name, overlap in ticks]
    found = [segment for segment in (*ended, turns.finish(len(ticks) / 10)) if segment is not None]
    whole = segments("".join(name for name, _ in ticks), len(ticks) / 10)
    assert [one._replace(overlap=0.0)[:3] for one in found] == [one[:3] for one in whole], "they part nothing"
    for one in found:
        inside = ticks[round(10 * one.start) : round(10 * one.end)]
        assert one.overlap == pytest.approx(0.1 * sum(overlap for _, overlap in inside))


@given(decisions=st.text("AB?-", min_size=1, max_size=60))
def test_segments_follow_each_other_and_last(decisions: str) -> None:
    end = len(decisions) / 10
    found = segments(decisions, end)
    assert [found[0].start, *(one.end for one in found)] == [*(one.start for one in found), end]
    assert all(before.label != after.label for before, after in pairwise(found))
    assert len(found) == 1 or all(one.end - one.start > 0.49 for one in found)


def test_a_segment_is_told_as_soon_as_what_follows_is_no_crumb() -> None:
    turns = TurnBuilder(0.1)
    decisions = [Decision("a", "(unknown)")] * 10 + [Decision("b", "(unknown)")] * 5
    assert [turns.push(decision) is not None for decision in decisions] == [False] * 14 + [True]
