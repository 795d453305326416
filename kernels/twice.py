"""Second derivatives of what has a backward pass of its own."""

from collections.abc import Callable, Sequence
from typing import Optional

import torch
from torch import Tensor


def differentiated(tensors: Sequence[Optional[Tensor]]) -> bool:
    """Whether a function of these tensors may be asked for its gradient. A trace may be, later, of its operators."""
    return (
        torch.is_grad_enabled()
        and not torch.jit.is_tracing()
        and any(t is not None and t.requires_grad for t in tensors)
    )


def by_torch(grads: Sequence[Optional[Tensor]]) -> bool:
    """Whether a backward pass has to be made of torch's own operations.

    That is so if it may be differentiated itself, and for gradients of many outputs in one batch
    (``torch.autograd.grad(is_grads_batched=True)``), which no kernel takes.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return torch.is_grad_enabled()
    return any(grad is not None and torch._C._functorch.is_legacy_batchedtensor(grad) for grad in grads)


def differentiable_gradients(
    compute: Callable[..., Sequence[Optional[Tensor]]],
    inputs: Sequence[Optional[Tensor]],
    needed: Sequence[bool],
    grads: Sequence[Optional[Tensor]],
) -> list[Optional[Tensor]]:
    """The gradients of ``compute(*inputs)``, which can be differentiated again.

    Args:
        compute: the same function in operations that autograd differentiates any number of times.
        inputs: its arguments, part of the graph that they came from.
        needed: for which of them a gradient is asked for.
        grads: of its results; None is zero.

    Returns:
        one gradient per input, None where it is not needed.
    """
    wanted = [i for i, (t, need) in enumerate(zip(inputs, needed, strict=True)) if t is not None and need]

    def of_wanted(*tensors: Tensor) -> tuple[Tensor, ...]:
        arguments = list(inputs)
        for i, tensor in zip(wanted, tensors, strict=True):
            arguments[i] = tensor
        return tuple(y for y in compute(*arguments) if y is not None)

    # torch.func's, not torch.autograd.grad: it also works within torch.func's own transforms.
    results, pull_back = torch.func.vjp(of_wanted, *(inputs[i] for i in wanted))[:2]
    weights = iter([torch.zeros_like(y) if g is None else g for y, g in zip(results, grads, strict=False)])
    found = dict(zip(wanted, pull_back(tuple(weights)), strict=True))
    return [found.get(i) for i in range(len(inputs))]
