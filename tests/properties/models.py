"""One model of each kind over a network, built twice with the same weights."""

from typing import Union

import torch
from torch import Tensor
from torch.nn.functional import linear, normalize

from streamdrnn import Classifier, DilatedRNN, SpeakerEmbedder, Tagger
from streamdrnn.heads import Head
from tests.strategies import Network

Model = Union[DilatedRNN, Head]

KINDS = ("network", "classifier of the last", "classifier of the mean", "tagger", "embedder")


def build(kind: str, network: Network, backend: str = "torch") -> Model:
    return network.build(backend) if kind == "network" else build_head(kind, network, backend)


def build_head(kind: str, network: Network, backend: str = "torch") -> Head:
    rnn = network.build(backend)
    torch.manual_seed(network.seed + 1)
    heads: dict[str, Head] = {
        "classifier of the last": Classifier(rnn, 3, pool="last"),
        "classifier of the mean": Classifier(rnn, 3, pool="mean"),
        "tagger": Tagger(rnn, 2),
        "embedder": SpeakerEmbedder(rnn, 4),
    }
    return heads[kind].to(network.dtype)


def without_a_step(model: Model) -> Tensor:
    """What a model answers for a stream that has made no step."""
    if isinstance(model, DilatedRNN):
        return torch.zeros(model.hidden_size, dtype=model.weight_ih_l0.dtype)
    dtype = model.rnn.weight_ih_l0.dtype
    nothing = torch.zeros(model.rnn.hidden_size, dtype=dtype)
    if isinstance(model, Tagger):
        return torch.zeros(model.num_outputs, dtype=dtype)
    if isinstance(model, Classifier):
        return linear(nothing, model.output.weight, model.output.bias)
    assert isinstance(model, SpeakerEmbedder)
    return normalize(linear(nothing, model.projection.weight, model.projection.bias), dim=0)
