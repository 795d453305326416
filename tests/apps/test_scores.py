"""Scores are normalised and calibrated: what they mean does not depend on the sound or the number of voices."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from streamdrnn.apps.speaker_id.profiles import Recording
from streamdrnn.apps.speaker_id.scores import (
    Scorer,
    Voices,
    cosine_scorer,
    log_odds,
    probabilities,
    read_scorer,
    scorer_notes,
)
from streamdrnn.apps.training.score_calibration import (
    NEAREST,
    Pairs,
    Trials,
    calibrate_model,
    fit,
    fold_trials,
    make_cohort,
    pairs,
    scorers_without_each_corpus,
)
from streamdrnn.apps.training.voices import Voice
from tests.apps.speaker_id.demo_voices import model

SIZE = 16


def directions(count: int, seed: int = 0) -> Tensor:
    return normalize(torch.randn(count, SIZE, generator=torch.Generator().manual_seed(seed)))


def scorer(seed: int = 1) -> Scorer:
    return Scorer(directions(20, seed), 8, torch.tensor([-2.0, 1.5, 0.3, 0.2, 0.1]))


def test_a_score_by_the_definition() -> None:
    own, test = directions(2, 3)
    [ratio] = Voices(scorer(), [Recording(10.0, own)]).compare(test, 2.0).log_ratios
    sides = []
    for one in (own, test):
        nearest = np.sort((scorer().cohort @ one).numpy())[-8:]
        sides.append((float(own @ test) - nearest.mean()) / nearest.std())
    score = sum(sides) / 2
    wanted = -2.0 + 1.5 * score + 0.3 * math.log(2) + 0.2 * math.log(10) + 0.1 * score * math.log(2)
    assert ratio == pytest.approx(wanted, abs=1e-4)


def test_lengths_beyond_those_calibrated_count_as_the_nearest() -> None:
    own, test = directions(2, 3)
    ratio = {
        lengths: Voices(scorer(), [Recording(lengths[0], own)]).compare(test, lengths[1]).log_ratios[0]
        for lengths in ((600.0, 0.1), (20.0, 0.5), (1.0, 60.0), (5.0, 5.0))
    }
    assert ratio[600.0, 0.1] == ratio[20.0, 0.5]
    assert ratio[1.0, 60.0] == ratio[5.0, 5.0]


def test_sound_that_is_common_to_all_does_not_make_voices_alike() -> None:
    """A microphone's share in every embedding raises the cosines; it raises those with the cohort as well."""
    microphone = directions(1, 9)[0]
    voices, test = directions(5, 4), directions(1, 5)[0]
    through = Scorer(normalize(scorer().cohort + microphone), 8, scorer().weights)

    def ratios(embeddings: Tensor, one: Tensor, of: Scorer) -> np.ndarray:
        return Voices(of, [Recording(10.0, embedding) for embedding in embeddings]).compare(one, 2.0).log_ratios

    plain, clean = ratios(voices, test, scorer()), cosine_scorer(0.3, SIZE)
    raised = ratios(normalize(voices + microphone), normalize(test + microphone, dim=0), through)
    rise = ratios(normalize(voices + microphone), normalize(test + microphone, dim=0), clean) - ratios(
        voices, test, clean
    )
    assert rise.min() > 3, "the cosine alone is fooled"
    assert abs(raised - plain).mean() < rise.mean() / 2


def test_an_older_models_threshold_is_where_one_voice_is_as_probable_as_nobody() -> None:
    own, test = directions(2, 3)
    voices = Voices(cosine_scorer(float(own @ test), SIZE), [Recording(10.0, own)])
    assert probabilities(voices.compare(test, 3.0).log_ratios) == pytest.approx([0.5, 0.5], abs=1e-5)


@given(st.lists(st.floats(-50, 50), max_size=30))
def test_probabilities_are_bayes(ratios: list[float]) -> None:
    shares = probabilities(np.array(ratios))
    assert shares.sum() == pytest.approx(1)
    likelihoods = [1.0, *np.exp(ratios)]
    known = min(len(ratios) / (len(ratios) + 1), 0.8)
    priors = [1 - known, *[known / len(ratios) for _ in ratios]]
    wanted = np.multiply(likelihoods, priors)
    assert shares == pytest.approx(wanted / wanted.sum())


def test_strangers_are_not_taken_for_more_people_the_more_there_are() -> None:
    """Ratios of strangers as they are if they are calibrated: then their mean is at most 1, by Markov's inequality."""
    random = np.random.default_rng(0)
    accepted = []
    for voices in (1, 4, 40):
        ratios = random.normal(-2.0, 2.0, (4000, voices))  # log-normal with a mean of 1
        accepted.append(np.mean([probabilities(row)[1:].max() >= 0.5 for row in ratios]))
    assert accepted[0] > 0.1
    assert accepted[2] < accepted[0]


def test_log_odds_are_zero_where_the_probability_is_the_threshold() -> None:
    for threshold in (0.5, 0.8):
        one = math.log(threshold / (1 - threshold))
        assert log_odds(np.array([one]), threshold) == pytest.approx([0, 0])
        assert probabilities(np.array([one]))[1] == pytest.approx(threshold)


def test_notes_keep_a_scorer_to_a_hundredth() -> None:
    read = read_scorer(scorer_notes(scorer()), SIZE)
    assert (read.cohort * scorer().cohort).sum(1).min() > 0.9999
    assert read.nearest == 8
    assert torch.allclose(read.weights, scorer().weights)
    own, test = directions(2, 3)
    one, other = (Voices(s, [Recording(10.0, own)]).compare(test, 2.0).log_ratios[0] for s in (scorer(), read))
    assert one == pytest.approx(other, abs=0.02)


