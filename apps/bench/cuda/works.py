"""The sizes that are measured."""

from typing import NamedTuple

from streamdrnn.apps.bench.works import Work


class Sizes(NamedTuple):
    """What the suites measure.

    Attributes:
        sequences: networks for the suites ``forward`` and ``train``; those with ``loops`` also beside our backend
            ``torch``.
        compiled: one small enough for ``torch.compile``, which unrolls its loop over time; None is none.
        layers: single LSTM layers, beside FlashRNN.
        growth: a network whose ``hidden`` is varied,
        hidden: through these sizes.
        streams: how many streams step together, through ``stream_layers`` layers of ``stream_hidden``,
        compiled_streams: for how many a step under ``torch.compile`` is measured too,
        blocks, block: in this many turns of so many steps.
        copied_bytes, product: the copy and the square matrix product that measure the device's ceilings.
        latency_steps: the two lengths of the layer that measures the time of a step.
    """

    sequences: tuple[Work, ...]
    compiled: Work | None
    layers: tuple[Work, ...]
    growth: Work
    hidden: tuple[int, ...]
    stream_hidden: int
    stream_layers: int
    streams: tuple[int, ...]
    compiled_streams: tuple[int, ...]
    blocks: int
    block: int
    copied_bytes: int
    product: int
    latency_steps: tuple[int, int]


# What matters most comes first: what a suite has no time left for is its last.
FULL = Sizes(
    sequences=(
        Work("H=20 T=784", batch=128, steps=784, inputs=1, hidden=20, layers=9, loops=True),
        Work("H=50 T=784", batch=128, steps=784, inputs=1, hidden=50, layers=9, loops=True),
        Work("H=20 T=2000", batch=128, steps=2000, inputs=1, hidden=20, layers=9),
        Work("H=50 T=2000", batch=128, steps=2000, inputs=1, hidden=50, layers=9),
    ),
    compiled=Work("small", batch=128, steps=32, inputs=1, hidden=20, layers=3),
    layers=(
        Work("B=16", batch=16, steps=1024, inputs=64, hidden=64, layers=1),
        Work("B=128", batch=128, steps=1024, inputs=64, hidden=64, layers=1),
        Work("B=512", batch=512, steps=1024, inputs=64, hidden=64, layers=1),
        Work("B=16 d=16", batch=16, steps=1024, inputs=64, hidden=64, layers=1, dilation=16),
    ),
    growth=Work("growth", batch=128, steps=784, inputs=1, hidden=20, layers=9),
    hidden=(10, 20, 32, 50, 64, 100, 128, 256, 512),
    stream_hidden=64,
    stream_layers=9,
    streams=(1, 100, 1_000, 10_000),
    compiled_streams=(1, 10_000),
    blocks=20,
    block=100,
    copied_bytes=2**30,
    product=8192,
    latency_steps=(256, 2048),
)
QUICK = Sizes(
    sequences=(Work("H=5 T=21", batch=3, steps=21, inputs=1, hidden=5, layers=3, loops=True),),
    compiled=Work("small", batch=2, steps=4, inputs=1, hidden=4, layers=2),
    layers=(
        Work("B=3", batch=3, steps=13, inputs=4, hidden=16, layers=1),
        Work("B=3 d=4", batch=3, steps=13, inputs=4, hidden=16, layers=1, dilation=4),
    ),
    growth=Work("growth", batch=3, steps=9, inputs=1, hidden=4, layers=2),
    hidden=(4, 6),
    stream_hidden=8,
    stream_layers=3,
    streams=(1, 5),
    compiled_streams=(5,),
    blocks=2,
    block=3,
    copied_bytes=2**16,
    product=64,
    latency_steps=(8, 32),
)
