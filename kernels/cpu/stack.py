"""A stack of dilated layers over a chunk, with its gradients, each as one call of the library."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from streamdrnn.kernels.cpu.library import LayerGradients, State, check, load
from streamdrnn.kernels.cpu.packed import PackedStack, address_of, addresses_of, plain
from streamdrnn.kernels.rings import steps_made
from streamdrnn.kernels.weights import Weights


def stack(
    cell: str,
    x: Tensor,
    weights: Sequence[Weights],
    dilations: Sequence[int],
    h_rings: Optional[Sequence[Tensor]],
    c_rings: Optional[Sequence[Tensor]],
    cursor: Optional[Tensor],
    lengths: Optional[Tensor] = None,
) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
    """Layers on top of one another, float32 on the CPU.

    Args:
        x: ``(T, B, I)``.
        weights, dilations: one per layer.
        h_rings: one per layer; None for streams before their first step, of which no cursor need be given either.
        c_rings: the same for an LSTM, else empty or None.
        cursor, lengths: as in :func:`streamdrnn.kernels.dilated_layer`.

    Returns:
        the top layer's y ``(T, B, H)``, zero where no step was made; the rings and the cursor after the chunk.

    Raises:
        MemoryError: there is not enough memory.
    """
    if lengths is not None:
        # What is not a step may hold anything, NaN too, and the backward pass reads it.
        x = torch.where(steps_made(x.shape[0], lengths), x, 0.0)
    rings = [] if h_rings is None else [*h_rings, *(c_rings or ())]
    tensors = [*(t for w in weights for t in w), *rings]
    # Inside the function gradients are switched off, and whether somebody will ask for them cannot be seen.
    gradients = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in [x, *tensors])
    plan = _Plan(cell, tuple(dilations), gradients)
    y, new_cursor, *after = _Stack.apply(plan, cursor, lengths, x, *tensors)
    return y, after[: len(dilations)], after[len(dilations) :], new_cursor


class _Plan(NamedTuple):
    cell: str
    dilations: tuple[int, ...]
    gradients: bool


class _Stack(torch.autograd.Function):
    """``(x, weights, rings) -> y, rings``. It can be differentiated once; the reference backend more often."""

    @staticmethod
    def forward(
        ctx: Any,
        plan: _Plan,
        cursor: Optional[Tensor],
        lengths: Optional[Tensor],
        x: Tensor,
        *tensors: Optional[Tensor],
    ) -> tuple[Tensor, ...]:
        layers = len(plan.dilations)
        T, B, _ = x.shape
        weights = [Weights(*tensors[first : first + 4]) for first in range(0, 4 * layers, 4)]  # type: ignore[arg-type]
        rings = [plain(ring) for ring in tensors[4 * layers :] if ring is not None]
        packed = PackedStack(plan.cell, weights, plan.dilations, None, T, B, plan.gradients)
        x, lengths = plain(x), None if lengths is None else plain(lengths)
        shapes = [(d, B, w.w_hh.shape[1]) for d, w in zip(plan.dilations, weights, strict=True)]
        after = [x.new_empty(shape) for shape in (shapes * 2 if plan.cell == "lstm" else shapes)]
        y = x.new_empty(T, B, shapes[-1][2])
        saved = x.new_empty(load().streamdrnn_saved_size(packed.handle, T, B)) if plan.gradients else None
        new_cursor = torch.empty(B, dtype=torch.int64)
        before = None if cursor is None or not rings else _State(rings, layers, plain(cursor))
        state = _State(after, layers, new_cursor)
        code = load().streamdrnn_forward(
            packed.handle,
            None if before is None else before.c_struct,
            state.c_struct,
            T,
            x.data_ptr(),
            address_of(lengths),
            y.data_ptr(),
            address_of(saved),
            torch.get_num_threads(),
        )
        check(code)
        ctx.mark_non_differentiable(new_cursor)
        if plan.gradients:
            ctx.packed, ctx.plan = packed, plan
            ctx.save_for_backward(x, cursor, lengths, saved, *tensors[: 4 * layers], *rings)
            ctx.set_materialize_grads(False)
        return y, new_cursor, *after

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Optional[Tensor]) -> tuple[Optional[Tensor], ...]:
        x, cursor, lengths, saved, *tensors = ctx.saved_tensors
        layers = len(ctx.plan.dilations)
        weights, rings = tensors[: 4 * layers], tensors[4 * layers :]
        T, B, _ = x.shape
        sizes = [w.shape[1] for w in weights[1::4]]
        shapes = [(d, B, H) for d, H in zip(ctx.plan.dilations, sizes, strict=True)]
        dy = x.new_zeros(T, B, sizes[-1]) if grads[0] is None else plain(grads[0])
        d_rings = [
            x.new_zeros(shape) if grad is None else grad.resolve_neg().clone(memory_format=torch.contiguous_format)
            for grad, shape in zip(grads[2:], shapes * 2 if ctx.plan.cell == "lstm" else shapes, strict=True)
        ]
        dx = x.new_empty(x.shape) if ctx.needs_input_grad[3] else None
        d_weights = [None if w is None else w.new_empty(w.shape) for w in weights]
        targets = (LayerGradients * layers)()
        for layer, target in enumerate(targets):
            ours = d_weights[4 * layer : 4 * layer + 4]
            target.w_ih, target.w_hh, target.b_ih, target.b_hh = map(address_of, ours)
        clock = torch.zeros(B, dtype=torch.int64) if cursor is None else plain(cursor)
        before, after = _State(rings, layers, clock), _State(d_rings, layers, clock)
        code = load().streamdrnn_backward(
            ctx.packed.handle,
            before.c_struct,
            T,
            x.data_ptr(),
            address_of(lengths),
            saved.data_ptr(),
            dy.data_ptr(),
            after.c_struct,
            address_of(dx),
            targets,
            torch.get_num_threads(),
        )
        check(code)
        return None, None, None, dx, *d_weights, *(d_rings if rings else [])


class _State:
    """The rings of h, then those of c, as the library takes them; what the structure points to is held here."""

    def __init__(self, rings: Sequence[Tensor], layers: int, cursor: Tensor) -> None:
        h, c = rings[:layers], rings[layers:]
        self._held = rings, cursor
        self.c_struct = State(
            cursor.shape[0],
            addresses_of(h) if h else None,
            addresses_of(c) if c else None,
            None,
            cursor.data_ptr(),
        )
