"""The dilated causal convolutional network, whose dilations the dilated RNN borrowed."""

from collections.abc import Sequence
from typing import Any, List, NamedTuple, Optional, Tuple, Union

import torch
from torch import Tensor, nn

from streamdrnn import kernels
from streamdrnn.baselines.gates import sigmoid
from streamdrnn.checks import check_per_layer, check_positive
from streamdrnn.errors import InputError, refusing_input
from streamdrnn.kernels.rings import steps_made, where_made
from streamdrnn.network import ChunkedNetwork, carried, register_network
from streamdrnn.state import StreamState, last_steps


class _CNNFields(NamedTuple):
    past: List[Tensor]
    cursor: Tensor


class CNNState(_CNNFields, StreamState):
    """The state of a :class:`DilatedCNN` for B streams.

    Attributes:
        past: per layer its last (K - 1) d inputs in order of time, ``((K - 1) d, B, I)``; zero before the first.
        cursor: ``(B,)`` int64, the steps that each stream has made.
    """

    __slots__ = ()


@register_network
class DilatedCNN(ChunkedNetwork):
    """A stack of causal convolutions over time, each with a dilation, as the stack of WaveNet.

    With kernel size 2 layer l computes ``y[t] = relu(V x[t-d] + W x[t] + b)``. These are the connections of
    a :class:`DilatedRNN` with the same dilations, except that what a layer reads of d steps ago is its input and not
    its output (Chang et al. 2017, section 3.3); and with rnn cells, as many weights in all layers but the first. So
    the two compare layer by layer. With ``gated`` a layer is WaveNet's unit (van den Oord et al., "WaveNet: A
    Generative Model for Raw Audio", 2016, equation 2), at twice the parameters::

        y[t] = tanh(V_f x[t-d] + W_f x[t] + b_f) * sigmoid(V_g x[t-d] + W_g x[t] + b_g)

    Args:
        input_size: I, the features per step.
        channels: H, of every layer.
        num_layers: how many layers; with it and no ``dilations``, these are 1, 2, 4, ...
        dilations: one positive int per layer.
        kernel_size: K, the steps that each output reads, d apart.
        gated: tanh times sigmoid instead of relu.
        residual: whether the layers' inputs are added to their outputs, except for the first, whose size differs.
        bias: whether the layers have biases.
        backend: see :class:`DilatedRNN`; it computes the products.

    Attributes:
        weight_l{k}: ``(H, I, K)`` as in ``torch.nn.Conv1d``, with ``gated`` ``(2 H, I, K)``, first those of tanh;
            the last entry along the kernel meets the present.
        bias_l{k}: ``(H,)`` or ``(2 H,)``.

    Raises:
        ValueError, TypeError: an argument is out of its range, or of the wrong type.
    """

    def __init__(
        self,
        input_size: int,
        channels: int,
        num_layers: Optional[int] = None,
        dilations: Optional[Sequence[int]] = None,
        kernel_size: int = 2,
        gated: bool = False,
        residual: bool = False,
        bias: bool = True,
        backend: str = "auto",
        device: Optional[Union[str, torch.device]] = None,
        dtype: Optional[torch.dtype] = None,
    ) -> None:
        super().__init__()
        with refusing_input():
            kernels.check_backend(backend)
        self.backend = backend
        self.input_size = check_positive("input_size", input_size)
        self.hidden_size = check_positive("channels", channels)
        self.dilations = check_per_layer("dilations", dilations, num_layers)
        self.num_layers = len(self.dilations)
        self.kernel_size = check_positive("kernel_size", kernel_size)
        if kernel_size < 2:
            raise InputError("kernel_size: expected 2 or more, got 1: the network would have no memory")
        self.gated = bool(gated)
        self.residual = bool(residual)
        self.bias = bool(bias)
        rows = channels * (2 if self.gated else 1)
        options: Any = {"device": device, "dtype": dtype}
        for layer, below in enumerate(self._input_sizes()):
            self.register_parameter(f"weight_l{layer}", nn.Parameter(torch.empty(rows, below, kernel_size, **options)))
            self.register_parameter(f"bias_l{layer}", nn.Parameter(torch.empty(rows, **options)) if self.bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise so that signals keep their size from layer to layer: He's for relu, Glorot's for gates."""
        for layer in range(self.num_layers):
            weight, bias = self._layer(layer)
            if self.gated:
                nn.init.xavier_uniform_(weight)
            else:
                nn.init.kaiming_uniform_(weight, nonlinearity="relu")
            if bias is not None:
                nn.init.zeros_(bias)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, dilations={self.dilations}, kernel_size={self.kernel_size}" + (
            f", gated={self.gated}, residual={self.residual}"
        )

    def config(self) -> dict[str, object]:
        """The constructor's arguments that make this network again; how it computes is not part of them."""
        return {
            "input_size": self.input_size,
            "channels": self.hidden_size,
            "dilations": self.dilations,
            "kernel_size": self.kernel_size,
            "gated": self.gated,
            "residual": self.residual,
            "bias": self.bias,
        }

    def zero_state(
        self, batch_size: int, device: Optional[torch.device] = None, dtype: Optional[torch.dtype] = None
    ) -> CNNState:
        """The state of ``batch_size`` streams before their first step; device and dtype (float32 at least) are the
        parameters' by default."""
        options = carried(self, device, dtype)
        past = [
            torch.zeros((self.kernel_size - 1) * d, batch_size, below, **options)
            for d, below in zip(self.dilations, self._input_sizes(), strict=True)
        ]
        return CNNState(past, torch.zeros(batch_size, device=options["device"], dtype=torch.int64))

    def chunk(self, x: Tensor, state: CNNState, lengths: Optional[Tensor]) -> Tuple[Tensor, CNNState]:
        made = None if lengths is None else steps_made(x.shape[0], lengths)
        y = where_made(x, made)
        backend = kernels.resolve(self.backend, y)
        past: List[Tensor] = []
        for layer, (d, before) in enumerate(zip(self.dilations, state.past, strict=True)):
            past.append(last_steps(before, y.to(before.dtype), lengths))
            inputs = torch.cat([before.to(y.dtype), y])
            z = self._activation(_convolution(inputs, *self._layer(layer), d, backend))
            y = y + z if self.residual and layer > 0 else z
        cursor = state.cursor + (x.shape[0] if lengths is None else lengths)
        return where_made(y, made), CNNState(past, cursor)

    def _activation(self, z: Tensor) -> Tensor:
        if not self.gated:
            return torch.relu(z)
        signal, gate = z.chunk(2, dim=2)
        return torch.tanh(signal) * sigmoid(gate)

    def _input_sizes(self) -> List[int]:
        return [self.input_size, *[self.hidden_size] * (self.num_layers - 1)]

    def _layer(self, layer: int) -> Tuple[Tensor, Optional[Tensor]]:
        return getattr(self, f"weight_l{layer}"), getattr(self, f"bias_l{layer}")


def _convolution(
    inputs: Tensor, weight: Tensor, bias: Optional[Tensor], dilation: int, backend: kernels.Backend
) -> Tensor:
    """The causal convolution of ``((K - 1) d + T, B, I)`` to ``(T, B, rows)``.

    One product with all taps side by side, so that a step's sum has the order that it has in a chunk.
    """
    taps = weight.shape[2]
    T = inputs.shape[0] - (taps - 1) * dilation
    joined = torch.cat([inputs[tap * dilation : tap * dilation + T] for tap in range(taps)], dim=2)
    return backend.linear(joined, weight.transpose(1, 2).flatten(1), bias)
