"""FlashRNN (NX-AI), as a peer: its fused Triton kernel for LSTM layers."""

import importlib
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn.functional import linear, pad

from streamdrnn import DilatedRNN
from streamdrnn.apps.bench.peers import CannotRunError

DTYPES = {"tf32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""FlashRNN's names. Its products of float32 are tf32 products."""
CELLS = ("lstm",)
"""What its Triton kernel computes."""
HIDDEN_SIZES = (16, 32, 64)
"""What its kernel takes: a power of two, from the smallest tile to what its registers hold."""


def flashrnn(model: DilatedRNN, precision: str) -> Callable[[Tensor], Tensor]:
    """The network's forward pass by FlashRNN, on the network's own weights: ``(T, B, I)`` to ``(T, B, H)``.

    Phases become rows of its batch. Each length and batch is compiled anew, when it is called first.

    Raises:
        CannotRunError: it is not installed, or cannot compute this network or precision.
    """
    if model.cell not in CELLS:
        raise CannotRunError("its Triton kernel is for LSTM cells")
    if not set(model.hidden_sizes) <= set(HIDDEN_SIZES):
        raise CannotRunError(f"its Triton kernel is for H of {', '.join(map(str, HIDDEN_SIZES))}")
    if precision not in DTYPES:
        raise CannotRunError("its float32 products are tf32")
    try:
        op: Any = importlib.import_module("flashrnn").flashrnn
    except ModuleNotFoundError as error:
        missing = "not installed" if error.name == "flashrnn" else f"needs {error.name}, which is not installed"
        raise CannotRunError(f"flashrnn: {missing}") from None
    weights = list(model.parameters())

    def forward(x: Tensor) -> Tensor:
        T, B, _ = x.shape
        for layer, d in enumerate(model.dilations):
            w_ih, w_hh, b_ih, b_hh = weights[4 * layer : 4 * layer + 4]
            H = w_hh.shape[1]
            rows = -(-T // d)
            phases = pad(x, (0, 0, 0, 0, 0, rows * d - T)).view(rows, d * B, -1)
            # Its shapes: gates (batch, T, 4, heads, H), weights (4, heads, H, H), states (2, batch, T, heads, H) with h
            # first; all of one dtype. Its order of gates is torch's, and its one bias is the sum of torch's two.
            gates = linear(phases, w_ih).view(rows, d * B, 4, 1, H).transpose(0, 1)
            states, _ = op(
                gates,
                w_hh.view(4, 1, H, H).to(gates.dtype),
                (b_ih + b_hh).view(4, 1, H).to(gates.dtype),
                function=model.cell,
                backend="triton_fused",
                dtype=DTYPES[precision],
            )
            h: Tensor = states[0, :, :, 0]
            x = h.transpose(0, 1).reshape(rows * d, B, H)[:T]
        return x

    return forward
