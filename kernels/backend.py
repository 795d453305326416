"""Backends: who computes a network's layers. Which one does is decided once per call, and the object is passed on."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Optional, Protocol

import torch
from torch import Tensor

from streamdrnn.kernels.weights import AS_THEY_ARE, FusionWeights, Weights


class Rings(Protocol):
    """The state of B streams in a stack of layers; a network's state has these attributes among others.

    Attributes:
        h: ``(d, B, H)`` per layer, the last d hidden states; time t is in slot ``t mod d``.
        c: the same for an LSTM's cell states, else empty.
        fusion: ``(d0, B, H)``, the last d0 outputs of the top layer; d0 = 0 without a fusion.
        cursor: ``(B,)`` int64, the steps that each stream has made.
    """

    @property
    def h(self) -> list[Tensor]: ...
    @property
    def c(self) -> list[Tensor]: ...
    @property
    def fusion(self) -> Tensor: ...
    @property
    def cursor(self) -> Tensor: ...


class StackResult(NamedTuple):
    """The results of a stack of layers over a chunk.

    Attributes:
        y: ``(T, B, H)``, the top layer's outputs, zero where no step was made.
        h, c: the rings after the chunk, one per layer; c is empty but for an LSTM.
        cursor: ``(B,)`` int64, the clocks after the chunk.
    """

    y: Tensor
    h: list[Tensor]
    c: list[Tensor]
    cursor: Tensor


class Stream(Protocol):
    """A stack and its fusion, on a copy of the weights, that advance the state of B streams in place."""

    def bind(self, state: Rings) -> None:
        """Take a state: from now on it is advanced, in its own memory."""

    def run(self, x: Tensor, lengths: Optional[Tensor], state: Optional[Rings] = None) -> Tensor:
        """A chunk, from x ``(T, B, I)`` to y ``(T, B, H)`` in the dtype of the state.

        Args:
            lengths: ``(B,)`` int64 from 0 to T, the steps that each stream really makes; None is T.
            state: another one than that which is bound, to be advanced this once.

        Raises:
            MemoryError: there is not enough memory. Nothing was written.
        """

    def run_at_once(self, x: Tensor) -> Optional[Tensor]:
        """:meth:`run` for all steps of all streams, if that is possible without any conversion.

        Returns:
            y; None if nothing was written, and :meth:`run` does it or says why it cannot be done.
        """

    def step(self, x: Tensor, out: Optional[Tensor]) -> Optional[Tensor]:
        """One step of all streams, from x ``(B, I)`` to y ``(B, H)``, if that is possible without any conversion.

        Args:
            out: where to write y; None is a new tensor.

        Returns:
            y; None if the step was not made: nothing was written, and :meth:`run` makes it or says why it cannot be.
        """


class Runtime(Protocol):
    """B streams of a whole model, front-end and head included, with their state in a memory of its own."""

    def part(self, name: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A part of the streams' state, in the memory that is written.

        Args:
            name: ``cursor``, ``filled``, ``frames``, ``pooled``, ``tail``, ``history``, ``fusion``, or ``h.0``,
                ``c.0`` and so on for the rings of a layer.
            shape: ``(B,)``, ``(slots, B)`` or ``(slots, B, size)``.
        """

    def push(self, x: Tensor, lengths: Optional[Tensor], streams: Optional[Tensor]) -> Tensor:
        """The next chunk.

        Args:
            x: ``(N, B)`` samples, or without a front-end ``(T, B, I)``; float32.
            lengths: ``(B,)`` int64, how many of them are each stream's own; None is all. The others may hold anything.
            streams: ``(B,)`` int64, whose they are, each at most once; None is all streams in their order.

        Returns:
            the outputs ``(steps, B, M)``; with a front-end, steps is the number of the stream that makes most of them.

        Raises:
            ValueError: x is not finite where it is a stream's own. Nothing was written.
        """

    def push_at_once(self, x: Tensor) -> Optional[Tensor]:
        """:meth:`push` for all streams, if that is possible without any conversion.

        Returns:
            the outputs; None if nothing was written, and :meth:`push` does it or says why it cannot be done.
        """

    def output_so_far(self) -> Tensor:
        """``(B, M)``, the outputs that the steps made so far lead to."""


class Backend(Protocol):
    """One way to compute layers on top of one another.

    Attributes:
        name: as users write it.
        runtime: the streams of a whole model, from the bytes of its file, the number of its layers, B, and how its
            weights are held; None if there is no such thing.
    """

    @property
    def name(self) -> str: ...
    @property
    def runtime(self) -> Optional[Callable[[bytes, int, int, str], Runtime]]: ...

    def why_not(self) -> str:
        """Why it cannot be used on this machine; empty if it can."""

    def takes(self, x: Tensor) -> bool:
        """Whether it computes on x, whose dtype is that of the states."""

    def stack(
        self,
        cell: str,
        x: Tensor,
        weights: Sequence[Weights],
        dilations: Sequence[int],
        h_rings: Optional[Sequence[Tensor]],
        c_rings: Optional[Sequence[Tensor]],
        cursor: Optional[Tensor],
        lengths: Optional[Tensor] = None,
    ) -> StackResult:
        """Layers on top of one another over a chunk of B streams: ``c_t = f(x_t, c_{t-d})`` in each.

        Args:
            cell: the name of one of :data:`streamdrnn.kernels.cells.CELLS`.
            x: ``(T, B, I)``, in the dtype of the states.
            weights, dilations: one per layer. Weights of another dtype are taken to that of x, or (``triton``) are what
                the operands of products are rounded to.
            h_rings: ``(d, B, H)`` per layer, the last d hidden states, time t in slot ``t mod d``; None for streams
                before their first step, of which no cursor need be given either.
            c_rings: the same for an LSTM's cell states, else empty or None.
            cursor: ``(B,)`` int64, the time of each stream's first step in this chunk.
            lengths: ``(B,)`` int64 from 0 to T, how many of the steps each stream really makes. The others write
                nothing: the slot that a step overwrites holds the state that the stream's next real step reads.
        """

    def linear(self, x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
        """``torch.nn.functional.linear``; by ``cpu`` with the same bits for a row whatever the other rows are."""

    def stream(
        self,
        cell: str,
        weights: Sequence[Weights],
        dilations: Sequence[int],
        fusion: Optional[FusionWeights],
        batch_size: int,
        held: str = AS_THEY_ARE,
    ) -> Stream:
        """A stack for live streams; the arguments are as for :meth:`stack`.

        Args:
            held: how the layers' weights are held, one of :data:`streamdrnn.kernels.weights.HELD`.

        Raises:
            ValueError: this backend cannot hold them so.
        """


def zero_rings(x: Tensor, weights: Sequence[Weights], dilations: Sequence[int]) -> list[Tensor]:
    """The rings of streams before their first step, like x ``(T, B, I)``: one memory, as filling many takes longer."""
    shapes = [(d, x.shape[1], w.w_hh.shape[1]) for w, d in zip(weights, dilations, strict=True)]
    sizes = [d * B * H for d, B, H in shapes]
    parts = x.new_zeros(sum(sizes)).split(sizes)
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
