"""Who takes part: ours, and other ways to the same numbers, by the names that the tables give them."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from streamdrnn import DilatedRNN, StreamingDRNN
from streamdrnn.apps.bench.cuda.flashrnn import flashrnn
from streamdrnn.apps.bench.forward_train import Network
from streamdrnn.apps.bench.peers import Loop, Reshape, StackStep, compiled, live
from streamdrnn.apps.bench.stream import LiveStep

Maker = Callable[[DilatedRNN, str], Network]
"""From the model, whose backend is the one under test, and the precision; it may raise ``CannotRunError``."""


def of_model(model: DilatedRNN) -> Network:
    """The model as it is."""
    return Network(lambda x: model(x)[0], list(model.parameters()))


def torch_twin(model: DilatedRNN, dtype: torch.dtype | None = None) -> DilatedRNN:
    """The same network on the backend ``torch``, with a copy of the weights."""
    twin = copy.deepcopy(model).to(dtype)
    twin.backend = "torch"
    return twin


def reshape(model: DilatedRNN, precision: str) -> Network:
    """The reshape trick over cuDNN."""
    network = Reshape(model)
    return Network(network, list(network.parameters()))


def compiled_loop(model: DilatedRNN, precision: str) -> Network:
    """A step of all layers under ``torch.compile``, in Python's loop over time."""
    return Network(Loop(model, compiled(StackStep(model))), list(model.parameters()))


def compiled_whole(model: DilatedRNN, precision: str) -> Network:
    """The backend ``torch`` under ``torch.compile``, which unrolls the loop over time."""
    twin = torch_twin(model)
    forward = torch.compile(twin, dynamic=False)
    return Network(lambda x: forward(x)[0], list(twin.parameters()))


OURS: dict[str, Maker] = {
    "ours": lambda model, precision: of_model(model),
}
"""Each takes part in every comparison of sequences. Ratios are those of "ours"."""

PEERS: dict[str, Maker] = {
    "reshape": reshape,
    "FlashRNN": lambda model, precision: Network(flashrnn(model, precision), list(model.parameters())),
    "torch": lambda model, precision: of_model(torch_twin(model)),
    "loop torch.compile": compiled_loop,
    "torch.compile": compiled_whole,
}


class StackOfLayers(nn.Module):
    """One step of a stack of torch's own layers, each called for one step of all rows.

    Args:
        model: whose weights they get.
    """

    def __init__(self, model: DilatedRNN) -> None:
        super().__init__()
        self.layers = Reshape(model).layers
        self.lstm = model.cell == "lstm"

    def forward(self, x: Tensor, h: list[Tensor], c: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """x ``(B, I)``, and per layer h and (LSTM only) c of d steps ago, ``(B, H)``, to the new ones."""
        new_h: list[Tensor] = []
        new_c: list[Tensor] = []
        for number, layer in enumerate(self.layers):
            before = h[number][None]
            _, after = layer(x[None], (before, c[number][None]) if self.lstm else before)
            x = after[0][0] if self.lstm else after[0]
            new_h.append(x)
            if self.lstm:
                new_c.append(after[1][0])
        return new_h, new_c


COMPILED_STEP = "torch.compile"

STEPS: dict[str, Callable[[DilatedRNN, int], LiveStep]] = {
    "ours": lambda model, streams: StreamingDRNN(model, streams).step,
    "torch": lambda model, streams: StreamingDRNN(torch_twin(model), streams).step,
    "cuDNN": lambda model, streams: live(model, StackOfLayers(model), streams),
    COMPILED_STEP: lambda model, streams: live(model, compiled(StackStep(model)), streams),
}
"""Steps of live streams, from the model and their number."""
