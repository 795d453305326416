"""Who takes part: ours, and other ways to the same numbers, by the names that the tables give them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Optional

import torch
from torch import Tensor

from streamdrnn import DilatedRNN, StreamingDRNN
from streamdrnn.apps.bench.choices import Precision
from streamdrnn.apps.bench.flashrnn import flashrnn
from streamdrnn.apps.bench.peers import (
    Loop,
    Reshape,
    StackOfLayers,
    StackStep,
    compiled,
    live,
    live_onnx,
    scripted,
)

LiveStep = Callable[[Tensor], Tensor]
"""``(B, I)`` to ``(B, H)``, keeping its state."""


OURS, RESHAPE = "ours", "reshape"
GIVEN_MEMORY, PUSHED, STEPPED = "ours, out=", "push", "step by step"
ALL_OURS = (OURS, GIVEN_MEMORY, PUSHED, STEPPED)
"""Those that must not fail. All others are peers."""


class Network(NamedTuple):
    """One way to compute a sequence.

    Attributes:
        forward: ``(T, B, I)`` to ``(T, B, H)``.
        weights: its parameters, in the network's order.
    """

    forward: Callable[[Tensor], Tensor]
    weights: Sequence[Tensor]


def of_model(model: DilatedRNN) -> Network:
    """The model as it is."""
    return Network(lambda x: model(x)[0], list(model.parameters()))


def torch_twin(model: DilatedRNN, dtype: Optional[torch.dtype] = None) -> DilatedRNN:
    """The same network on the backend ``torch``, with a copy of the weights."""
    sizes = {"dilations": model.dilations, "cell": model.cell, "fuse": False}
    twin = DilatedRNN(model.input_size, model.hidden_sizes, **sizes, backend="torch")  # type: ignore[arg-type]
    twin.load_state_dict(model.state_dict())
    return twin.to(model.weight_ih_l0.device, dtype).train(model.training)


def reshape(model: DilatedRNN, precision: Precision) -> Network:
    """The reshape trick over torch's own layers: on a GPU, cuDNN's."""
    network = Reshape(model)
    return Network(network, list(network.parameters()))


def compiled_whole(model: DilatedRNN, precision: Precision) -> Network:
    """The backend ``torch`` under ``torch.compile``, which unrolls the loop over time."""
    twin = torch_twin(model)
    forward = torch.compile(twin, dynamic=False)
    return Network(lambda x: forward(x)[0], list(twin.parameters()))


def of_loop(loop: Callable[[Tensor], Tensor], model: DilatedRNN) -> Network:
    """A loop over time on the model's own weights."""
    return Network(loop, list(model.parameters()))


def given_memory(model: DilatedRNN, streams: int) -> LiveStep:
    """Our step, writing to memory that is given: ``out=``."""
    stream = StreamingDRNN(model, streams)
    y_t = model.weight_ih_l0.new_empty(streams, model.hidden_size).detach()
    return lambda x_t: stream.step(x_t, out=y_t)


SEQUENCES: dict[str, Callable[[DilatedRNN, Precision], Network]] = {
    OURS: lambda model, precision: of_model(model),
    RESHAPE: reshape,
    "FlashRNN": lambda model, precision: of_loop(flashrnn(model, precision), model),
    "torch": lambda model, precision: of_model(torch_twin(model)),
    "loop": lambda model, precision: of_loop(Loop(model, StackStep(model)), model),
    "loop TorchScript": lambda model, precision: of_loop(scripted(Loop(model, StackStep(model))), model),
    "loop torch.compile": lambda model, precision: of_loop(Loop(model, compiled(StackStep(model))), model),
    "torch.compile": compiled_whole,
}
"""Whole sequences, from the model, whose backend is the one under test; makers may raise ``CannotRunError``."""

STEPS: dict[str, Callable[[DilatedRNN, int], LiveStep]] = {
    OURS: lambda model, streams: StreamingDRNN(model, streams).step,
    GIVEN_MEMORY: given_memory,
    "torch": lambda model, streams: StreamingDRNN(torch_twin(model), streams).step,
    "cuDNN": lambda model, streams: live(model, StackOfLayers(model), streams),
    "loop": lambda model, streams: live(model, StackStep(model), streams),
    "loop TorchScript": lambda model, streams: live(model, scripted(StackStep(model)), streams),
    "loop torch.compile": lambda model, streams: live(model, compiled(StackStep(model)), streams),
    "onnxruntime": live_onnx,
}
"""Steps of live streams, from the model and their number; makers may raise ``CannotRunError``."""
