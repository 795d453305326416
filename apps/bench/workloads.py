"""The sizes that are measured on each device, and how many operations they take."""

from typing import NamedTuple, Optional

import torch
from torch import Tensor

from streamdrnn import DilatedRNN
from streamdrnn.apps.bench.choices import Cell, Device
from streamdrnn.kernels import CELLS


class Workload(NamedTuple):
    """A network whose dilations double from layer to layer, without fusion, and the batch that it runs on.

    Attributes:
        name: what the tables call it.
        batch, steps: B and T of the input ``(T, B, I)``.
        inputs, hidden, layers: I, H and L.
        loops: whether the contenders that loop over time, which take seconds, are measured on it too.
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
        per_row = sum(2 * CELLS[cell].gates * self.hidden * (below + self.hidden) for below in self.sizes_below)
        return self.steps * self.batch * per_row * (3 if train else 1)

    def weights(self, cell: str) -> int:
        """The number of all weights and biases."""
        return sum(CELLS[cell].gates * self.hidden * (below + self.hidden + 2) for below in self.sizes_below)

    @property
    def sizes_below(self) -> list[int]:
        """The size of each layer's input."""
        return [self.inputs, *[self.hidden] * (self.layers - 1)]

    def __str__(self) -> str:
        sizes = f"B={self.batch} T={self.steps} I={self.inputs} H={self.hidden} L={self.layers}"
        return sizes if self.dilation == 1 else f"{sizes} d={self.dilation}"


class Case(NamedTuple):
    """What contenders compute.

    Attributes:
        train: forward, and backward to the weights; else forward in inference mode.
    """

    workload: Workload
    cell: Cell
    train: bool = False

    @property
    def flops(self) -> int:
        """Floating point operations of the matrix products."""
        return self.workload.flops(self.cell, self.train)


class StreamSizes(NamedTuple):
    """What the suite ``stream`` measures: layers with dilations 1, 2, 4, ..., stepped one by one.

    Attributes:
        hidden, layers: of the network.
        blocks, block: steps are timed in this many turns of so many steps.
        streams: how many streams step together.
        inputs: I of single streams on the CPU, and there
        samples: raw samples of the recording that is streamed,
        chunk: of which so many are pushed at once.
        from_c: layers, and a network, whose steps are called from C++ on the CPU.
        compiled: for how many streams a step under ``torch.compile`` is measured too, on the GPU.
    """

    hidden: int
    layers: int
    blocks: int
    block: int
    streams: tuple[int, ...]
    inputs: tuple[int, ...] = ()
    samples: int = 0
    chunk: int = 1
    compiled: tuple[int, ...] = ()
    from_c: tuple[Workload, ...] = ()

    def workload(self, streams: int = 1, inputs: Optional[int] = None, steps: int = 1) -> Workload:
        """So many streams; I is H unless it is given."""
        return Workload(str(streams), streams, steps, inputs or self.hidden, self.hidden, self.layers)


class Sizes(NamedTuple):
    """What the suites measure on a device.

    Attributes:
        sequences: networks for the suites ``forward``, ``train`` and ``memory``.
        loops: the contenders that loop over time, for workloads with ``loops``.
        growth: a network of which one size is varied,
        axes: by the name of what varies its sizes.
        stream: the suite ``stream``.
        memory_steps: steps that are pushed while the resident memory is watched, on the CPU.
        copied_bytes, product: the copy and the square matrix product that measure the GPU's ceilings.
        compiled: one small enough for ``torch.compile``, which unrolls its loop over time; None is none. On the GPU.
        layers: single LSTM layers, beside FlashRNN, on the GPU.
        latency_steps: the two lengths of the layer that measures the time of a step, on the GPU.
    """

    sequences: tuple[Workload, ...]
    loops: tuple[str, ...]
    growth: Workload
    axes: dict[str, tuple[int, ...]]
    stream: StreamSizes
    memory_steps: int = 0
    copied_bytes: int = 0
    product: int = 0
    compiled: Optional[Workload] = None
    layers: tuple[Workload, ...] = ()
    latency_steps: tuple[int, int] = (1, 2)


# RTNeural's backend xsimd computes whole vectors only.
FROM_C = tuple(
    Workload(f"a layer of {hidden}", batch=1, steps=1000, inputs=inputs, hidden=hidden, layers=1)
    for hidden in (16, 32, 64)
    for inputs in (1, hidden)
)
CPU_LOOPS = ("loop", "loop TorchScript", "loop torch.compile")
GPU_LOOPS = ("torch",)

