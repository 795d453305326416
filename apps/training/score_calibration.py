"""How a speaker model's scores become likelihood ratios: a cohort, and a logistic regression on voices left out.

Trials are as in use: somebody is enrolled with 5 to 20 s and tried with 0.5 to 5 s, as recorded or in a noisy room.
Whoever is tried against others is so within a corpus: between corpora microphones would tell them apart. Telephones are
left out: a score that is heard through one says so much less that one regression of both would doubt every score.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn.functional import softplus

from streamdrnn import SpeakerEmbedder
from streamdrnn.apps.speaker_id.model import embed_recording
from streamdrnn.apps.speaker_id.scores import (
    ENROLMENT_SECONDS,
    NUM_FEATURES,
    TEST_SECONDS,
    Scorer,
    features,
    normalise,
    scorer_notes,
)
from streamdrnn.apps.training.scenes import coloured_noises, in_a_room
from streamdrnn.apps.training.voices import CORPORA, RATE, Voice, float32, without_pauses
from streamdrnn.errors import InputError

COHORT = 256
NEAREST = 8
"""Of the cohort, for a score. Those most alike were heard as the score was. Were they many, those of a telephone would
be among others through microphones, and nobody would be named over one."""
ENROLMENTS, TESTS = 2, 8
"""Of each voice."""
PRIOR = 0.2
"""The share of own voices that the regression is best at; below a half, as to name a stranger is worse."""
_PENALTY = 1e-4
_MIN_SECONDS = 3.0
"""Of a voice: with less it is neither tried nor in the cohort."""

Embed = Callable[[Tensor], Tensor]
"""From samples ``(N,)`` float32 at 16 kHz to the embedding ``(E,)``."""


class Trials(NamedTuple):
    """What one model made of voices that it never heard: A enrolments and B tests.

    Attributes:
        enrolments: ``(A, E)``.
        tests: ``(B, E)``.
        enrolment_seconds, test_seconds: ``(A,)``, ``(B,)``.
        enrolment_voice, test_voice: ``(A,)``, ``(B,)``, the number of the voice.
        enrolment_corpus, test_corpus: ``(A,)``, ``(B,)``, the place of its corpus in ``CORPORA``.
        cohort: ``(C, E)``, of voices that the model heard in training.
    """

    enrolments: Tensor
    tests: Tensor
    enrolment_seconds: Tensor
    test_seconds: Tensor
    enrolment_voice: Tensor
    test_voice: Tensor
    enrolment_corpus: Tensor
    test_corpus: Tensor
    cohort: Tensor

    def without(self, corpus: str) -> "Trials":
        """Those of all corpora but one."""
        number = list(CORPORA).index(corpus)
        enrolled, tried = self.enrolment_corpus != number, self.test_corpus != number
        return Trials(
            self.enrolments[enrolled],
            self.tests[tried],
            self.enrolment_seconds[enrolled],
            self.test_seconds[tried],
            self.enrolment_voice[enrolled],
            self.test_voice[tried],
            self.enrolment_corpus[enrolled],
            self.test_corpus[tried],
            self.cohort,
        )


class Pairs(NamedTuple):
    """Pairs of a test and an enrolment within a corpus, P in all.

    Attributes:
        features: ``(P, 5)``.
        own: ``(P,)``, whether both are of one voice.
        weight: ``(P,)``; those of own voices sum to 1, and so do those of others; each test has the same part.
    """

    features: Tensor
    own: Tensor
    weight: Tensor


def fold_trials(
    models: Sequence[tuple[SpeakerEmbedder, Sequence[Voice]]], voices: Sequence[Voice], seed: int = 0
) -> list[Trials]:
    """The trials of each fold.

    Args:
        models: for each fold its model, and the voices that were left out of its training.
        voices: all of the training.
    """
    found = []
    for fold, (model, left_out) in enumerate(models):
        names = {(voice.corpus, voice.speaker) for voice in left_out}
        heard = [voice for voice in voices if (voice.corpus, voice.speaker) not in names]
        embed = partial(embed_recording, model)
        found.append(make_trials(embed, left_out, make_cohort(embed, heard, seed), seed + fold))
    return found


def calibrate_model(
    trials: Sequence[Trials], embedder: SpeakerEmbedder, voices: Sequence[Voice], seed: int = 0
) -> dict[str, str]:
    """What :func:`streamdrnn.save_model` takes as notes, so that the model's scores are likelihood ratios.

    Args:
        trials: of the folds.
        embedder: the final model.
        voices: all that it was trained on.
    """
    cohort = make_cohort(partial(embed_recording, embedder), voices, seed)
    return scorer_notes(Scorer(cohort, NEAREST, fit([pairs(one, NEAREST) for one in trials])))


def scorers_without_each_corpus(trials: Trials) -> dict[str, Scorer]:
    """For each corpus the scorer that its voices did not calibrate, so that they can judge it.

    A corpus without which there are no trials calibrates its own.
    """
    found = {}
    for corpus in CORPORA:
        others = trials.without(corpus)
        weights = fit([pairs(others if len(others.tests) else trials, NEAREST)])
        found[corpus] = Scorer(trials.cohort, NEAREST, weights)
    return found


def make_cohort(embed: Embed, voices: Sequence[Voice], seed: int = 0) -> Tensor:
    """The embeddings ``(C, E)`` of :data:`COHORT` voices at most, dealt out over the corpora, in all conditions.

    Raises:
        ValueError: there are too few voices.
    """
    random = np.random.default_rng(seed)
    corpora: dict[str, list[Voice]] = defaultdict(list)
    for voice in voices:
        if voice.samples >= _MIN_SECONDS * RATE:
            corpora[voice.corpus].append(voice)
    chosen: list[Voice] = []
    queues = [[some[i] for i in random.permutation(len(some))] for some in corpora.values()]
    while len(chosen) < COHORT and any(queues):
        chosen += [queue.pop() for queue in queues if queue]
    if len(chosen) < NEAREST:
        raise InputError(f"cohort: {len(chosen)} voices, expected {NEAREST} or more")
    pieces = [_piece(random, _enrolment_part(voice), *ENROLMENT_SECONDS) for voice in chosen[:COHORT]]
    return torch.stack([embed(_heard(random, piece)) for piece in pieces])


def make_trials(embed: Embed, voices: Sequence[Voice], cohort: Tensor, seed: int = 0) -> Trials:
    """Enrol and try voices that a model never heard."""
    random = np.random.default_rng(seed)
    numbers = {corpus: number for number, corpus in enumerate(CORPORA)}
    found: tuple[list[tuple[Tensor, float, int, int]], ...] = ([], [])
    for number, voice in enumerate(voices):
        if voice.samples < _MIN_SECONDS * RATE or CORPORA[voice.corpus].is_telephone:
            continue
        for kind, (part, count, lengths) in enumerate(
            ((_enrolment_part(voice), ENROLMENTS, ENROLMENT_SECONDS), (_test_part(voice), TESTS, TEST_SECONDS))
        ):
            for _ in range(count):
                piece = _piece(random, part, *lengths)
                embedding = embed(_heard(random, piece))
                found[kind].append((embedding, len(piece) / RATE, number, numbers[voice.corpus]))
    (a, a_rest), (b, b_rest) = ((torch.stack([row[0] for row in rows]), [row[1:] for row in rows]) for rows in found)
    (a_seconds, a_voice, a_corpus), (b_seconds, b_voice, b_corpus) = (
        map(torch.tensor, zip(*rest, strict=True)) for rest in (a_rest, b_rest)
    )
    return Trials(a, b, a_seconds, b_seconds, a_voice, b_voice, a_corpus, b_corpus, cohort)


def pairs(trials: Trials, nearest: int) -> Pairs:
    """All pairs of a test and an enrolment of the same corpus."""
    scorer = Scorer(trials.cohort, nearest, torch.zeros(NUM_FEATURES))
    scores = normalise(
        trials.tests @ trials.enrolments.T, scorer.statistics(trials.tests), scorer.statistics(trials.enrolments)
    )
    tried = trials.test_corpus[:, None] == trials.enrolment_corpus
    own = trials.test_voice[:, None] == trials.enrolment_voice
    weight = torch.zeros_like(scores)
    for kind in (own, tried & ~own):
        share = kind / kind.sum(1, keepdim=True).clamp(min=1)
        weight += share / share.sum()
    return Pairs(
        features(scores, trials.test_seconds[:, None], trials.enrolment_seconds)[tried], own[tried], weight[tried]
    )


def fit(models: Sequence[Pairs], prior: float = PRIOR) -> Tensor:
    """The weights ``(5,)`` by which features become log likelihood ratios: logistic regression, weighted by the prior.

    Args:
        models: the pairs of each model; all count the same.
    """
    x = torch.cat([one.features for one in models]).double()
    own = torch.cat([one.own for one in models])
    weight = torch.cat([one.weight for one in models]).double() / len(models) * torch.where(own, prior, 1 - prior)
    sign = torch.where(own, 1.0, -1.0).double()
    logit = np.log(prior / (1 - prior))
    scale = x.std(0).clamp(min=1e-6)
    scale[0] = 1
    weights = torch.zeros(NUM_FEATURES, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = (weight * softplus(-sign * (x @ (weights / scale) + logit))).sum() + _PENALTY * weights[
            1:
        ].square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return (weights.detach() / scale).float()


def _enrolment_part(voice: Voice) -> Tensor:
    """The first session; of a single one the first half."""
    first = _spoken(next(iter(voice.sessions.values())))
    return first if len(voice.sessions) > 1 else first[: len(first) // 2]


def _test_part(voice: Voice) -> Tensor:
    """The other sessions; of a single one the second half."""
    first, *others = [_spoken(session) for session in voice.sessions.values()]
    return torch.cat(others) if others else first[len(first) // 2 :]


def _spoken(session: Sequence[Tensor]) -> Tensor:
    """A session without its pauses, which no decision hears either."""
    return torch.cat([without_pauses(utterance) for utterance in session])


def _piece(random: Generator, samples: Tensor, shortest: float, longest: float) -> Tensor:
    """So many seconds from anywhere, each length as likely by its logarithm; all there is if that is less."""
    length = min(round(float(np.exp(random.uniform(np.log(shortest), np.log(longest)))) * RATE), len(samples))
    start = int(random.integers(len(samples) - length + 1))
    return float32(samples[start : start + length])


def _heard(random: Generator, samples: Tensor) -> Tensor:
    """The samples as recorded, or (a quarter of them) in a noisy room."""
    if random.random() < 0.75:
        return samples
    heard = in_a_room(random, samples.numpy())
    noise = np.concatenate(coloured_noises(random, -(-len(heard) // (5 * RATE))))[: len(heard)]
    level = np.sqrt(np.mean(np.square(heard))) * 10 ** (-random.uniform(5, 25) / 20)
    return torch.from_numpy((heard + level * noise).astype(np.float32))
