"""The stack as an operator of torch: with its gradient, and with shapes for ``torch.compile`` and ``torch.export``.

Operators take and give flat lists of tensors. Importing this file does not import Triton.
"""

from collections.abc import Sequence
from typing import Any, Optional

import torch
from torch import Tensor

from streamdrnn.kernels.weights import Weights


@torch.library.custom_op("streamdrnn::dilated_stack", mutates_args=())
def dilated_stack(
    cell: str,
    x: Tensor,
    weights: Sequence[Tensor],
    h_rings: Sequence[Tensor],
    c_rings: Sequence[Tensor],
    cursor: Tensor,
    lengths: Optional[Tensor],
    operands: torch.dtype,
    save: bool,
) -> list[Tensor]:
    """Layers on top of one another.

    Args:
        weights: w_ih, w_hh and, unless there are none, b_ih, b_hh of each layer in turn.
        The rest: as in :func:`streamdrnn.kernels.gpu.stack`.
        save: whether the gradient will be asked for.

    Returns:
        the top layer's history ``(d + T, B, H)``, then each layer's rings of h after the chunk, then those of c; with
        ``save`` then the other layers' histories, all layers' histories of c, and their gates.
    """
    from streamdrnn.kernels.gpu import network

    with torch.cuda.device_of(x), torch.autocast(x.device.type, enabled=False):
        histories, h, c = network.forward(
            cell, x, by_layer(weights, h_rings), h_rings, c_rings, cursor, lengths, operands, save
        )
    *below, top = [history.h for history in histories]
    saved = [*below, *(history.c for history in histories), *(history.gates for history in histories)] if save else []
    return [top, *h, *c, *saved]


@dilated_stack.register_fake
def _(
    cell: str,
    x: Tensor,
    weights: Sequence[Tensor],
    h_rings: Sequence[Tensor],
    c_rings: Sequence[Tensor],
    cursor: Tensor,
    lengths: Optional[Tensor],
    operands: torch.dtype,
    save: bool,
) -> list[Tensor]:
    T, B, _ = x.shape
    *below, top = [ring.new_empty(ring.shape[0] + T, B, ring.shape[2]) for ring in h_rings]
    rings = [ring.new_empty(ring.shape) for ring in (*h_rings, *c_rings)]  # contiguous, whatever theirs are
    if not save:
        return [top, *rings]
    cs = [torch.empty_like(h) if c_rings else h.new_empty(0) for h in (*below, top)]
    gates = [x.new_empty((T, B, 4 * h.shape[2]) if cell != "rnn" else 0, dtype=operands) for h in (*below, top)]
    return [top, *rings, *below, *cs, *gates]


@torch.library.custom_op("streamdrnn::dilated_stack_backward", mutates_args=())
def dilated_stack_backward(
    cell: str,
    x: Tensor,
    weights: Sequence[Tensor],
    c_after: Sequence[Tensor],
    histories: Sequence[Tensor],
    cursor: Tensor,
    lengths: Optional[Tensor],
    operands: torch.dtype,
    dy: Tensor,
    d_rings: Sequence[Tensor],
    of_x: bool,
) -> list[Tensor]:
    """The gradients of x (empty if not asked for), of the weights and of the rings, in the order of ``dilated_stack``.

    Args:
        c_after: the rings of c after the chunk.
        histories: all layers' of h, then those of c, then the gates.
        dy: ``(T, B, H)``, the gradient of the top layer's new states.
        d_rings: those of the rings after the chunk.
        of_x: whether the gradient of x is asked for.
    """
    from streamdrnn.kernels.gpu import network, scan

    L = len(histories) // 3
    saved = [scan.History(*parts) for parts in zip(*(histories[i * L : i * L + L] for i in range(3)), strict=True)]
    result = network.Result(saved, [], list(c_after))
    layers = by_layer(weights, histories[:L])
    with torch.cuda.device_of(x), torch.autocast(x.device.type, enabled=False):
        dx, d_weights, dh, dc = network.backward(
            cell, x, layers, result, cursor, lengths, operands, dy, d_rings[:L], d_rings[L:], of_x
        )
    return [dx, *(t for w in d_weights for t in w if t is not None), *dh, *dc]


@dilated_stack_backward.register_fake
def _(
    cell: str,
    x: Tensor,
    weights: Sequence[Tensor],
    c_after: Sequence[Tensor],
    histories: Sequence[Tensor],
    cursor: Tensor,
    lengths: Optional[Tensor],
    operands: torch.dtype,
    dy: Tensor,
    d_rings: Sequence[Tensor],
    of_x: bool,
) -> list[Tensor]:
    return [x.new_empty(x.shape if of_x else 0), *(t.new_empty(t.shape) for t in (*weights, *d_rings))]


def by_layer(weights: Sequence[Tensor], layers: Sequence[object]) -> list[Weights]:
    """The weights that an operator has in one list."""
    each = len(weights) // len(layers)
    groups = [weights[first : first + each] for first in range(0, len(weights), each)]
    return [Weights(*group) if each == 4 else Weights(group[0], group[1], None, None) for group in groups]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    ctx.cell, x, weights, h_rings, c_rings, cursor, lengths, ctx.operands, _ = inputs
    ctx.sizes = len(weights), len(h_rings), len(c_rings)
    ctx.set_materialize_grads(False)
    L = len(h_rings)
    c_after, saved = output[1 + L : 1 + L + len(c_rings)], output[1 + L + len(c_rings) :]
    histories = [*saved[: L - 1], output[0], *saved[L - 1 :]]
    ctx.save_for_backward(x, cursor, lengths, *weights, *c_after, *histories)
    ctx.dilations = [ring.shape[0] for ring in h_rings]


def _differentiate(ctx: Any, grads: list[Optional[Tensor]]) -> tuple[Any, ...]:
    x, cursor, lengths, *rest = ctx.saved_tensors
    n, L, lstm = ctx.sizes
    weights, c_after, histories = rest[:n], rest[n : n + lstm], rest[n + lstm :]
    T, B, _ = x.shape
    d = ctx.dilations[-1]
    dy = x.new_zeros(T, B, histories[L - 1].shape[2]) if grads[0] is None else grads[0][d:]
    shapes = [(d, B, h.shape[2]) for d, h in zip(ctx.dilations, histories[:L], strict=True)]
    d_rings = [
        x.new_zeros(shape) if grad is None else grad
        for grad, shape in zip(grads[1 : 1 + L + lstm], shapes * 2 if lstm else shapes, strict=True)
    ]
    of_x = ctx.needs_input_grad[1]
    dx, *others = dilated_stack_backward(
        ctx.cell, x, weights, c_after, histories, cursor, lengths, ctx.operands, dy, d_rings, of_x
    )
    d_weights, dh, dc = others[:n], others[n : n + L], others[n + L :]
    return None, dx if of_x else None, d_weights, dh, dc, None, None, None, None


dilated_stack.register_autograd(_differentiate, setup_context=_keep)
