"""A stack's weights as the library holds them."""

import ctypes
import weakref
from collections.abc import Sequence
from typing import Optional

from torch import Tensor

from streamdrnn.kernels.cpu.library import CELLS, Layer, load
from streamdrnn.kernels.weights import Weights


class PackedStack:
    """A copy of the weights of a stack, laid out for chunks of some size; it is freed with this object.

    Args:
        cell: ``"rnn"``, ``"gru"`` or ``"lstm"``.
        weights, dilations: one per layer; float32 on the CPU.
        fusion: the weight ``(H, H, d0)`` and bias ``(H,)`` of the fusion, or None.
        steps, batch_size: the chunk that it will be used for.
        gradients: whether its backward pass will be asked for.

    Raises:
        MemoryError: there is not enough memory.
    """

    def __init__(
        self,
        cell: str,
        weights: Sequence[Weights],
        dilations: Sequence[int],
        fusion: Optional[tuple[Tensor, Optional[Tensor]]],
        steps: int,
        batch_size: int,
        gradients: bool,
    ) -> None:
        layers = (Layer * len(weights))()
        held = []  # what is copied from must live until it is
        for layer, w, d in zip(layers, weights, dilations, strict=True):
            tensors = [None if t is None else plain(t.detach()) for t in w]
            held.append(tensors)
            layer.input_size, layer.hidden_size, layer.dilation = w.w_ih.shape[1], w.w_hh.shape[1], d
            layer.w_ih, layer.w_hh, layer.b_ih, layer.b_hh = map(address_of, tensors)
        tap_weight = None if fusion is None else plain(fusion[0].detach())
        tap_bias = None if fusion is None or fusion[1] is None else plain(fusion[1].detach())
        handle = load().streamdrnn_stack_new(
            CELLS[cell],
            len(weights),
            layers,
            0 if tap_weight is None else tap_weight.shape[2],
            address_of(tap_weight),
            address_of(tap_bias),
            steps,
            batch_size,
            gradients,
        )
        if handle is None:
            raise MemoryError("the CPU kernels: not enough memory for the weights")
        self.handle = ctypes.c_void_p(handle)
        weakref.finalize(self, load().streamdrnn_stack_free, self.handle)


def plain(tensor: Tensor) -> Tensor:
    """The tensor, or a copy, whose memory holds its numbers one after the other."""
    return tensor.resolve_neg().contiguous()


def addresses_of(tensors: Sequence[Tensor]) -> "ctypes.Array[ctypes.c_void_p]":
    """A C array of where the tensors' numbers are."""
    return (ctypes.c_void_p * len(tensors))(*(t.data_ptr() for t in tensors))


def address_of(tensor: Optional[Tensor]) -> Optional[int]:
    """Where a tensor's numbers are, or a null pointer."""
    return None if tensor is None else tensor.data_ptr()
