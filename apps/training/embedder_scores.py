"""How well a model tells voices apart whose recordings are cut in two: a first part enrols, the rest is tried."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from streamdrnn import SpeakerEmbedder
from streamdrnn.apps.speaker_id.model import embed_recording


class Parts(NamedTuple):
    """One speaker's utterances, each cut in two in time: ``(N,)`` samples each."""

    enrolment: Tensor
    test: Tensor


def cut(samples: Tensor, share: float) -> Parts:
    """The first ``share`` of an utterance, and the rest."""
    at = int(share * len(samples))
    return Parts(samples[:at], samples[at:])


def cosines(
    embedder: SpeakerEmbedder,
    speakers: list[Parts],
    window: float = 0.0,
    embed: Callable[[SpeakerEmbedder, Tensor], Tensor] = embed_recording,
) -> tuple[Tensor, Tensor]:
    """Every test against every enrolment.

    Args:
        speakers: the voices.
        window: the seconds of each test; 0 takes all of a test part as one. Windows overlap by half.
        embed: from the embedder and a recording ``(N,)`` to its embedding.

    Returns:
        the cosines ``(tests, speakers)``, and ``(tests,)`` whose voice each test is.
    """
    assert embedder.frontend is not None
    enrolled = torch.stack([embed(embedder, parts.enrolment) for parts in speakers])
    length = round(window * embedder.frontend.sample_rate)
    embeddings, owners = [], []
    for owner, parts in enumerate(speakers):
        for piece in _windows(parts.test, length):
            embeddings.append(embed(embedder, piece))
            owners.append(owner)
    return torch.stack(embeddings) @ enrolled.T, torch.tensor(owners)


def _windows(samples: Tensor, length: int) -> list[Tensor]:
    if not length:
        return [samples]
    return [samples[start : start + length] for start in range(0, len(samples) - length + 1, length // 2)]


def closed_set_accuracy(scores: Tensor, owners: Tensor) -> float:
    """The share of tests whose nearest enrolment is their own."""
    return float((scores.argmax(1) == owners).double().mean())


class EqualError(NamedTuple):
    """The threshold at which as many strangers are let in as friends are kept out, and that share of errors."""

    threshold: float
    rate: float


def friends_and_strangers(scores: Tensor, owners: Tensor) -> tuple[Tensor, Tensor]:
    """The cosines of tests with their own enrolments, and with all others; arguments from :func:`cosines`."""
    own = torch.zeros_like(scores, dtype=torch.bool)
    own[torch.arange(len(owners)), owners] = True
    return scores[own], scores[~own]


def equal_error(friends: Tensor, strangers: Tensor) -> EqualError:
    """The equal error rate of accepting a test as the owner of an enrolment, by the cosines of both kinds."""
    friends, strangers = friends.sort().values, strangers.sort().values
    kept_out = torch.searchsorted(friends, friends) / len(friends)
    let_in = 1 - torch.searchsorted(strangers, friends) / len(strangers)
    best = int((kept_out - let_in).abs().argmin())
    return EqualError(float(friends[best]), float((kept_out[best] + let_in[best]) / 2))
