"""A stack's weights as the library holds them."""

import ctypes
import weakref
from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor

from streamdrnn.kernels.cells import cell_named
from streamdrnn.kernels.cpu.library import CELLS, INT8_INPUTS, Layer, load
from streamdrnn.kernels.operators import plain
from streamdrnn.kernels.weights import AS_THEY_ARE, HELD, FusionWeights, Weights


class PackedStack:
    """A copy of the weights of a stack, laid out for chunks of some size; it is freed with this object.

    Args:
        cell: the cell's name.
        weights, dilations: one per layer; float32 on the CPU.
        fusion: those of the fusion, or None.
        steps, batch_size: the chunk that it will be used for.
        gradients: whether its backward pass will be asked for.
        held: how the layers' weights are held, one of :data:`HELD`; gradients are of those as they are only.

    Raises:
        MemoryError: there is not enough memory.
        ValueError, TypeError: a weight has no memory of float32 on the CPU, its shape does not fit the others, or a
            layer is too large for int8.
    """

    def __init__(
        self,
        cell: str,
        weights: Sequence[Weights],
        dilations: Sequence[int],
        fusion: Optional[FusionWeights],
        steps: int,
        batch_size: int,
        gradients: bool,
        held: str = AS_THEY_ARE,
    ) -> None:
        assert held == AS_THEY_ARE or not gradients
        gates = cell_named(cell).gates
        below = weights[0].w_ih.shape[-1]
        layers = (Layer * len(weights))()
        copied = []  # must live until it is
        for number, (layer, w, d) in enumerate(zip(layers, weights, dilations, strict=True)):
            H = w.w_hh.shape[-1]
            shapes = ((gates * H, below), (gates * H, H), (gates * H,), (gates * H,))
            tensors = [
                None if t is None else checked(f"layer {number}: {name}", t.detach(), shape)
                for name, t, shape in zip(Weights._fields, w, shapes, strict=True)
            ]
            copied.append(tensors)
            if held == "int8" and max(below, H) > INT8_INPUTS:
                raise ValueError(f"layer {number}: expected at most {INT8_INPUTS} inputs and units with int8 weights")
            layer.input_size, layer.hidden_size, layer.dilation = below, H, d
            layer.w_ih, layer.w_hh, layer.b_ih, layer.b_hh = map(address_of, tensors)
            below = H
        taps, tap_weight, tap_bias = 0, None, None
        if fusion is not None:
            taps = fusion.weight.shape[-1]
            tap_weight = checked("fusion weight", fusion.weight.detach(), (below, below, taps))
            tap_bias = None if fusion.bias is None else checked("fusion bias", fusion.bias.detach(), (below,))
        handle = load().streamdrnn_stack_new(
            CELLS[cell],
            len(weights),
            layers,
            taps,
            address_of(tap_weight),
            address_of(tap_bias),
            steps,
            batch_size,
            gradients,
            HELD.index(held),
        )
        if handle is None:
            raise MemoryError("the CPU kernels: not enough memory for the weights")
        self.handle = ctypes.c_void_p(handle)
        weakref.finalize(self, load().streamdrnn_stack_free, self.handle)


def checked(name: str, tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """:func:`plain`, for a tensor whose address the library may be given.

    Raises:
        TypeError: its numbers are no float32.
        ValueError: it has another shape, or no memory of its own on the CPU.
    """
    strided = tensor.layout is torch.strided
    if strided and tensor.dtype is torch.float32 and tensor.is_cpu and tensor.shape == shape:
        if tensor.data_ptr() or not tensor.numel():
            return plain(tensor)
        raise ValueError(f"{name}: expected a tensor with its numbers in memory, got a {type(tensor).__name__}")
    if tensor.dtype != torch.float32:
        raise TypeError(f"{name}: expected dtype torch.float32, got {tensor.dtype}")
    if not (strided and tensor.is_cpu):
        raise ValueError(f"{name}: expected a dense tensor on the CPU, got {tensor.layout} on {tensor.device}")
    raise ValueError(f"{name}: expected shape {tuple(shape)}, got {tuple(tensor.shape)}")


def addresses_of(tensors: Sequence[Tensor]) -> "ctypes.Array[ctypes.c_void_p]":
    """A C array of where the tensors' numbers are."""
    return (ctypes.c_void_p * len(tensors))(*(t.data_ptr() for t in tensors))


def address_of(tensor: Optional[Tensor]) -> Optional[int]:
    """Where a tensor's numbers are, or a null pointer."""
    return None if tensor is None else tensor.data_ptr()


def is_plain_float32(x: object) -> bool:
    """Whether the library can take an argument as it is: a tensor of float32 with its numbers in order on the CPU."""
    return type(x) is Tensor and x.dtype is torch.float32 and x.is_cpu and x.is_contiguous() and not x.is_neg()
