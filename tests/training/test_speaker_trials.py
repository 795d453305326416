"""Trials are fair, and their errors are what a plain count says."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from streamdrnn.apps.training import speaker_trials
from streamdrnn.apps.training.speaker_trials import (
    RESAMPLES,
    SEGMENTS,
    SESSIONS,
    Trials,
    draws_of,
    errors,
    segments,
    trial_list,
)
from streamdrnn.apps.training.voices import RATE, Voice


def trials(*rows: tuple[float, int, int]) -> Trials:
    """Of score, speaker enrolled and speaker tried."""
    score, enrolled, tried = zip(*rows, strict=True)
    return Trials(
        torch.tensor(score), torch.tensor(enrolled), torch.tensor(tried), torch.ones(len(score), dtype=torch.bool)
    )


KNOWN = ((0.9, 0, 0), (0.4, 0, 0), (0.8, 1, 1), (0.6, 1, 1), (0.5, 0, 1), (0.1, 0, 1))


def test_errors_are_those_counted_by_hand() -> None:
    found = errors(trials(*KNOWN))
    # From 0.6 on one of four friends is refused, and no stranger accepted; from 0.4 on none, and one of two.
    assert found.threshold == pytest.approx(0.6)
    assert found.eer.value == pytest.approx(0.25)
    assert found.min_dcf.value == pytest.approx(0.25)
    assert (found.speakers, found.trials) == (2, 4)


def test_a_speaker_of_many_trials_weighs_as_any_other() -> None:
    once, often = errors(trials(*KNOWN)), errors(trials(*KNOWN, *KNOWN[:2] * 7, *KNOWN[4:] * 3))
    assert often.eer == pytest.approx(once.eer)
    assert often.min_dcf == pytest.approx(once.min_dcf)


def plainly(found: Trials, counts: list[float]) -> tuple[float, float]:
    """The equal error rate and the detection cost if each speaker were there so often, by loops."""
    rows = list(zip(found.score.tolist(), found.enrolled.tolist(), found.tried.tolist(), strict=True))
    alike = {(one, other): sum((a, b) == (one, other) for _, a, b in rows) for _, one, other in rows}
    weighed = [
        (score, one == other, (counts[one] if one == other else counts[one] * counts[other]) / alike[one, other])
        for score, one, other in rows
    ]
    friends = sum(weight for _, own, weight in weighed if own)
    strangers = sum(weight for _, own, weight in weighed if not own)
    if not friends or not strangers:
        return float("nan"), float("nan")
    eer, cost = 1.0, 1.0
    for threshold in {score for score, *_ in rows}:
        refused = sum(weight for score, own, weight in weighed if own and score < threshold) / friends
        accepted = sum(weight for score, own, weight in weighed if not own and score >= threshold) / strangers
        eer = min(eer, max(refused, accepted))
        cost = min(cost, (0.01 * refused + 0.99 * accepted) / 0.01)
    return eer, cost


@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(1, 40))
def test_errors_are_those_of_a_plain_count(seed: int, speakers: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Few scores, so that many are equal.
    score = torch.randint(0, 12, (count + 2 * speakers,), generator=generator) / 10
    enrolled = torch.cat([torch.arange(speakers).repeat(2), torch.randint(speakers, (count,), generator=generator)])
    shift = torch.cat(
        [torch.tensor([0, 1]).repeat_interleave(speakers), torch.randint(2, (count,), generator=generator)]
    )
    found = Trials(score, enrolled, (enrolled + shift) % speakers, torch.ones(len(score), dtype=torch.bool))
    eer, cost = plainly(found, [1.0] * speakers)
    summed = errors(found)
    assert summed.min_dcf.value == pytest.approx(cost, abs=1e-5)
    assert summed.eer.value == pytest.approx(eer, abs=1e-5)


def test_intervals_are_those_of_drawn_speakers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speaker_trials, "RESAMPLES", 60)
    generator = torch.Generator().manual_seed(1)
    enrolled, shift = torch.randint(6, (80,), generator=generator), torch.randint(3, (80,), generator=generator)
    score = torch.rand(80, generator=generator) + 0.3 * (shift == 0)
    found = Trials(score, enrolled, (enrolled + shift) % 6, torch.ones(80, dtype=torch.bool))
    each = torch.tensor([plainly(found, counts) for counts in draws_of(6)[1:].tolist()])
    low, high = each.nanquantile(torch.tensor([0.025, 0.975]), 0)
    summed = errors(found)
    assert [summed.eer.low, summed.min_dcf.low] == pytest.approx(low.tolist(), abs=1e-4)
    assert [summed.eer.high, summed.min_dcf.high] == pytest.approx(high.tolist(), abs=1e-4)
    assert summed.eer.low < summed.eer.value < summed.eer.high


def test_draws_are_of_as_many_speakers() -> None:
    counts = draws_of(7)
    assert counts.shape == (1 + RESAMPLES, 7)
    assert (counts[0] == 1).all()
    assert (counts.sum(1) == 7).all()
    assert counts[1:].mean() == 1
    assert not torch.equal(counts[1], counts[2])


def session(number: int, seconds: float) -> list[Tensor]:
    """Samples that say which session and, to a thousandth of a second, when; in two utterances."""
    times = torch.arange(round(seconds * RATE)) // 16
    return list((number * 3000 + times).to(torch.int16).tensor_split(2))


VOICES = [
    Voice("wuw2", f"w{speaker}", {f"call{n}": session(3 * speaker + n, 2.9 - 0.5 * n) for n in range(1 + speaker)})
    for speaker in range(3)
]


@pytest.mark.parametrize(("enrolled", "tried"), [(0.4, 0.4), (1.0, 0.3), (2.5, 0.2)])
def test_trials_are_fair(enrolled: float, tried: float) -> None:
    found = trial_list(VOICES, enrolled, tried, different=50)
    assert found.speakers == 3
    one, other = found.enrolments.samples[found.enrolled], found.tests.samples[found.tried]
    for piece in (*one, *other):
        assert piece[0] // 3000 == piece[-1] // 3000, "a segment is of one session"
    from_one, from_other = one[:, 0] // 3000, other[:, 0] // 3000
    same_session = found.enrolments.session[found.enrolled] == found.tests.session[found.tried]
    assert torch.equal(same_session, from_one == from_other)
    assert torch.equal(found.enrolments.speaker[found.enrolled], (from_one // 3).long())
    assert torch.equal(found.tests.speaker[found.tried], (from_other // 3).long())
    for first, second in zip(one, other, strict=True):
        assert not set(first.tolist()) & set(second.tolist()), "nothing is compared with itself"
    pairs = set(zip(found.enrolled.tolist(), found.tried.tolist(), strict=True))
    assert len(pairs) == len(found.enrolled)
    own = found.enrolments.speaker[found.enrolled] == found.tests.speaker[found.tried]
    assert int((~own).sum()) <= 50


def test_trials_are_the_same_each_time_and_no_more_than_some() -> None:
    long = [Voice("wuw2", "w0", {str(n): [torch.randint(99, (8000,), dtype=torch.int16)] for n in range(9)})]
    _, tests = segments(long, 0.02, 0.02)
    assert len(tests.speaker) == SESSIONS * SEGMENTS
    assert torch.equal(segments(long, 0.02, 0.02)[1].samples, tests.samples)


def test_a_session_that_is_too_short_to_enrol_is_tried_whole() -> None:
    enrolments, tests = segments(VOICES[2:], 2.6, 0.6)
    assert enrolments.session.tolist() == [0]
    assert [int((tests.session == n).sum()) for n in range(3)] == [0, 4, 3]
