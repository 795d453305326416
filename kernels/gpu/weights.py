"""A layer's weights as the kernels take them."""

from collections.abc import Sequence
from typing import NamedTuple, Optional

import torch
from torch import Tensor
from torch.nn.functional import pad

from streamdrnn.kernels.operators import plain
from streamdrnn.kernels.weights import Weights


class LayerWeights(NamedTuple):
    """The weights of a layer of H units with I inputs.

    Attributes:
        w_ih, w_hh: ``(G H, I)`` and ``(G H, H)``, in the dtype to which the operands of products are rounded.
        bias: ``(G H,)`` float32, all biases that are simply added, in one; or None.
        b_n: ``(H,)`` float32, a GRU's of h_n, which the reset gate scales; or None.
    """

    w_ih: Tensor
    w_hh: Tensor
    bias: Optional[Tensor]
    b_n: Optional[Tensor]


def precision_of(dtype: torch.dtype) -> str:
    """How products of this dtype are rounded: for float32 as torch's matrix products are, by whichever of its switches.

    ``torch.get_float32_matmul_precision`` fails once ``torch.backends.cuda.matmul.fp32_precision`` was set; this
    attribute knows what was set through either.
    """
    tf32 = torch.backends.cuda.matmul.fp32_precision == "tf32"
    return "tf32" if dtype == torch.float32 and tf32 else "ieee"


def rounded(w: Tensor) -> Tensor:
    """Weights as tensor cores take them: as ``products.rounded`` in the kernels, once for all steps."""
    if precision_of(w.dtype) == "ieee":
        return w
    nearest = ((w.view(torch.int32) + 0x1000) & -0x2000).view(torch.float32)
    return torch.where(w.isnan(), w, nearest)


def prepare(cell: str, layers: Sequence[Weights], *_: object) -> list[LayerWeights]:
    return [LayerWeights(w.w_ih, w.w_hh, *_biases(cell, w)) for w in layers]


def _biases(cell: str, weights: Weights) -> tuple[Optional[Tensor], Optional[Tensor]]:
    b_ih, b_hh = weights.b_ih, weights.b_hh
    if b_ih is None or b_hh is None:
        return None, None
    if cell != "gru":
        return (b_ih + b_hh).float(), None
    H = weights.w_hh.shape[1]
    return (b_ih + pad(b_hh[: 2 * H], (0, H))).float(), plain(b_hh[2 * H :].float())
