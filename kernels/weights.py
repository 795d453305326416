"""The weights of one recurrent layer."""

from typing import NamedTuple, Optional

from torch import Tensor


class Weights(NamedTuple):
    """The weights of a layer of H units with I inputs, the G gates in torch's order.

    Attributes:
        w_ih, w_hh: ``(G H, I)`` and ``(G H, H)``.
        b_ih, b_hh: ``(G H,)``, or None.
    """

    w_ih: Tensor
    w_hh: Tensor
    b_ih: Optional[Tensor]
    b_hh: Optional[Tensor]
