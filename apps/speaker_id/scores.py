"""From embeddings to probabilities: what a score means is the same for every voice, microphone and length of speech.

The cosine of two embeddings depends on the sound as well as on the voices. So it is normalised by the cosines of
either side with a cohort of other voices (adaptive symmetric normalisation; Matejka et al., "Analysis of score
normalization in multilingual speaker recognition", Interspeech 2017), and calibrated to the logarithm of a likelihood
ratio by a logistic regression with the seconds of speech as quality measures. Cohort and coefficients are notes of the
model's file.
"""

import json
import math
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from streamdrnn.apps.speaker_id.profiles import Recording
from streamdrnn.errors import InputError

THRESHOLD = 0.5
"""The probability from which a voice is named."""
MOST_KNOWN = 0.8
"""How probable it is at most, before anything is heard, that a voice is one of those enrolled."""
TEST_SECONDS, ENROLMENT_SECONDS = (0.5, 5.0), (5.0, 20.0)
"""The lengths of speech that calibrations know; beyond them speech counts as the shortest or longest."""
NUM_FEATURES = 5
_SLOPE = 20.0
"""By how much a cosine of 1 more raises the log likelihood ratio of a model that has a threshold only."""
_LARGEST_COHORT = 4096


class Scorer(NamedTuple):
    """How a model's cosines become log likelihood ratios.

    Attributes:
        cohort: ``(C, E)``, embeddings of other voices; without any the cosine itself is the score.
        nearest: how many of the cohort, those most alike, normalise a score.
        weights: ``(5,)``, of :func:`features`.
    """

    cohort: Tensor
    nearest: int
    weights: Tensor

    def shifted(self, offset: float) -> "Scorer":
        """The scorer with this added to all log likelihood ratios."""
        weights = self.weights.clone()
        weights[0] += offset
        return self._replace(weights=weights)

    def statistics(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation ``(N,)`` of the cosines of embeddings ``(N, E)`` with the nearest of the cohort."""
        if not len(self.cohort) or not len(embeddings):
            return torch.zeros(len(embeddings)), torch.ones(len(embeddings))
        nearest = (embeddings @ self.cohort.T).topk(self.nearest).values
        return nearest.mean(1), nearest.std(1, correction=0).clamp(min=1e-3)


class Scores(NamedTuple):
    """Some speech against each of N voices.

    Attributes:
        cosines: ``(N,)``, of the embeddings.
        log_ratios: ``(N,)``, the logarithms of the likelihood ratios.
    """

    cosines: np.ndarray
    log_ratios: np.ndarray


class Voices:
    """Enrolled voices, ready to be compared with.

    Args:
        scorer: of the model that heard them.
        voices: the recordings of each voice, as one.
    """

    def __init__(self, scorer: Scorer, voices: Sequence[Recording]) -> None:
        self._scorer = scorer
        self._embeddings = torch.stack([voice.embedding for voice in voices]) if voices else scorer.cohort[:0]
        self._seconds = torch.tensor([voice.seconds for voice in voices])
        self._statistics = scorer.statistics(self._embeddings)

    def compare(self, embedding: Tensor, seconds: float) -> Scores:
        """The embedding ``(E,)`` of so many seconds of speech against each voice."""
        return self.compare_all(embedding[None], torch.tensor([seconds]))[0]

    def compare_all(self, embeddings: Tensor, seconds: Tensor) -> list[Scores]:
        """Embeddings ``(M, E)`` of so many seconds ``(M,)`` of speech each against each voice."""
        cosines = embeddings @ self._embeddings.T
        normalised = normalise(cosines, self._scorer.statistics(embeddings), self._statistics)
        ratios = features(normalised, seconds[:, None], self._seconds) @ self._scorer.weights
        return [Scores(*one) for one in zip(cosines.numpy(), ratios.numpy(), strict=True)]


def normalise(cosines: Tensor, tests: tuple[Tensor, Tensor], voices: tuple[Tensor, Tensor]) -> Tensor:
    """Cosines ``(M, N)`` by the statistics ``(M,)`` of the tests and ``(N,)`` of the voices."""
    by_test = (cosines - tests[0][:, None]) / tests[1][:, None]
    return (by_test + (cosines - voices[0]) / voices[1]) / 2


def features(scores: Tensor, test_seconds: Tensor, enrolment_seconds: Tensor) -> Tensor:
    """What a log likelihood ratio is a weighted sum of, ``(..., 5)``: 1, the score, and the lengths of speech."""
    test = test_seconds.clamp(*TEST_SECONDS).log().expand_as(scores)
    enrolment = enrolment_seconds.clamp(*ENROLMENT_SECONDS).log().expand_as(scores)
    return torch.stack([torch.ones_like(scores), scores, test, enrolment, scores * test], -1)


def log_priors(voices: int) -> np.ndarray:
    """The logarithms ``(1 + N,)`` of how probable nobody's voice and each of N is, before anything is heard.

    A few voices are as probable as nobody's each. The more there are beyond, the less probable is each: so no more
    strangers are taken for one of them.
    """
    known = min(voices / (voices + 1), MOST_KNOWN)
    return np.log([1 - known, *(known / voices for _ in range(voices))])


def probabilities(log_ratios: np.ndarray) -> np.ndarray:
    """How probable it is ``(..., 1 + N)`` that it is nobody's voice, and each of those compared with ``(..., N)``."""
    nobody = np.zeros((*log_ratios.shape[:-1], 1))
    joint = log_priors(log_ratios.shape[-1]) + np.concatenate([nobody, log_ratios], -1)
    likelihoods = np.exp(joint - joint.max(-1, keepdims=True))
    shares: np.ndarray = likelihoods / likelihoods.sum(-1, keepdims=True)
    return shares


def log_odds(log_ratios: np.ndarray, threshold: float) -> np.ndarray:
    """The logarithms ``(1 + N,)`` of the odds of each of N voices to nobody's, 0 where a probability is the threshold.

    The first, of nobody's voice, is 0.
    """
    priors = log_priors(len(log_ratios))
    reached = math.log(threshold / (1 - threshold))
    return np.concatenate([[0.0], log_ratios + priors[1:] - priors[0] - reached])


def cosine_scorer(threshold: float, embedding_size: int) -> Scorer:
    """The scorer of a model of which only the cosine is known below which a voice is nobody's."""
    weights = torch.tensor([-_SLOPE * threshold, _SLOPE, 0.0, 0.0, 0.0])
    return Scorer(torch.zeros(0, embedding_size), 0, weights)


def scorer_notes(scorer: Scorer) -> dict[str, str]:
    """A scorer as notes of a model's file; :func:`read_scorer` reads them.

    The cohort is kept in bytes: the length of an embedding does not matter.
    """
    whole = (127 * scorer.cohort / scorer.cohort.abs().amax(1, keepdim=True)).round().to(torch.int8)
    calibration = {"nearest": scorer.nearest, "weights": [round(float(weight), 6) for weight in scorer.weights]}
    return {"cohort": b64encode(whole.numpy().tobytes()).decode(), "calibration": json.dumps(calibration)}


def read_scorer(notes: Mapping[str, str], embedding_size: int) -> Scorer:
    """The scorer in a model's notes; of an older model, which has a threshold only, :func:`cosine_scorer`.

    Raises:
        ValueError: there is neither, or what is there is damaged.
    """
    if "calibration" not in notes:
        return cosine_scorer(read_threshold(notes), embedding_size)
    try:
        calibration = json.loads(notes["calibration"])
        cohort = np.frombuffer(b64decode(notes["cohort"], validate=True), np.int8).reshape(-1, embedding_size)
        nearest, weights = calibration["nearest"], torch.tensor(calibration["weights"], dtype=torch.float32)
    except (KeyError, TypeError, ValueError, RecursionError):
        raise InputError("the calibration in its notes is damaged") from None
    fits = isinstance(nearest, int) and 2 <= nearest <= len(cohort) <= _LARGEST_COHORT
    if not fits or weights.shape != (NUM_FEATURES,) or not torch.isfinite(weights).all():
        raise InputError("the calibration in its notes is damaged")
    return Scorer(normalize(torch.from_numpy(cohort.astype(np.float32))), nearest, weights)


def read_threshold(notes: Mapping[str, str]) -> float:
    """The threshold in a model's notes.

    Raises:
        ValueError: there is none.
    """
    if "threshold" not in notes:
        raise InputError("has no calibrated threshold in its notes")
    try:
        threshold = float(notes["threshold"])
    except ValueError:
        threshold = math.nan
    if not math.isfinite(threshold):
        raise InputError("the threshold in its notes is no number")
    return threshold
