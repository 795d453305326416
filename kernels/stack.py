"""A stack of dilated layers over a chunk and its gradient as two operators of torch, whatever computes them."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor

from streamdrnn.kernels.backend import StackResult
from streamdrnn.kernels.cells import CELLS
from streamdrnn.kernels.operators import define, differentiate, no_gradient, watched
from streamdrnn.kernels.pytorch.backend import REFERENCE
from streamdrnn.kernels.rings import steps_made
from streamdrnn.kernels.twice import by_torch, differentiable_gradients, differentiated
from streamdrnn.kernels.weights import Weights


class StackKernels(NamedTuple):
    """The functions that compute a stack and its gradient.

    Weights are in one list, see :func:`by_layer`. So are the rings, those of h and then those of c; there are none for
    streams before their first step, and no cursor.

    Attributes:
        name: that of the operator.
        devices: of the tensors that it takes.
        layer: from a layer's weights and x to those weights in the dtype that the kernels take.
        prepare: from (cell, layers, dilations, T, B) to what both passes share.
        forward: from (cell, dilations, x, weights, rings, cursor, lengths, save) and what was prepared, if it was, to
            y, whose last T rows are the outputs; the clocks and the rings after the chunk; and with ``save`` what the
            gradient needs.
        shapes: the same results without their numbers.
        kept: from the results and the number of layers to those of them that the gradient needs.
        backward: from (cell, dilations, x, weights, rings, cursor, lengths), what was kept, the gradients of the
            outputs and of the rings after the chunk, whether that of x is asked for, and what was prepared, if it was,
            to the gradients of x (empty if not asked for), of the weights and of the rings before the chunk.
    """

    name: str
    devices: Sequence[str]
    layer: Callable[[Weights, Tensor], Weights]
    prepare: Callable[..., Any]
    forward: Callable[..., list[Tensor]]
    shapes: Callable[..., list[Tensor]]
    kept: Callable[[Sequence[Tensor], int], Sequence[Tensor]]
    backward: Callable[..., list[Tensor]]


class StackOperators:
    """A stack of layers as two operators of torch, differentiable any number of times.

    Second derivatives (a gradient penalty, ``torch.func``) are those of the reference, computed again.
    """

    def __init__(self, kernels: StackKernels) -> None:
        self.kernels = kernels
        given = (
            "str cell, int[] dilations, Tensor x, Tensor[] weights, Tensor[] rings, Tensor? cursor, Tensor? lengths, "
        )
        self.forward = define(
            f"{kernels.name}({given}bool save) -> Tensor[]",
            kernels.devices,
            kernels.forward,
            kernels.shapes,
            partial(_flops, 1),
        )
        self.backward = define(
            f"{kernels.name}_backward({given}Tensor[] kept, Tensor dy, Tensor[] d_rings, bool of_x) -> Tensor[]",
            kernels.devices,
            kernels.backward,
            _shapes_of_gradients,
            partial(_flops, 2),  # those of the state and of the weights; the gates are computed again besides
        )
        differentiate(kernels.name, self._differentiable)
        differentiate(f"{kernels.name}_backward", no_gradient)

    def __call__(
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
        """See :meth:`streamdrnn.kernels.backend.Backend.stack`."""
        T = x.shape[0]
        if x.numel() == 0:  # a launch has at least one program
            return REFERENCE.stack(cell, x, weights, dilations, h_rings, c_rings, cursor, lengths)
        if lengths is not None:
            # Masked inputs may be NaN, and the backward pass reads them.
            x = torch.where(steps_made(T, lengths), x, 0.0)
        if h_rings is None or cursor is None:
            rings, cursor = [], None
        else:
            rings = [*h_rings, *(c_rings or ())]
        flat = [t for w in weights for t in self.kernels.layer(w, x) if t is not None]
        tensors = [x, *flat, *rings]
        looked_at = watched([*tensors, cursor, lengths])
        if differentiated(tensors):
            function = _WatchedStack if looked_at else _Stack
            results = function.apply(self, cell, tuple(dilations), len(flat), cursor, lengths, *tensors)
        else:
            compute = self.forward if looked_at else self.kernels.forward
            results = compute(cell, dilations, x, flat, rings, cursor, lengths, False)
        y, clocks, *after = results
        past, L = y.shape[0] - T, len(dilations)
        return StackResult(y[past:] if past else y, after[:L], after[L : 2 * L] if CELLS[cell].has_c else [], clocks)

    def _differentiable(
        self,
        cell: str,
        dilations: Sequence[int],
        x: Tensor,
        weights: Sequence[Tensor],
        rings: Sequence[Tensor],
        cursor: Optional[Tensor],
        lengths: Optional[Tensor],
        save: bool,
    ) -> list[Tensor]:
        """The forward operator with a gradient."""
        inputs = (cursor, lengths, x, *weights, *rings)
        results = _WatchedStack.apply(self, cell, tuple(dilations), len(weights), *inputs)
        L = len(dilations) * (2 if CELLS[cell].has_c else 1)
        return list(results if save else results[: 2 + L])


class _WatchedStack(torch.autograd.Function):
    """``(x, weights, rings) -> results`` by operators of torch."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        own: StackOperators,
        cell: str,
        dilations: tuple[int, ...],
        num_weights: int,
        cursor: Optional[Tensor],
        lengths: Optional[Tensor],
        x: Tensor,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        weights, rings = list(tensors[:num_weights]), list(tensors[num_weights:])
        return tuple(own.forward(cell, dilations, x, weights, rings, cursor, lengths, True))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _keep(ctx, inputs, output)

    @staticmethod
    def backward(ctx: Any, *grads: Optional[Tensor]) -> tuple[Optional[Tensor], ...]:
        return _gradients(ctx, grads, ctx.own.backward)


