"""The speaker model: an embedder that is trained to tell the voices of a folder apart."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple, Optional

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, one_hot

from streamdrnn import DilatedRNN, SpeakerEmbedder
from streamdrnn.apps.speaker_id.identifier import WINDOW_SECONDS
from streamdrnn.apps.training.augmentation import at_other_speeds, augment
from streamdrnn.apps.training.data import librispeech
from streamdrnn.apps.training.embedder_recipe import EmbedderRecipe
from streamdrnn.apps.training.embedder_scores import Parts, closed_set_accuracy, cosines, cut, join
from streamdrnn.apps.training.side_by_side import Progress, side_by_side
from streamdrnn.apps.training.unheard_voices import Trials, UnheardVoices, long_enough, trials, unheard_voices
from streamdrnn.audio import LogMel, load_audio
from streamdrnn.errors import InputError

SAMPLE_RATE = 16000
SHORTEST_UTTERANCE = 1.5
"""Seconds; less than that leaves nothing to cut into parts."""
TRAIN_SHARE = 0.7
"""The first part of every utterance trains; the rest is held back to test."""
FEWEST_SPEAKERS = 20
SHORTEST_CROP, LONGEST_CROP = 40, 150
"""Frames of 20 ms: 0.8 to 3 s."""


class _Job(NamedTuple):
    """A model to train: on the voices of a folder, without every ``folds``-th from ``fold`` on, or (None) on all."""

    folder: Path
    recipe: EmbedderRecipe
    fold: Optional[int]


class TrainedSpeakers(NamedTuple):
    """A speaker model and what was measured of it.

    Attributes:
        embedder: the model, trained on all voices.
        unheard: how well models of the same recipe know voices that they never heard; it has the threshold.
        scores: as :func:`evaluate` gives them.
        voices: how many there were.
    """

    embedder: SpeakerEmbedder
    unheard: UnheardVoices
    scores: dict[str, float]
    voices: int


def load_speakers(folder: Path) -> list[Parts]:
    """The speakers of a LibriSpeech folder, every utterance cut into what trains and what tests.

    Raises:
        FileNotFoundError: there are no utterances.
        ValueError: one of them cannot be read or is too short, or there are too few speakers to judge by.
    """
    speakers: dict[str, list[Parts]] = {}
    for speaker, path in librispeech(folder):
        samples = load_audio(path, SAMPLE_RATE)
        if len(samples) < SHORTEST_UTTERANCE * SAMPLE_RATE:
            raise InputError(
                f"{path}: {len(samples) / SAMPLE_RATE:.2f} s long, expected {SHORTEST_UTTERANCE} s or more"
            )
        speakers.setdefault(speaker, []).append(cut(samples, TRAIN_SHARE))
    if len(speakers) < FEWEST_SPEAKERS:
        raise InputError(f"{folder}: {len(speakers)} speakers, expected {FEWEST_SPEAKERS} or more")
    return [join(parts) for parts in speakers.values()]


def left_out(speakers: list[Parts], fold: int, folds: int) -> list[Tensor]:
    """Every ``folds``-th voice from ``fold`` on, whole, if it is long enough to be tried.

    Raises:
        ValueError: they are too few.
    """
    return long_enough([torch.cat(parts) for parts in speakers[fold::folds]], SAMPLE_RATE)


def check_folds(speakers: list[Parts], folds: int) -> None:
    """Raise ``ValueError`` if there are too few voices to be tried in a fold."""
    for fold in range(folds):
        left_out(speakers, fold, folds)


def train_embedder(folder: Path, recipe: EmbedderRecipe, progress: Progress) -> TrainedSpeakers:
    """Train on the first part of every utterance; judge by voices left out, and by what is held back.

    Args:
        folder: of LibriSpeech, that :func:`load_speakers` and :func:`check_folds` find nothing wrong with.
    """
    jobs = [_Job(folder, recipe, fold) for fold in (None, *range(recipe.folds))]
    (embedder, _), *others = side_by_side(_train, jobs, progress)
    speakers = load_speakers(folder)
    unheard = unheard_voices([trials for _, trials in others if trials is not None])
    return TrainedSpeakers(embedder, unheard, evaluate(embedder, speakers), len(speakers))


def _train(job: _Job, progress: Progress) -> tuple[SpeakerEmbedder, Optional[Trials]]:
    folder, recipe, fold = job
    speakers = load_speakers(folder)
    if fold is None:
        return fit([parts.enrolment for parts in speakers], recipe, partial(progress, "model")), None
    known = [parts.enrolment for i, parts in enumerate(speakers) if i % recipe.folds != fold]
    embedder = fit(known, recipe, partial(progress, f"fold {fold + 1} of {recipe.folds}"))
    return embedder, trials(embedder, left_out(speakers, fold, recipe.folds))


def evaluate(embedder: SpeakerEmbedder, speakers: list[Parts]) -> dict[str, float]:
    """Closed-set accuracy: each held-back part, and windows of it, against every voice's training part."""
    return {
        "accuracy": closed_set_accuracy(*cosines(embedder, speakers)),
        "accuracy_window": closed_set_accuracy(*cosines(embedder, speakers, WINDOW_SECONDS)),
    }


def fit(voices: list[Tensor], recipe: EmbedderRecipe, progress: Callable[[int, int, float], None]) -> SpeakerEmbedder:
    """Train an embedder to tell voices apart, by the additive margin softmax (Wang et al. 2018).

    Args:
        voices: ``(N,)`` samples of each.
    """
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    frontend = LogMel(SAMPLE_RATE, hop_length=320, n_mels=64)
    rnn = DilatedRNN(frontend.num_features, recipe.hidden_size, num_layers=recipe.layers, dropout=recipe.dropout)
    embedder = SpeakerEmbedder(rnn, recipe.embedding_size, frontend)
    features = [frontend(samples[:, None])[0][:, 0] for samples in at_other_speeds(voices)]
    everything = torch.cat(features)
    embedder.feature_mean.copy_(everything.mean(0))
    embedder.feature_std.copy_(everything.std(0))
    centres = torch.nn.Parameter(0.1 * torch.randn(len(features), recipe.embedding_size))
    parameters = [*embedder.parameters(), centres]
    batch_frames = round(recipe.batch_seconds * frontend.sample_rate / frontend.hop_length)
    steps = max(1, recipe.epochs * len(everything) // batch_frames)
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps, pct_start=0.1)
    lengths = torch.tensor([float(len(f)) for f in features])
    for step in range(steps):
        T = int(torch.randint(SHORTEST_CROP, LONGEST_CROP + 1, (), generator=generator))
        owners = torch.multinomial(lengths.sqrt(), max(1, batch_frames // T), replacement=True, generator=generator)
        crops = torch.stack([_crop(features[i], T, generator) for i in owners.tolist()], 1)
        x = augment(crops, embedder.feature_mean, generator)
        y, _ = rnn((x - embedder.feature_mean) / embedder.feature_std)
        cosine = embedder.embed(y.mean(0)) @ normalize(centres, dim=1).T
        wanted = cosine - recipe.margin * one_hot(owners, len(features))
        loss = cross_entropy(recipe.scale * wanted, owners)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        schedule.step()
        progress(step + 1, steps, loss.item())
    return embedder.eval()


def _crop(features: Tensor, T: int, generator: torch.Generator) -> Tensor:
    """``(T, M)`` from a random place; a recording that is too short is repeated."""
    features = features.repeat(-(-T // len(features)), 1)
    start = int(torch.randint(0, len(features) - T + 1, (), generator=generator))
    return features[start : start + T]
