"""How a function becomes an operator of torch, and whether anybody looks."""

import sys
from collections.abc import Callable, Sequence
from typing import Any, Optional

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from streamdrnn.kernels.twice import differentiated

NAMESPACE = "streamdrnn"

_PLAIN = (Tensor, nn.Parameter, nn.Buffer)

_flop_formulas: dict[Any, Callable[..., int]] = {}


def define(
    schema: str,
    devices: Sequence[str],
    compute: Callable[..., Any],
    shapes: Callable[..., Any],
    flops: Callable[..., int],
) -> Callable[..., Any]:
    """An operator; see :func:`differentiate` for its gradient.

    Args:
        schema: name, arguments and results, as torch writes them.
        devices: of the tensors that it takes: "cpu", "cuda".
        compute: what it does.
        shapes: its results without their numbers, for tracers.
        flops: how many operations it makes, of the arguments' shapes.
    """
    own_name, signature = schema.split("(", 1)
    name = f"{NAMESPACE}::{own_name}"
    torch.library.define(name, f"({signature}", tags=torch.Tag.pt2_compliant_tag)
    torch.library.impl(name, devices, compute)
    torch.library.register_fake(name, shapes)
    operator = getattr(getattr(torch.ops, NAMESPACE), own_name).default
    torch.library.register_vmap(name, lambda info, dims, *arguments: _one_by_one(operator, info, dims, arguments))
    _flop_formulas[operator.overloadpacket] = flops

    def call(*arguments: Any) -> Any:
        if not torch.compiler.is_compiling():
            _tell_flop_counters()
        return operator(*arguments)

    return call


def differentiate(name: str, function: Callable[..., Any]) -> None:
    """Let an operator that is called by itself, as graphs of tracers do, have a gradient.

    Args:
        name: the operator's, without the namespace.
        function: the same by an autograd function, which calls the operator where no gradient is asked for.
    """
    operator = getattr(getattr(torch.ops, NAMESPACE), name).default

    def compute(*arguments: Any) -> Any:
        # Autograd functions come here too, without gradients and in a hurry.
        if torch.is_grad_enabled() and differentiated([t for t in tree_leaves(arguments) if isinstance(t, Tensor)]):
            return function(*arguments)
        with torch._C._AutoDispatchBelowAutograd():
            return operator(*arguments)

    torch.library.impl(f"{NAMESPACE}::{name}", "Autograd", compute)


def no_gradient(*_: Any) -> Any:
    """For :func:`differentiate`: the gradient of a gradient's operator.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError("the graph of a gradient has no gradient of its own: record the second one as well")


def watched(tensors: Sequence[Optional[Tensor]]) -> bool:
    """Whether somebody looks at operators: a tracer, a counter, a transform, or a tensor of a kind of its own.

    Where nobody does, what computes is called at once: the operator's dispatch takes as long as a small step.
    """
    return (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._get_tracing_state() is not None
        or torch._C._functorch.peek_interpreter_stack() is not None
        or any(t is not None and type(t) not in _PLAIN for t in tensors)
    )


def plain(tensor: Tensor) -> Tensor:
    """The tensor, or a copy, whose memory holds its numbers one after the other."""
    return tensor if tensor.is_contiguous() and not tensor.is_neg() else tensor.resolve_neg().contiguous()


def observed() -> bool:
    """Whether a mode of dispatch, a tracer or a transform is on, which wants to see every operation."""
    return (
        bool(torch._C._len_torch_dispatch_stack())
        or torch._C._get_tracing_state() is not None
        or torch._C._functorch.peek_interpreter_stack() is not None
    )


def traced(x: Tensor) -> bool:
    """Whether a tracer records what happens to x, or x is one of a transform: it stands for other numbers then."""
    return (
        type(x) not in _PLAIN
        or torch._C._get_tracing_state() is not None
        or torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY) is not None
        or torch._C._functorch.peek_interpreter_stack() is not None
    )


def _tell_flop_counters() -> None:
    """Register the formulas with torch's FLOP counter once it is there; importing it would import Triton."""
    module = sys.modules.get("torch.utils.flop_counter")
    if module is None:
        return
    missing = {
        operator: formula for operator, formula in _flop_formulas.items() if operator not in module.flop_registry
    }
    for operator, formula in missing.items():
        module.register_flop_formula(operator)(formula)
    for mode in _get_current_dispatch_mode_stack() if missing else ():  # counters that copied the formulas before
        if isinstance(mode, module._FlopCounterMode):
            mode.counter.flop_registry.update({operator: module.flop_registry[operator] for operator in missing})


def _one_by_one(operator: Any, info: Any, dims: tuple[Any, ...], arguments: tuple[Any, ...]) -> tuple[Any, Any]:
    """``torch.vmap`` of an operator: one call after the other, as weights and clocks may differ too."""
    leaves, structure = tree_flatten(arguments)
    of_leaves = [d for d, argument in zip(dims, arguments, strict=True) for d in _dims(d, argument)]

    def call(number: int) -> Any:
        picked = [leaf if d is None else leaf.select(d, number) for leaf, d in zip(leaves, of_leaves, strict=True)]
        return operator(*tree_unflatten(picked, structure))

    results = [call(number) for number in range(info.batch_size)]
    if isinstance(results[0], Tensor):
        return torch.stack(results), 0
    return [torch.stack(column) for column in zip(*results, strict=True)], [0] * len(results[0])


def _dims(dims: Any, argument: Any) -> Sequence[Any]:
    return dims if isinstance(dims, list) else [dims] * len(tree_flatten(argument)[0])
