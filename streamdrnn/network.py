"""Networks: the part of a model that remembers, and the kinds of it that there are.

Any of them goes behind any head, into a :class:`streamdrnn.StreamingDRNN`, a file, an export and a server. A kind of
your own is a module with the attributes of :class:`Network`, for instance a :class:`ChunkedNetwork`, registered by
:func:`register_network`. A program that loads models of that kind has to import it first.
"""

from typing import Any, Optional, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from streamdrnn.checks import check_active, check_lengths, check_like, check_tensor
from streamdrnn.kernels.autocast import autocasts
from streamdrnn.state import carried_dtype, check_fits, traceable


class Network(Protocol):
    """A causal network that maps sequences to sequences and carries all of its memory in a state.

    Attributes:
        input_size: I, the features per step.
        hidden_size: H, the features of the outputs.
        backend: what computes; ``"auto"`` where there is no choice.
    """

    input_size: int
    hidden_size: int
    backend: str

    def zero_state(
        self, batch_size: int, device: Optional[torch.device] = None, dtype: Optional[torch.dtype] = None
    ) -> Any:
        """A :class:`streamdrnn.state.StreamState` of streams before their first step, all zeros.

        One of its tensors is ``cursor``, ``(B,)`` int64: the steps that each stream has made.
        """

    def chunk(self, x: Tensor, state: Any, lengths: Optional[Tensor]) -> tuple[Tensor, Any]:
        """A chunk, from x ``(T, B, I)`` to y ``(T, B, H)``, and the state after it, without checks.

        Args:
            state: where the streams stand; it is not written.
            lengths: ``(B,)`` int64 from 0 to T, the steps that each stream really makes; None is T. For the others y is
                zero and the state stays as it is, whatever x holds there.
        """

    def step(self, x_t: Tensor, state: Any, active: Optional[Tensor] = None) -> tuple[Tensor, Any]:
        """One step, from x_t ``(B, I)`` to y_t ``(B, H)``, of the streams that are active ``(B,)``; None is all."""

    def config(self) -> dict[str, object]:
        """The constructor's arguments that make this network again, as JSON has them."""


Kind = TypeVar("Kind", bound=type[nn.Module])

NETWORKS: dict[str, type[nn.Module]] = {}
"""The kinds of networks by name, as model files have it."""


def register_network(kind: Kind) -> Kind:
    """Make a class of networks known by its name; a decorator.

    Raises:
        TypeError: the class lacks a method of :class:`Network`.
        ValueError: another class has this name already.
    """
    for method in ("zero_state", "chunk", "step", "config"):
        if not callable(getattr(kind, method, None)):
            raise TypeError(f"{kind.__name__}: expected a method {method}, as streamdrnn.network.Network has")
    if kind.forward is nn.Module.forward:
        raise TypeError(f"{kind.__name__}: expected a method forward, as streamdrnn.network.ChunkedNetwork has")
    if NETWORKS.setdefault(kind.__name__, kind) is not kind:
        raise ValueError(f"{kind.__name__}: a network of this name is registered already")
    return kind


class ChunkedNetwork(nn.Module):
    """A :class:`Network` that computes chunks; its single steps are chunks of one, in :attr:`backend`'s hands too."""

    input_size: int
    hidden_size: int
    backend: str = "auto"

    def zero_state(
        self, batch_size: int, device: Optional[torch.device] = None, dtype: Optional[torch.dtype] = None
    ) -> Any:
        """See :class:`Network`."""
        raise NotImplementedError

    def chunk(self, x: Tensor, state: Any, lengths: Optional[Tensor]) -> tuple[Tensor, Any]:
        """See :class:`Network`."""
        raise NotImplementedError

    def forward(self, x: Tensor, state: Any = None, lengths: Optional[Tensor] = None) -> tuple[Tensor, Any]:
        """A chunk of B sequences.

        Args:
            x: ``(T, B, I)``, T >= 0. Under autocast it is taken to the parameters' dtype.
            state: where the sequences stand; None is their beginning. It is not written. Gradients flow into it.
            lengths: ``(B,)`` int64 from 0 to T: the steps that each stream really makes, if not all.

        Returns:
            y ``(T, B, H)``, zero where a stream made no step, and the state of each stream after its own last step.

        Raises:
            ValueError, TypeError: a shape, dtype or device does not fit; the message says which is wanted.
        """
        x = check_chunk(self, x, state, lengths)
        y, state = self.chunk(x, self.zero_state(x.shape[1]) if state is None else state, lengths)
        return y, traceable(state)

    def step(self, x_t: Tensor, state: Any, active: Optional[Tensor] = None) -> tuple[Tensor, Any]:
        """One step, from x_t ``(B, I)`` to y_t ``(B, H)``, of the streams that are active ``(B,)``; None is all.

        The given state is not written. Raises as :meth:`forward`.
        """
        x_t = check_step(self, x_t, state, active)
        y, after = self.chunk(x_t[None], state, None if active is None else active.long())
        return y[0], after