class _Stack(torch.autograd.Function):
    """The same where nobody watches: without the operators' cost, and with weights that are prepared once."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
        own, cell, dilations, num_weights, cursor, lengths, x, *tensors = inputs
        weights, rings = tensors[:num_weights], tensors[num_weights:]
        ctx.prepared = own.kernels.prepare(cell, by_layer(weights, dilations), dilations, *x.shape[:2])
        output = tuple(own.kernels.forward(cell, dilations, x, weights, rings, cursor, lengths, True, ctx.prepared))
        _keep(ctx, inputs, output)
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Optional[Tensor]) -> tuple[Optional[Tensor], ...]:
        own, prepared = ctx.own, ctx.prepared
        compute = own.backward if watched(grads) else lambda *given: own.kernels.backward(*given, prepared)
        return _gradients(ctx, grads, compute)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    """Keep what :func:`_gradients` needs, of a function's inputs and outputs."""
    ctx.own, ctx.cell, ctx.dilations, ctx.num_weights, cursor, lengths, *tensors = inputs
    ctx.num_rings = len(ctx.dilations) * (2 if CELLS[ctx.cell].has_c else 1)
    kept = ctx.own.kernels.kept(output, len(ctx.dilations))
    ctx.mark_non_differentiable(output[1], *output[2 + ctx.num_rings :])
    ctx.num_kept = len(kept)
    ctx.save_for_backward(cursor, lengths, *kept, *tensors)
    ctx.set_materialize_grads(False)


def _gradients(
    ctx: Any, grads: Sequence[Optional[Tensor]], backward: Callable[..., list[Tensor]]
) -> tuple[Optional[Tensor], ...]:
    cursor, lengths, *saved = ctx.saved_tensors
    kept, x, tensors = saved[: ctx.num_kept], saved[ctx.num_kept], saved[ctx.num_kept + 1 :]
    weights, rings = tensors[: ctx.num_weights], tensors[ctx.num_weights :]
    dy, d_rings = grads[0], grads[2 : 2 + ctx.num_rings]
    T, B, _ = x.shape
    if dy is not None and dy.shape[0] != T:
        dy = dy[dy.shape[0] - T :]
    if by_torch(grads):
        compute = partial(_by_reference, ctx.cell, ctx.dilations, ctx.num_weights, cursor, lengths)
        found = differentiable_gradients(compute, [x, *tensors], ctx.needs_input_grad[6:], [dy, *d_rings])
        return (*[None] * 6, *found)
    shapes = ring_shapes(ctx.cell, weights, ctx.dilations, B)
    dy = x.new_zeros(T, B, shapes[-1][2]) if dy is None else dy
    given = [x.new_zeros(shape) if grad is None else grad for grad, shape in zip(d_rings, shapes, strict=True)]
    of_x = ctx.needs_input_grad[6]
    dx, *others = backward(ctx.cell, ctx.dilations, x, weights, rings, cursor, lengths, kept, dy, given, of_x)
    return (*[None] * 6, dx if of_x else None, *others[: len(tensors)])


def _by_reference(
    cell: str,
    dilations: Sequence[int],
    num_weights: int,
    cursor: Optional[Tensor],
    lengths: Optional[Tensor],
    x: Tensor,
    *tensors: Tensor,
) -> tuple[Tensor, ...]:
    layers, rings = by_layer(tensors[:num_weights], dilations), tensors[num_weights:]
    h, c = rings[: len(dilations)], rings[len(dilations) :]
    result = REFERENCE.stack(cell, x, layers, dilations, h or None, c or None, cursor, lengths)
    return result.y, *result.h, *result.c


def by_layer(weights: Sequence[Tensor], dilations: Sequence[int]) -> list[Weights]:
    """The weights that an operator has in one list: w_ih, w_hh and, unless there are none, b_ih, b_hh of each layer."""
    each = len(weights) // len(dilations)
    groups = [weights[first : first + each] for first in range(0, len(weights), each)]
    return [Weights(*group) if each == 4 else Weights(group[0], group[1], None, None) for group in groups]


def ring_shapes(cell: str, weights: Sequence[Tensor], dilations: Sequence[int], B: int) -> list[tuple[int, int, int]]:
    """The shapes of all rings, those of h and then those of c, from weights as for :func:`by_layer`."""
    own = weights[1 :: len(weights) // len(dilations)]
    shapes = [(d, B, w.shape[1]) for d, w in zip(dilations, own, strict=True)]
    return shapes * (2 if CELLS[cell].has_c else 1)


def _shapes_of_gradients(
    cell: str,
    dilations: Sequence[int],
    x: Tensor,
    weights: Sequence[Tensor],
    rings: Sequence[Tensor],
    cursor: Optional[Tensor],
    lengths: Optional[Tensor],
    kept: Sequence[Tensor],
    dy: Tensor,
    d_rings: Sequence[Tensor],
    of_x: bool,
) -> list[Tensor]:
    return [x.new_empty(x.shape if of_x else 0), *(t.new_empty(t.shape) for t in (*weights, *d_rings))]


def _flops(passes: int, cell: str, dilations: Any, x: Any, weights: Any, *_: Any, **__: Any) -> int:
    """Two for each multiplication and addition of the products with the weights."""
    steps = int(x[0] * x[1])
    return passes * sum(2 * steps * int(w[0] * w[1]) for w in weights if len(w) == 2)
