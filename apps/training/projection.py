"""The last stage of a speaker model's training: its projection alone, on what the network made of many conditions.

What the network says does not depend on the projection. So it hears all speech in all conditions once, and a step that
weighs them against one another costs next to nothing.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, Optional

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import dropout, normalize

from streamdrnn import SpeakerEmbedder
from streamdrnn.apps.training.angular_margin import angular_margin_loss
from streamdrnn.apps.training.distortion import MILD, Chances, distort
from streamdrnn.apps.training.embedder_recipe import EmbedderRecipe
from streamdrnn.apps.training.voices import CORPORA, Voice, float32

SEGMENTS = 12
"""The most that are heard of a voice."""
CONDITIONS: tuple[tuple[float, Optional[Chances]], ...] = (
    (1.0, None),
    (0.5, MILD),
    (0.5, Chances(telephone=0.0)),
    (0.15, MILD._replace(telephone=1.0)),
)
"""How often each is an example, in proportion; None is as recorded, the last is over a telephone."""
WINDOWS = (slice(-28, None), slice(50), slice(None))
"""Frames of 40 ms of which the mean output is an example: the last 1.1 s, the first 2 s, all."""
_BATCH = 512
_DROPOUT = 0.2
_PULL = 1e-2
"""Of the squared distance from the weights of the stages before."""
_LEARNING_RATE, _CENTRE_RATE = 5e-4, 3e-3


class Means(NamedTuple):
    """What a network made of speech.

    Attributes:
        outputs: ``(S, H)``, mean outputs of the top layer.
        owner: ``(S,)``, the number of the voice.
        weight: ``(S,)``, how often it is an example, in proportion.
    """

    outputs: Tensor
    owner: Tensor
    weight: Tensor


@torch.no_grad()
def hear(
    embedder: SpeakerEmbedder, voices: Sequence[Voice], segments: Sequence[Tensor], noises: Tensor, seed: int
) -> Means:
    """Let a network hear voices in all :data:`CONDITIONS`; telephones are not heard over another telephone.

    Args:
        segments: of each voice ``(n, N)`` int16.
        noises: as of :func:`distort`.
    """
    generator = Generator(noises.device).manual_seed(seed)
    of_corpus = Counter(voice.corpus for voice in voices)
    outputs, owner, weight = [], [], []
    for number, (voice, said) in enumerate(zip(voices, segments, strict=True)):
        conditions = CONDITIONS[:-1] if CORPORA[voice.corpus].is_telephone else CONDITIONS
        chosen = torch.randperm(len(said), generator=Generator().manual_seed(seed + number))[:SEGMENTS]
        samples = float32(said[chosen].to(noises.device))
        for share, chances in conditions:
            heard = samples if chances is None else distort(samples, noises, generator, chances)
            features, _, _ = embedder.features(heard.T, None, None)
            y, _ = embedder.rnn(features)
            means = torch.cat([y[window].mean(0) for window in WINDOWS])
            outputs.append(means)
            owner += [number] * len(means)
            # A corpus of many speakers is an example more often, but less than in proportion.
            weight += [share * of_corpus[voice.corpus] ** -0.25 / len(means)] * len(means)
    return Means(torch.cat(outputs), *(torch.tensor(each, device=noises.device) for each in (owner, weight)))


def tune_projection(embedder: SpeakerEmbedder, means: Means, recipe: EmbedderRecipe) -> None:
    """Train the projection alone, which is written, to tell voices apart by the mean outputs of :func:`hear`."""
    torch.manual_seed(recipe.seed)
    projection = embedder.projection
    middle, spread = means.outputs.mean(0), means.outputs.std(0) + 1e-4
    examples = (means.outputs - middle) / spread
    # The same map, of standardised outputs.
    layer = nn.Linear(projection.in_features, projection.out_features, device=examples.device)
    with torch.no_grad():
        layer.weight.copy_(projection.weight * spread)
        layer.bias.copy_(projection.bias + projection.weight @ middle)
        begun = layer.weight.clone()
        centres = torch.zeros(int(means.owner.max()) + 1, projection.out_features, device=examples.device)
        centres.index_add_(0, means.owner, normalize(layer(examples), dim=1))
    centres = nn.Parameter(normalize(centres, dim=1))
    groups = [{"params": layer.parameters(), "lr": _LEARNING_RATE}, {"params": [centres], "lr": _CENTRE_RATE}]
    optimizer = torch.optim.AdamW(groups, weight_decay=1e-2)
    for _ in range(recipe.projection):
        chosen = torch.multinomial(means.weight, _BATCH, replacement=True)
        voice = normalize(layer(dropout(examples[chosen], _DROPOUT)), dim=1)
        loss = angular_margin_loss(voice, centres, means.owner[chosen], recipe.margin, recipe.scale)
        loss = loss + _PULL * (layer.weight - begun).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        projection.weight.copy_(layer.weight / spread)
        projection.bias.copy_(layer.bias - projection.weight @ middle)
