"""Random networks, batches and chunkings."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Optional

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from streamdrnn import DilatedRNN, DRNNState

CELLS = ("rnn", "gru", "lstm")

seeds = st.integers(0, 2**31 - 1)
cells = st.sampled_from(CELLS)
dtypes = st.sampled_from([torch.float64, torch.float32])


def examples(count: int) -> settings:
    """Settings for ``count`` examples in the default profile, and as many more as the profile asks for."""
    return settings(max_examples=max(1, count * settings().max_examples // 30))


def randn(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal numbers that depend on nothing but the seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@dataclass(frozen=True)
class Network:
    """The description of a :class:`DilatedRNN`: built twice, it has the same weights."""

    input_size: int = 3
    hidden_size: int | tuple[int, ...] = 4
    dilations: tuple[int, ...] = (1, 2)
    cell: str = "gru"
    bias: bool = True
    fuse: Optional[bool] = None
    dtype: torch.dtype = torch.float64
    seed: int = 0

    def build(self, backend: str = "torch", batch_first: bool = False, dropout: float = 0.0) -> DilatedRNN:
        torch.manual_seed(self.seed)
        return DilatedRNN(
            self.input_size,
            self.hidden_size if isinstance(self.hidden_size, int) else list(self.hidden_size),
            dilations=list(self.dilations),
            cell=self.cell,
            bias=self.bias,
            fuse=self.fuse,
            batch_first=batch_first,
            dropout=dropout,
            backend=backend,
        ).to(self.dtype)

    def x(self, T: int, B: int, seed: int = 0) -> Tensor:
        return randn(T, B, self.input_size, seed=seed, dtype=self.dtype)


@st.composite
def networks(draw: st.DrawFn, dtype: Optional[torch.dtype] = None) -> Network:
    """Any cell, 1 to 4 layers, dilations in any order: twice the same, no powers of two, longer than the input."""
    dilations = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=4)))
    per_layer = st.tuples(*[st.integers(1, 6)] * len(dilations))
    return Network(
        input_size=draw(st.integers(1, 4)),
        hidden_size=draw(st.one_of(st.integers(1, 6), per_layer)),
        dilations=dilations,
        cell=draw(cells),
        bias=draw(st.booleans()),
        fuse=draw(st.sampled_from([None, True, False])),
        dtype=draw(dtypes) if dtype is None else dtype,
        seed=draw(seeds),
    )


times = st.integers(0, 20)
batch_sizes = st.integers(1, 4)


@st.composite
def chunkings(draw: st.DrawFn, T: int) -> list[int]:
    """Lengths that add up to T, some of them 0."""
    cuts = sorted(draw(st.lists(st.integers(0, T), max_size=6)))
    return [end - start for start, end in pairwise([0, *cuts, T])]


def masks(batch_size: int) -> st.SearchStrategy[Optional[Tensor]]:
    """Which streams are active; None is all of them."""
    mask = st.lists(st.booleans(), min_size=batch_size, max_size=batch_size).map(torch.tensor)
    return st.one_of(st.none(), mask)


def lengths(T: int, batch_size: int) -> st.SearchStrategy[Tensor]:
    """How many of T steps each stream makes."""
    return st.lists(st.integers(0, T), min_size=batch_size, max_size=batch_size).map(torch.tensor)


def random_state(model: DilatedRNN, cursor: Sequence[int], seed: int) -> DRNNState:
    """Streams in the middle of something: full rings, clocks that differ."""
    zero = model.zero_state(len(cursor))
    rings = iter(range(seed, seed + 100))
    state = zero.map(lambda t: randn(*t.shape, seed=next(rings), dtype=t.dtype) / 2 if t.is_floating_point() else t)
    return state._replace(cursor=torch.tensor(cursor, dtype=torch.int64))