def carried(model: nn.Module, device: Optional[torch.device], dtype: Optional[torch.dtype]) -> dict[str, Any]:
    """Device and dtype of a network's states, as torch's functions take them: the parameters' by default."""
    weight = parameter_of(model)
    return {
        "device": weight.device if device is None else device,
        "dtype": carried_dtype(weight.dtype if dtype is None else dtype),
    }


def check_network(name: str, network: object) -> None:
    """Raise unless ``network`` is of a registered kind.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(network, tuple(NETWORKS.values())):
        kinds = ", ".join(NETWORKS)
        raise TypeError(f"{name}: expected a network ({kinds}, or one registered), got {type(network).__name__}")


def check_chunk(network: Any, x: Tensor, state: Any, lengths: Optional[Tensor], batch_first: bool = False) -> Tensor:
    """Raise unless a chunk fits a network; give x, under autocast in the parameters' dtype.

    Raises:
        TypeError, ValueError: a shape, dtype or device does not fit.
    """
    check_tensor("x", x, (None, None, network.input_size), "(B, T, I)" if batch_first else "(T, B, I)")
    x = like_parameters("x", x, network)
    T, B = (x.shape[1], x.shape[0]) if batch_first else (x.shape[0], x.shape[1])
    if state is not None:
        check_state(network, state, B)
    if lengths is not None:
        check_lengths(lengths, T, B)
    return x


def check_step(network: Any, x_t: Tensor, state: Any, active: Optional[Tensor]) -> Tensor:
    """Raise unless a step fits a network; give x_t, under autocast in the parameters' dtype.

    Raises:
        TypeError, ValueError: a shape, dtype or device does not fit.
    """
    check_tensor("x_t", x_t, (None, network.input_size), "(B, I)")
    x_t = like_parameters("x_t", x_t, network)
    check_state(network, state, x_t.shape[0])
    if active is not None:
        check_active(active, x_t.shape[0])
    return x_t


def check_state(model: Any, state: Any, batch_size: int) -> None:
    """Raise unless ``state`` is one of this network's or model's, for ``batch_size`` streams.

    Raises:
        TypeError: it is no state.
        ValueError: it is of another model, another dtype or device, or another number of streams.
    """
    parameter = parameter_of(model)
    with torch.no_grad():
        wanted = model.zero_state(batch_size, torch.device("meta"))
    check_fits("state", state, wanted, parameter.device, batch_size)


def parameter_of(model: nn.Module) -> Tensor:
    """One of a model's parameters, which all have one dtype and device."""
    return next(model.parameters())


def like_parameters(name: str, x: Tensor, model: nn.Module) -> Tensor:
    """``x``, under autocast in the parameters' dtype.

    Raises:
        TypeError, ValueError: its dtype or device is not theirs.
    """
    parameter = parameter_of(model)
    check_like(name, x, parameter, any_float=autocasts(parameter))
    return x.to(parameter.dtype)


def is_plain(module: nn.Module, kind: type[nn.Module], *methods: str) -> bool:
    """Whether calling a module is no more than computing: no hooks, and these methods are still those of its kind."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return (
        not any(hooks)
        and not _has_any_global_hook()
        and all(
            method not in module.__dict__ and getattr(type(module), method) is getattr(kind, method)
            for method in methods
        )
    )
