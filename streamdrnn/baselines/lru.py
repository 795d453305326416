"""The linear recurrent unit: a diagonal of complex numbers that are learnt, and no gate that reads the state."""

import math
from typing import List, NamedTuple, Optional, Tuple, Union

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from streamdrnn import kernels
from streamdrnn.baselines.gates import sigmoid
from streamdrnn.checks import check_positive
from streamdrnn.errors import refusing_input
from streamdrnn.kernels.rings import steps_made, where_made
from streamdrnn.network import ChunkedNetwork, carried, register_network
from streamdrnn.state import StreamState

SLOWEST, FASTEST = 0.999, 0.9
"""Between which the magnitudes of the diagonal begin."""


class _LRUFields(NamedTuple):
    real: List[Tensor]
    imaginary: List[Tensor]
    cursor: Tensor


class LRUState(_LRUFields, StreamState):
    """The state of an :class:`LRU` for B streams.

    Attributes:
        real: per layer the real part of the last state, ``(1, B, H)``.
        imaginary: per layer its imaginary part, ``(1, B, H)``.
        cursor: ``(B,)`` int64, the steps that each stream has made.
    """

    __slots__ = ()


@register_network
class LRU(ChunkedNetwork):
    """A stack of linear recurrent units (Orvieto et al. 2023, arXiv 2303.06349, section 3 and Figure 1).

    The input is mapped to H features. Then each layer, with u its normalised input, is ::

        h[t] = a * h[t-1] + g * (B u[t]),  a = exp(-exp(nu) + i exp(theta)),  g = sqrt(1 - |a|^2)
        v[t] = Re(C h[t]) + D * u[t],  y[t] = x[t] + (V v[t]) * sigmoid(W v[t])

    with H complex numbers in its state.

    Args:
        input_size: I, the features per step.
        hidden_size: H, of every layer and of its state.
        num_layers: how many layers.
        backend: see :class:`streamdrnn.DilatedRNN`; it computes the products.
        device, dtype: of the parameters.

    Attributes:
        weight_in: ``(H, I)``.
        bias_in: ``(H,)``.
        nu_l{k}: ``(H,)``, of the diagonal.
        theta_l{k}: ``(H,)``, of the diagonal.
        b_l{k}: ``(2 H, H)``, the real rows of B and then the imaginary ones.
        c_l{k}: ``(H, 2 H)``, what the real parts of the state meet, and then the imaginary ones.
        d_l{k}: ``(H,)``.
        glu_l{k}: ``(2 H, H)``, V and then W.

    Raises:
        ValueError, TypeError: an argument is out of its range, or of the wrong type.
    """

    weight_in: Tensor
    bias_in: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        backend: str = "auto",
        device: Optional[Union[str, torch.device]] = None,
        dtype: Optional[torch.dtype] = None,
    ) -> None:
        super().__init__()
        with refusing_input():
            kernels.check_backend(backend)
        self.input_size = check_positive("input_size", input_size)
        self.hidden_size = H = check_positive("hidden_size", hidden_size)
        self.num_layers = check_positive("num_layers", num_layers)
        self.backend = backend
        shapes = {"weight_in": (H, input_size), "bias_in": (H,)}
        for k in range(self.num_layers):
            shapes |= {f"nu_l{k}": (H,), f"theta_l{k}": (H,), f"b_l{k}": (2 * H, H), f"c_l{k}": (H, 2 * H)}
            shapes |= {f"d_l{k}": (H,), f"glu_l{k}": (2 * H, H)}
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as the paper: a diagonal evenly over a ring of the unit disc, Glorot's deviations elsewhere."""
        for name, parameter in self.named_parameters():
            kind = name.split("_")[0]
            if kind == "nu":
                square = torch.rand_like(parameter) * (SLOWEST**2 - FASTEST**2) + FASTEST**2
                value = (-0.5 * square.log()).log()
            elif kind == "theta":
                value = (2 * math.pi * torch.rand_like(parameter)).clamp(min=1e-4).log()
            elif kind == "bias":
                value = torch.zeros_like(parameter)
            else:
                value = torch.randn_like(parameter)
                if parameter.dim() == 2:
                    value = value / math.sqrt(parameter.shape[1])
            with torch.no_grad():
                parameter.copy_(value)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}"

    def config(self) -> dict[str, object]:
        """The constructor's arguments that make this network again; how it computes is not part of them."""
        return {"input_size": self.input_size, "hidden_size": self.hidden_size, "num_layers": self.num_layers}

    def zero_state(
        self, batch_size: int, device: Optional[torch.device] = None, dtype: Optional[torch.dtype] = None
    ) -> LRUState:
        """The state of ``batch_size`` streams before their first step; device and dtype (float32 at least) are the
        parameters' by default."""
        options = carried(self, device, dtype)

        def zeros() -> List[Tensor]:
            return [torch.zeros(1, batch_size, self.hidden_size, **options) for _ in range(self.num_layers)]

        return LRUState(zeros(), zeros(), torch.zeros(batch_size, device=options["device"], dtype=torch.int64))

    def chunk(self, x: Tensor, state: LRUState, lengths: Optional[Tensor]) -> Tuple[Tensor, LRUState]:
        made = None if lengths is None else steps_made(x.shape[0], lengths)
        y = where_made(x, made)
        backend = kernels.resolve(self.backend, y)
        y = backend.linear(y, self.weight_in, self.bias_in)
        real: List[Tensor] = []
        imaginary: List[Tensor] = []
        for k, before in enumerate(zip(state.real, state.imaginary, strict=True)):
            own = {name: getattr(self, f"{name}_l{k}") for name in ("nu", "theta", "b", "c", "d", "glu")}
            u = layer_norm(y, (self.hidden_size,))
            after = _diagonal(own["nu"], own["theta"], backend.linear(u, own["b"], None), before, made)
            real.append(after[0][-1:])
            imaginary.append(after[1][-1:])
            h = torch.cat([part[1:] for part in after], dim=2).to(u.dtype)
            v = backend.linear(h, own["c"], None) + own["d"] * u
            signal, gate = backend.linear(v, own["glu"], None).chunk(2, dim=2)
            y = y + signal * sigmoid(gate)
        cursor = state.cursor + (x.shape[0] if lengths is None else lengths)
        return where_made(y, made), LRUState(real, imaginary, cursor)


def _diagonal(
    nu: Tensor, theta: Tensor, inputs: Tensor, before: Tuple[Tensor, Tensor], made: Optional[Tensor]
) -> Tuple[Tensor, Tensor]:
    """The states after ``before`` and their inputs Bu ``(T, B, 2 H)``: real and imaginary parts ``(1 + T, B, H)``."""
    size, angle = torch.exp(-torch.exp(nu)), torch.exp(theta)
    cos, sin = size * torch.cos(angle), size * torch.sin(angle)
    gamma = torch.sqrt(1 - size.square()).repeat(2)
    added = (inputs * gamma).to(before[0].dtype).chunk(2, dim=2)
    real, imaginary = before[0][0], before[1][0]
    states = ([real], [imaginary])
    for t, (add_real, add_imaginary) in enumerate(zip(added[0].unbind(0), added[1].unbind(0), strict=True)):
        new_real = cos * real - sin * imaginary + add_real
        new_imaginary = sin * real + cos * imaginary + add_imaginary
        if made is not None:  # a stream that makes no step keeps its state
            new_real = torch.where(made[t], new_real, real)
            new_imaginary = torch.where(made[t], new_imaginary, imaginary)
        real, imaginary = new_real, new_imaginary
        states[0].append(real)
        states[1].append(imaginary)
    return torch.stack(states[0]), torch.stack(states[1])
