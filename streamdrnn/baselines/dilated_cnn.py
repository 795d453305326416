"""The dilated causal convolutional network, whose dilations the dilated RNN borrowed."""

from collections.abc import Sequence
from typing import List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from streamdrnn.baselines.checks import carried_dtype, check_chunk, check_per_layer, state_or_zero
from streamdrnn.checks import check_positive, check_tensor
from streamdrnn.state import StreamState


class _CNNFields(NamedTuple):
    past: List[Tensor]


class CNNState(_CNNFields, StreamState):
    """The state of a :class:`DilatedCNN` for B streams.

    Attributes:
        past: per layer its last (K - 1) d inputs in order of time, ``((K - 1) d, B, I)``; zero before the first.
    """

    __slots__ = ()


class DilatedCNN(nn.Module):
    r"""A stack of causal convolutions over time, each with a dilation, as the stack of WaveNet.

    With kernel size 2 layer l computes :math:`y_t = \mathrm{relu}(V x_{t-d} + W x_t + b)`. These are the connections of
    a :class:`DilatedRNN` with the same dilations, except that what a layer reads of d steps ago is its input and not
    its output (Chang et al. 2017, section 3.3); and with rnn cells, as many weights in all layers but the first. So
    the two compare layer by layer. With ``gated`` a layer is WaveNet's unit (van den Oord et al., "WaveNet: A
    Generative Model for Raw Audio", 2016, equation 2), at twice the parameters:

    .. math:: y_t = \tanh(V_f x_{t-d} + W_f x_t + b_f) \odot \sigma(V_g x_{t-d} + W_g x_t + b_g)

    Args:
        input_size: I, the features per step.
        channels: H, of every layer.
        num_layers: how many layers; with it and no ``dilations``, these are 1, 2, 4, ...
        dilations: one positive int per layer.
        kernel_size: K, the steps that each output reads, d apart.
        gated: tanh times sigmoid instead of relu.
        residual: whether the layers' inputs are added to their outputs, except for the first, whose size differs.
        bias: whether the layers have biases.

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
    ) -> None:
        super().__init__()
        self.input_size = check_positive("input_size", input_size)
        self.hidden_size = check_positive("channels", channels)
        self.dilations = check_per_layer("dilations", dilations, num_layers)
        self.num_layers = len(self.dilations)
        self.kernel_size = check_positive("kernel_size", kernel_size)
        if kernel_size < 2:
            raise ValueError("kernel_size: expected 2 or more, got 1: the network would have no memory")
        self.gated = bool(gated)
        self.residual = bool(residual)
        self.bias = bool(bias)
        rows = channels * (2 if self.gated else 1)
        for layer, below in enumerate(self._input_sizes()):
            self.register_parameter(f"weight_l{layer}", nn.Parameter(torch.empty(rows, below, kernel_size)))
            self.register_parameter(f"bias_l{layer}", nn.Parameter(torch.empty(rows)) if self.bias else None)
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
        """The constructor's arguments that make this network again."""
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
        weight = self._layer(0)[0]
        where = weight.device if device is None else device
        kind = carried_dtype(weight.dtype if dtype is None else dtype)
        return CNNState(
            [
                torch.zeros((self.kernel_size - 1) * d, batch_size, below, device=where, dtype=kind)
                for d, below in zip(self.dilations, self._input_sizes(), strict=True)
            ]
        )

    def forward(self, x: Tensor, state: Optional[CNNState] = None) -> Tuple[Tensor, CNNState]:
        """A chunk of B sequences.

        Args:
            x: ``(T, B, I)``, T >= 0.
            state: where the sequences stand; None is their beginning. It is not written. Gradients flow into it.

        Returns:
            y ``(T, B, H)`` and the state after the chunk.

        Raises:
            ValueError, TypeError: a shape, dtype or device does not fit; the message says which is wanted.
        """
        y = check_chunk(x, self.input_size, self._layer(0)[0])
        state = state_or_zero(state, self.zero_state(x.shape[1]))
        past: List[Tensor] = []
        for layer, (d, before) in enumerate(zip(self.dilations, state.past, strict=True)):
            inputs = torch.cat([before.to(y.dtype), y])
            past.append(inputs[y.shape[0] :].to(before.dtype))
            z = self._activation(_convolution(inputs, *self._layer(layer), d))
            y = y + z if self.residual and layer > 0 else z
        return y, CNNState(past)

    def step(self, x_t: Tensor, state: CNNState) -> Tuple[Tensor, CNNState]:
        """One step of B sequences, ``(B, I) -> (B, H)``; arguments and errors as for :meth:`forward`."""
        check_tensor("x_t", x_t, (None, self.input_size), "(B, I)")
        y, state = self(x_t[None], state)
        return y[0], state

    def _activation(self, z: Tensor) -> Tensor:
        if not self.gated:
            return torch.relu(z)
        signal, gate = z.chunk(2, dim=2)
        return torch.tanh(signal) * torch.sigmoid(gate)

    def _input_sizes(self) -> List[int]:
        return [self.input_size, *[self.hidden_size] * (self.num_layers - 1)]

    def _layer(self, layer: int) -> Tuple[Tensor, Optional[Tensor]]:
        return getattr(self, f"weight_l{layer}"), getattr(self, f"bias_l{layer}")


def _convolution(inputs: Tensor, weight: Tensor, bias: Optional[Tensor], dilation: int) -> Tensor:
    """The causal convolution of ``((K - 1) d + T, B, I)`` to ``(T, B, rows)``.

    Time comes first, so every tap is one matrix product on a plain slice; ``torch.conv1d`` would copy to put it last.
    """
    *before, present = (tap.contiguous() for tap in weight.unbind(dim=2))
    T = inputs.shape[0] - len(before) * dilation
    y = functional.linear(inputs[len(before) * dilation :], present, bias)
    for number, tap in enumerate(before):
        y = y + functional.linear(inputs[number * dilation : number * dilation + T], tap)
    return y