CPU = Sizes(
    sequences=(
        Workload("mnist", batch=128, steps=784, inputs=1, hidden=20, layers=9),
        Workload("copy", batch=32, steps=1020, inputs=10, hidden=10, layers=9, loops=True),
        Workload("wide", batch=16, steps=784, inputs=1, hidden=50, layers=9),
        Workload("recording", batch=1, steps=8000, inputs=64, hidden=64, layers=6),
        Workload("voices", batch=64, steps=100, inputs=64, hidden=192, layers=5),  # an earlier speaker model
    ),
    loops=CPU_LOOPS,
    growth=Workload("growth", batch=1, steps=1000, inputs=32, hidden=32, layers=6),
    axes={
        "time steps": (10**3, 10**4, 10**5, 10**6),
        "hidden units": (16, 32, 64, 128, 256, 512),
        "batch": (1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
        "layers": (1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
        "live streams": (1, 4, 16, 64, 256, 1024, 4096),
    },
    stream=StreamSizes(
        64,
        9,
        25,
        100,
        streams=(1, 8, 64, 512),
        inputs=(64, 1),
        samples=16000,
        chunk=160,
        from_c=(*FROM_C, Workload("six layers of 32", batch=1, steps=1000, inputs=1, hidden=32, layers=6)),
    ),
    memory_steps=10**6,
)
QUICK_CPU = Sizes(
    sequences=(
        Workload("copy", batch=2, steps=21, inputs=3, hidden=4, layers=2, loops=True),
        Workload("recording", batch=1, steps=500, inputs=8, hidden=8, layers=3),
    ),
    loops=CPU_LOOPS,
    growth=Workload("growth", batch=1, steps=20, inputs=4, hidden=4, layers=2),
    axes={
        "time steps": (10, 100),
        "hidden units": (2, 4),
        "batch": (1, 2),
        "layers": (1, 2),
        "live streams": (1, 2),
    },
    stream=StreamSizes(
        4,
        2,
        2,
        5,
        streams=(1, 4),
        inputs=(3,),
        samples=160,
        chunk=16,
        from_c=(
            Workload("a layer of 16", batch=1, steps=20, inputs=1, hidden=16, layers=1),
            Workload("two layers of 16", batch=1, steps=20, inputs=1, hidden=16, layers=2),
        ),
    ),
    memory_steps=4000,
)
# What matters most comes first: what a suite has no time left for is its last.
GPU = Sizes(
    sequences=(
        Workload("H=20 T=784", batch=128, steps=784, inputs=1, hidden=20, layers=9, loops=True),
        Workload("H=50 T=784", batch=128, steps=784, inputs=1, hidden=50, layers=9, loops=True),
        Workload("H=20 T=2000", batch=128, steps=2000, inputs=1, hidden=20, layers=9),
        Workload("H=50 T=2000", batch=128, steps=2000, inputs=1, hidden=50, layers=9),
    ),
    loops=GPU_LOOPS,
    growth=Workload("growth", batch=128, steps=784, inputs=1, hidden=20, layers=9),
    axes={"hidden units": (10, 20, 32, 50, 64, 100, 128, 256, 512)},
    stream=StreamSizes(64, 9, 20, 100, streams=(1, 100, 1_000, 10_000), compiled=(1, 10_000)),
    copied_bytes=2**30,
    product=8192,
    compiled=Workload("small", batch=128, steps=32, inputs=1, hidden=20, layers=3),
    layers=(
        Workload("B=16", batch=16, steps=1024, inputs=64, hidden=64, layers=1),
        Workload("B=128", batch=128, steps=1024, inputs=64, hidden=64, layers=1),
        Workload("B=512", batch=512, steps=1024, inputs=64, hidden=64, layers=1),
        Workload("B=16 d=16", batch=16, steps=1024, inputs=64, hidden=64, layers=1, dilation=16),
    ),
    latency_steps=(256, 2048),
)
QUICK_GPU = Sizes(
    sequences=(Workload("H=5 T=21", batch=3, steps=21, inputs=1, hidden=5, layers=3, loops=True),),
    loops=GPU_LOOPS,
    growth=Workload("growth", batch=3, steps=9, inputs=1, hidden=4, layers=2),
    axes={"hidden units": (4, 6)},
    stream=StreamSizes(8, 3, 2, 3, streams=(1, 5), compiled=(5,)),
    copied_bytes=2**16,
    product=64,
    compiled=Workload("small", batch=2, steps=4, inputs=1, hidden=4, layers=2),
    layers=(
        Workload("B=3", batch=3, steps=13, inputs=4, hidden=16, layers=1),
        Workload("B=3 d=4", batch=3, steps=13, inputs=4, hidden=16, layers=1, dilation=4),
    ),
    latency_steps=(8, 32),
)

SIZES: dict[Device, Sizes] = {"cpu": CPU, "cuda": GPU, "model": GPU}
QUICK_SIZES: dict[Device, Sizes] = {"cpu": QUICK_CPU, "cuda": QUICK_GPU, "model": QUICK_GPU}
