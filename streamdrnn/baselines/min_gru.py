"""The minimal gated unit, whose gates do not read the state."""

import math
from typing import Any, List, NamedTuple, Optional, Tuple, Union

import torch
from torch import Tensor, nn

from streamdrnn import kernels
from streamdrnn.baselines.gates import sigmoid
from streamdrnn.checks import check_positive
from streamdrnn.errors import refusing_input
from streamdrnn.kernels.rings import steps_made, where_made
from streamdrnn.network import ChunkedNetwork, carried, register_network
from streamdrnn.state import StreamState


class _MinGRUFields(NamedTuple):
    h: List[Tensor]
    cursor: Tensor


class MinGRUState(_MinGRUFields, StreamState):
    """The state of a :class:`MinGRU` for B streams.

    Attributes:
        h: per layer the last hidden state, ``(1, B, H)``.
        cursor: ``(B,)`` int64, the steps that each stream has made.
    """

    __slots__ = ()


@register_network
class MinGRU(ChunkedNetwork):
    """A stack of minimal GRU layers (Feng et al. 2024, "Were RNNs All We Needed?", arXiv 2410.01201, section 3.1).

    Each layer is ::

        h[t] = (1 - z[t]) * h[t-1] + z[t] * (W_h x[t]),  z[t] = sigmoid(W_z x[t])

    The input of every layer but the first is added to its output: its state is linear in what it reads, and so gates
    alone bend what a deep stack computes.

    Args:
        input_size: I, the features per step.
        hidden_size: H, of every layer.
        num_layers: how many layers.
        bias: whether the layers have biases.
        backend: see :class:`streamdrnn.DilatedRNN`; it computes the products.
        device, dtype: of the parameters.

    Attributes:
        weight_l{k}: ``(2 H, I)``, first those of the gate, then those of the candidate.
        bias_l{k}: ``(2 H,)``.

    Raises:
        ValueError, TypeError: an argument is out of its range, or of the wrong type.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool = True,
        backend: str = "auto",
        device: Optional[Union[str, torch.device]] = None,
        dtype: Optional[torch.dtype] = None,
    ) -> None:
        super().__init__()
        with refusing_input():
            kernels.check_backend(backend)
        self.input_size = check_positive("input_size", input_size)
        self.hidden_size = check_positive("hidden_size", hidden_size)
        self.num_layers = check_positive("num_layers", num_layers)
        self.bias = bool(bias)
        self.backend = backend
        options: Any = {"device": device, "dtype": dtype}
        for layer in range(self.num_layers):
            below = self.hidden_size if layer else self.input_size
            self.register_parameter(f"weight_l{layer}", nn.Parameter(torch.empty(2 * hidden_size, below, **options)))
            bias_l = nn.Parameter(torch.empty(2 * hidden_size, **options)) if self.bias else None
            self.register_parameter(f"bias_l{layer}", bias_l)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as torch does its linear layers."""
        for parameter in self.parameters():
            below = parameter.shape[1] if parameter.dim() == 2 else self.hidden_size
            nn.init.uniform_(parameter, -1 / math.sqrt(below), 1 / math.sqrt(below))

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}"

    def config(self) -> dict[str, object]:
        """The constructor's arguments that make this network again; how it computes is not part of them."""
        return {
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "num_layers": self.num_layers,
            "bias": self.bias,
        }

    def zero_state(
        self, batch_size: int, device: Optional[torch.device] = None, dtype: Optional[torch.dtype] = None
    ) -> MinGRUState:
        """The state of ``batch_size`` streams before their first step; device and dtype (float32 at least) are the
        parameters' by default."""
        options = carried(self, device, dtype)
        h = [torch.zeros(1, batch_size, self.hidden_size, **options) for _ in range(self.num_layers)]
        return MinGRUState(h, torch.zeros(batch_size, device=options["device"], dtype=torch.int64))

    def chunk(self, x: Tensor, state: MinGRUState, lengths: Optional[Tensor]) -> Tuple[Tensor, MinGRUState]:
        made = None if lengths is None else steps_made(x.shape[0], lengths)
        y = where_made(x, made)
        backend = kernels.resolve(self.backend, y)
        h: List[Tensor] = []
        for layer, before in enumerate(state.h):
            weight, bias = getattr(self, f"weight_l{layer}"), getattr(self, f"bias_l{layer}")
            gate, candidate = backend.linear(y, weight, bias).to(before.dtype).chunk(2, dim=2)
            z = sigmoid(gate)
            z = where_made(z, made)  # a stream that makes no step keeps its state
            states = _linear_recurrence(1 - z, z * candidate, before[0])
            h.append(torch.cat([before, states])[-1:])
            y = states.to(x.dtype) + y if layer else states.to(x.dtype)
        cursor = state.cursor + (x.shape[0] if lengths is None else lengths)
        return where_made(y, made), MinGRUState(h, cursor)


def _linear_recurrence(decay: Tensor, inputs: Tensor, before: Tensor) -> Tensor:
    """``h_t = decay_t h_{t-1} + inputs_t`` for each number of a chunk.

    One step after the other, as a stream computes it: a parallel scan takes fewer operations on a GPU, but its sums
    depend on how a sequence is cut into chunks.

    Args:
        decay, inputs: ``(T, ...)``.
        before: ``(...)``, the state before the chunk.

    Returns:
        all states ``(T, ...)``.
    """
    h, states = before, []
    for a, b in zip(decay.unbind(0), inputs.unbind(0), strict=True):
        h = a * h + b
        states.append(h)
    return torch.stack(states) if states else inputs