@pytest.mark.parametrize(
    "damage",
    [
        {"cohort": "%"},
        {"cohort": "AAAA"},
        {"calibration": "[]"},
        {"calibration": "{"},
        {"calibration": '{"nearest": 21, "weights": [0, 1, 0, 0, 0]}'},
        {"calibration": '{"nearest": 8, "weights": [0, 1]}'},
        {"calibration": '{"nearest": 8, "weights": [0, NaN, 0, 0, 0]}'},
        {"calibration": '{"nearest": 8, "weights": "abcde"}'},
    ],
    ids=str,
)
def test_damaged_notes_are_refused(damage: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="the calibration in its notes is damaged"):
        read_scorer(scorer_notes(scorer()) | damage, SIZE)


def test_the_regression_finds_the_ratios_of_two_bells() -> None:
    """Of scores that are normal, of variance 1, around 3 and 0: the log likelihood ratio is 3 x - 4.5."""
    random = torch.Generator().manual_seed(0)
    scores = torch.cat([3 + torch.randn(4000, generator=random), torch.randn(4000, generator=random)])
    own = torch.arange(8000) < 4000
    lengths = torch.rand(2, 8000, generator=random)
    features = torch.stack([torch.ones(8000), scores, *lengths, scores * lengths[0]], 1)
    for prior in (0.2, 0.5):
        weights = fit([Pairs(features, own, torch.full((8000,), 1 / 4000))], prior)
        ratios = features @ weights
        assert (ratios - (3 * scores - 4.5)).abs().mean() < 0.25


def test_pairs_are_within_a_corpus_and_tests_count_the_same() -> None:
    corpora = torch.tensor([0, 0, 0, 1, 1])
    voices = torch.tensor([0, 0, 1, 2, 3])
    seconds = torch.full((5,), 5.0)
    trials = Trials(
        directions(5), directions(5, 1), seconds, seconds, voices, voices, corpora, corpora, directions(9, 2)
    )
    found = pairs(trials, 4)
    assert len(found.own) == 9 + 4
    assert int(found.own.sum()) == 5 + 2
    assert float(found.weight[found.own].sum()) == pytest.approx(1)
    assert float(found.weight[~found.own].sum()) == pytest.approx(1)
    assert found.weight[:2].tolist() == pytest.approx([0.1, 0.1]), (
        "the first of five tests, two enrolments of its voice"
    )


def _voices(count: int) -> list[Voice]:
    random = torch.Generator().manual_seed(0)
    return [
        Voice(
            ("librispeech", "wuw2")[number % 2],
            str(number),
            {
                str(session): [(2000 * torch.randn(48_000, generator=random)).to(torch.int16)]
                for session in range(1 + number % 3)
            },
        )
        for number in range(count)
    ]


def test_a_corpus_is_judged_by_scores_that_others_calibrated() -> None:
    """In one corpus own voices score as others do in the other: each is judged by the other's weights."""
    random = torch.Generator().manual_seed(0)
    own = normalize(torch.randn(40, SIZE, generator=random))
    noise = torch.randn(40, SIZE, generator=random)
    number = torch.arange(40)
    corpora, seconds = (number >= 20).long(), torch.full((40,), 5.0)
    tests = normalize(own + torch.where(number[:, None] < 20, 0.1, 0.5) * noise)
    trials = Trials(own, tests, seconds, seconds, number, number, corpora, corpora, directions(100, 2))
    assert len(trials.without("librispeech").tests) == 20
    assert trials.without("librispeech").test_voice.min() == 20
    scorers = scorers_without_each_corpus(trials)
    clean, noisy = (fit([pairs(trials.without(corpus), NEAREST)]) for corpus in ("speechocean762", "librispeech"))
    assert torch.equal(scorers["speechocean762"].weights, clean)
    assert torch.equal(scorers["librispeech"].weights, noisy)
    assert not torch.allclose(clean, noisy)
    only = trials.without("librispeech")
    alone = scorers_without_each_corpus(only)["speechocean762"]
    assert torch.equal(alone.weights, noisy), "nothing else calibrates it"


def test_a_model_is_calibrated_by_voices_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise of one spectrum tells nobody apart: the ratios are about 1, and the notes are read again."""
    monkeypatch.setattr("streamdrnn.apps.training.score_calibration.NEAREST", 4)
    monkeypatch.setattr("streamdrnn.apps.training.score_calibration.COHORT", 6)
    embedder, said = model().embedder, _voices(12)
    heard: list[int] = []

    def embed(samples: Tensor) -> Tensor:
        heard.append(len(samples))
        return normalize(
            torch.randn(embedder.embedding_size, generator=torch.Generator().manual_seed(len(heard))), dim=0
        )

    monkeypatch.setattr("streamdrnn.apps.training.score_calibration.embed_recording", lambda _, samples: embed(samples))
    notes = calibrate_model(fold_trials([(embedder, said[:6]), (embedder, said[6:])], said), embedder, said)
    found = read_scorer(notes, embedder.embedding_size)
    assert found.cohort.shape == (6, embedder.embedding_size)
    own = Voices(found, [Recording(10.0, embed(torch.zeros(1)))])
    assert abs(own.compare(embed(torch.zeros(1)), 2.0).log_ratios[0]) < 1
    with pytest.raises(ValueError, match="cohort: 3 voices, expected 4 or more"):
        make_cohort(embed, said[:3])
