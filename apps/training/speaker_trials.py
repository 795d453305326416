"""Trials of a speaker model: two segments, of one speaker or of two, and the errors in telling which.

Speakers weigh alike, however much of each there is. Intervals are from draws of speakers (bootstrap), because trials of
one speaker resemble one another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from streamdrnn.apps.training.voices import RATE, Voice, cut, in_random_order, without_pauses

SESSIONS, SEGMENTS = 4, 4
"""The most sessions of a speaker, and segments of a session, that are tried."""
RESAMPLES = 400
"""Of the speakers, for an interval."""
TARGET_PRIOR = 0.01

T = TypeVar("T")


class Segments(NamedTuple):
    """Pieces of one length.

    Attributes:
        samples: ``(n, N)`` int16.
        speaker: ``(n,)``, by number.
        session: ``(n,)``, by a number that no session of another speaker has.
    """

    samples: Tensor
    speaker: Tensor
    session: Tensor


def segments(voices: Sequence[Voice], enrolled: float, tried: float, seed: int = 0) -> tuple[Segments, Segments]:
    """Segments of so many seconds to enrol, and to try.

    They are of speech: of long pauses nobody can be known, and live they are not counted. Of equal length they are the
    same. Else the beginning of each session is enrolled, and the rest of it is tried.
    """
    random = np.random.default_rng(seed)
    found: tuple[list[tuple[Tensor, int, int]], list[tuple[Tensor, int, int]]] = ([], [])
    number = 0
    for speaker, voice in enumerate(voices):
        sessions = []
        for session in voice.sessions.values():
            joined = torch.cat(in_random_order([without_pauses(utterance) for utterance in session]))
            begin = [] if enrolled == tried else cut([joined], enrolled)[:1]
            sessions.append((begin, cut([joined[sum(map(len, begin)) :]], tried)))
        for begin, rest in _some(random, [one for one in sessions if any(one)], SESSIONS):
            for into, pieces in zip(found, (begin, _some(random, rest, SEGMENTS)), strict=True):
                into.extend((piece, speaker, number) for piece in pieces)
            number += 1
    enrolments, tests = (_joined(pieces, seconds) for pieces, seconds in zip(found, (enrolled, tried), strict=True))
    return (tests, tests) if enrolled == tried else (enrolments, tests)


def _some(random: np.random.Generator, items: Sequence[T], most: int) -> list[T]:
    """All, or as many as may be, drawn, in their order."""
    return [items[i] for i in sorted(random.choice(len(items), min(most, len(items)), replace=False))]


def _joined(pieces: list[tuple[Tensor, int, int]], seconds: float) -> Segments:
    empty = torch.zeros(0, round(seconds * RATE), dtype=torch.int16)
    numbers = torch.tensor([numbers for _, *numbers in pieces], dtype=torch.int64).view(-1, 2)
    return Segments(torch.stack([piece for piece, *_ in pieces]) if pieces else empty, *numbers.T)


class TrialList(NamedTuple):
    """What is compared with what.

    Attributes:
        enrolments, tests: the segments.
        enrolled, tried: the numbers ``(n,)`` of each trial's: all pairs of one speaker, and some of two.
    """

    enrolments: Segments
    tests: Segments
    enrolled: Tensor
    tried: Tensor

    @property
    def speakers(self) -> int:
        """How many are compared with themselves."""
        one, other = self.enrolments.speaker[self.enrolled], self.tests.speaker[self.tried]
        return len(one[one == other].unique())


def trial_list(voices: Sequence[Voice], enrolled: float, tried: float, different: int, seed: int = 0) -> TrialList:
    """Compare segments of so many seconds: all of one speaker with one another, and so many pairs of two speakers."""
    enrolments, tests = segments(voices, enrolled, tried, seed)
    allowed = torch.ones(len(enrolments.speaker), len(tests.speaker), dtype=torch.bool)
    if enrolments is tests:
        allowed = allowed.triu(1)
    own = enrolments.speaker[:, None] == tests.speaker
    pairs = (allowed & ~own).nonzero()
    drawn = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))[:different]
    return TrialList(enrolments, tests, *torch.cat([(allowed & own).nonzero(), pairs[drawn]]).T)


class Trials(NamedTuple):
    """Scores ``(n,)`` of pairs of segments.

    Attributes:
        score: the cosine.
        enrolled, tried: the number of either segment's speaker.
        same_session: whether both are of one session.
    """

    score: Tensor
    enrolled: Tensor
    tried: Tensor
    same_session: Tensor

    def where(self, which: Tensor) -> "Trials":
        """Those of them ``(n,)`` bool."""
        return Trials(*(values[which] for values in self))

    @property
    def own(self) -> Tensor:
        """Which are of one speaker."""
        return self.enrolled == self.tried


class Estimate(NamedTuple):
    """A value, and the interval in which it is for 95 of 100 draws of as many speakers from those there are."""

    value: float
    low: float
    high: float


def draws_of(speakers: int, seed: int = 0) -> Tensor:
    """How often each speaker is drawn, ``(1 + RESAMPLES, speakers)``; once in the first row, for the value itself."""
    drawn = torch.randint(speakers, (RESAMPLES, speakers), generator=torch.Generator().manual_seed(seed))
    counts = torch.zeros(RESAMPLES, speakers).scatter_add_(1, drawn, torch.ones(RESAMPLES, speakers))
    return torch.cat([torch.ones(1, speakers), counts])


def estimate(values: Tensor) -> Estimate:
    """From the values ``(1 + RESAMPLES,)`` for each row of :func:`draws_of`."""
    low, high = values[1:].nanquantile(torch.tensor([0.025, 0.975], dtype=values.dtype))
    return Estimate(float(values[0]), float(low), float(high))


@dataclass(frozen=True)
class Errors:
    """How often a model errs in trials of one kind.

    Attributes:
        speakers: of whom there are trials with themselves.
        trials: of one speaker.
        eer: the equal error rate: where the share of one speaker's trials that are refused meets that of two speakers'
            that are accepted, both as steps.
        min_dcf: the least detection cost of any threshold (NIST), of errors that cost 1 where 1 trial in 100 is of one
            speaker, in shares of the cost of refusing all.
        threshold: where the equal error rate is.
    """

    speakers: int
    trials: int
    eer: Estimate
    min_dcf: Estimate
    threshold: float


def errors(trials: Trials) -> Errors:
    """Sum up trials, in which each speaker weighs alike, and each pair of speakers."""
    speakers, numbers = torch.cat([trials.enrolled, trials.tried]).unique(return_inverse=True)
    enrolled, tried = numbers.view(2, -1)
    own = trials.own
    friends, order = trials.score[own].sort()
    strangers, strangers_order = trials.score[~own].sort()
    whose = enrolled[own][order]
    one, other = enrolled[~own][strangers_order], tried[~own][strangers_order]
    # Other thresholds need no try: they let in no fewer strangers than the next friend's above them.
    missed, let_in = torch.searchsorted(friends, friends), torch.searchsorted(strangers, friends)
    friend_weight, stranger_weight = _shared(whose), _shared(one * len(speakers) + other)
    eer, min_dcf = [], []
    for counts in draws_of(len(speakers)).split(50):
        refused = _share_below(counts[:, whose] * friend_weight, missed)
        accepted = 1 - _share_below(counts[:, one] * counts[:, other] * stranger_weight, let_in)
        equal, best = torch.maximum(refused, accepted).min(1)
        eer.append(equal)
        cost = refused + (1 - TARGET_PRIOR) / TARGET_PRIOR * accepted
        min_dcf.append(cost.amin(1).clamp(max=1))
        if len(eer) == 1:
            threshold = float(friends[best[0]])
    return Errors(len(whose.unique()), len(friends), estimate(torch.cat(eer)), estimate(torch.cat(min_dcf)), threshold)


def _shared(owners: Tensor) -> Tensor:
    """The weight of each trial, of which every owner's are 1 in all."""
    _, number, trials = owners.unique(return_inverse=True, return_counts=True)
    weights: Tensor = trials[number].float().reciprocal()
    return weights


def _share_below(weights: Tensor, places: Tensor) -> Tensor:
    """Of sorted trials with weights ``(R, n)`` the share before each place: ``(R, len(places))``."""
    sums: Tensor = pad(weights.cumsum(1, dtype=torch.float64), (1, 0))
    return sums[:, places] / sums[:, -1:]
