"""The sizes that are measured, and how many operations they take."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from streamdrnn import DilatedRNN
from streamdrnn.kernels import GATES

Cell = Literal["gru", "rnn", "lstm"]
CELLS: tuple[Cell, ...] = ("gru", "rnn", "lstm")


class Work(NamedTuple):
    """A network whose dilations double from layer to layer, without fusion, and the batch that it runs on.

    Attributes:
        name: what the tables call it.
        batch, steps: B and T of the input ``(T, B, I)``.
        inputs, hidden, layers: I, H and L.
        loops: whether the step by step peers, which take seconds, are measured on it too.
        dilation: of the first layer.
    """

    name: str
    batch: int
    steps: int
    inputs: int
    hidden: int
    layers: int
    loops: bool = False
    dilation: int = 1

    @property
    def dilations(self) -> list[int]:
        """One per layer."""
        return [self.dilation * 2**layer for layer in range(self.layers)]

    def model(self, cell: str, backend: str = "auto") -> DilatedRNN:
        """The network with new weights."""
        return DilatedRNN(self.inputs, self.hidden, dilations=self.dilations, cell=cell, fuse=False, backend=backend)

    def input(self, device: str = "cpu") -> Tensor:
        """``(T, B, I)``, normally distributed."""
        return torch.randn(self.steps, self.batch, self.inputs, device=device)

    def flops(self, cell: str, train: bool = False) -> int:
        """Floating point operations of the matrix products; training takes two more of each, for the gradients."""
        per_row = sum(2 * GATES[cell] * self.hidden * (below + self.hidden) for below in self.sizes_below)
        return self.steps * self.batch * per_row * (3 if train else 1)

    @property
    def sizes_below(self) -> list[int]:
        """The size of each layer's input."""
        return [self.inputs, *[self.hidden] * (self.layers - 1)]

    def __str__(self) -> str:
        sizes = f"B={self.batch} T={self.steps} I={self.inputs} H={self.hidden} L={self.layers}"
        return sizes if self.dilation == 1 else f"{sizes} d={self.dilation}"


WORKS = (
    Work("mnist", batch=128, steps=784, inputs=1, hidden=20, layers=9),
    Work("copy", batch=32, steps=1020, inputs=10, hidden=10, layers=9, loops=True),
    Work("wide", batch=16, steps=784, inputs=1, hidden=50, layers=9),
    Work("recording", batch=1, steps=8000, inputs=64, hidden=64, layers=6),
)
QUICK_WORKS = (
    Work("copy", batch=2, steps=21, inputs=3, hidden=4, layers=2, loops=True),
    Work("recording", batch=1, steps=500, inputs=8, hidden=8, layers=3),
)


class StreamSizes(NamedTuple):
    """What the suite ``stream`` measures: GRU layers with dilations 1, 2, 4, ..., stepped one by one.

    Attributes:
        hidden, layers: of the network.
        inputs: I, one table row each.
        blocks, block: steps are timed in this many turns of so many steps.
        samples: raw samples of the recording that is streamed, and
        chunk: how many of them are pushed at once.
        streams: how many streams step together.
    """

    hidden: int
    layers: int
    inputs: tuple[int, ...]
    blocks: int
    block: int
    samples: int
    chunk: int
    streams: tuple[int, ...]


STREAM = StreamSizes(64, 9, (64, 1), blocks=25, block=100, samples=16000, chunk=160, streams=(1, 8, 64, 512))
QUICK_STREAM = StreamSizes(4, 2, (3,), blocks=2, block=5, samples=160, chunk=16, streams=(1, 4))


class GrowthSizes(NamedTuple):
    """What the suite ``growth`` varies, one at a time, from the network and input of ``base``.

    Attributes:
        base: the work that is varied.
        steps, hidden, batch, layers: sizes of its forward pass.
        streams: how many streams one step advances.
        memory_steps: steps that are pushed while the resident memory is watched.
    """

    base: Work
    steps: tuple[int, ...]
    hidden: tuple[int, ...]
    batch: tuple[int, ...]
    layers: tuple[int, ...]
    streams: tuple[int, ...]
    memory_steps: int


GROWTH = GrowthSizes(
    Work("growth", batch=1, steps=1000, inputs=32, hidden=32, layers=6),
    steps=(10**3, 10**4, 10**5, 10**6),
    hidden=(16, 32, 64, 128, 256, 512),
    batch=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
    layers=(1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
    streams=(1, 4, 16, 64, 256, 1024, 4096),
    memory_steps=10**6,
)
QUICK_GROWTH = GrowthSizes(
    Work("growth", batch=1, steps=20, inputs=4, hidden=4, layers=2),
    steps=(10, 100),
    hidden=(2, 4),
    batch=(1, 2),
    layers=(1, 2),
    streams=(1, 2),
    memory_steps=4000,
)
