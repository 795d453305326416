"""The forward recurrence, in a form that TorchScript compiles as well.

In a time-major sequence the steps ``s .. s+d-1`` belong to the d different phases and do not depend on
one another, and what they read are the d steps just before. So the phases fold into the batch as plain
slices: no padding when T is no multiple of d, no gather, no transposition.
"""

from typing import List, Optional, Tuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from streamdrnn.kernels.weights import Weights


def gates_to_state(
    cell: str, gi: Tensor, gh: Tensor, h: Tensor, c: Optional[Tensor]
) -> Tuple[Tensor, Optional[Tensor]]:
    """The cell's element-wise part.

    Args:
        cell: ``"rnn"``, ``"gru"`` or ``"lstm"``.
        gi, gh: ``(N, G H)``, the products of the input and of the state with their weights, biases added.
        h, c: ``(N, H)``, the states d steps ago; c for an LSTM only.

    Returns:
        the new h and c, ``(N, H)``.
    """
    if cell == "rnn":
        return torch.tanh(gi + gh), None
    elif cell == "gru":
        H = h.shape[1]
        r, z = torch.sigmoid(gi[:, : 2 * H] + gh[:, : 2 * H]).chunk(2, 1)
        n = torch.tanh(gi[:, 2 * H :] + r * gh[:, 2 * H :])
        return n + z * (h - n), None
    else:
        assert c is not None, "an LSTM needs its cell state"
        i, f, g, o = (gi + gh).chunk(4, 1)
        c_new = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c_new), c_new


def step(
    cell: str,
    x: Tensor,
    weights: Weights,
    h: Tensor,
    c: Optional[Tensor],
) -> Tuple[Tensor, Optional[Tensor]]:
    """One step for B rows; arguments and result as :func:`streamdrnn.kernels.reference.step`."""
    gi = linear(x, weights.w_ih, weights.b_ih)
    gh = linear(h, weights.w_hh, weights.b_hh)
    return gates_to_state(cell, gi, gh, h, c)


def scan(
    cell: str, gi: Tensor, w_hh: Tensor, b_hh: Optional[Tensor], h0: Tensor, c0: Optional[Tensor]
) -> Tuple[Tensor, Optional[Tensor]]:
    """All steps of a chunk, d at a time.

    Args:
        gi: ``(T, B, G H)``, the input's share of the gates.
        h0, c0: ``(d, B, H)``, the past in order of time.

    Returns:
        the past followed by the T new states, ``(d + T, B, H)``, for h and (LSTM) c.
    """
    T, B, G = gi.shape
    d, H = h0.shape[0], h0.shape[2]
    h, c = h0, c0
    all_h: List[Tensor] = [h0]
    all_c: List[Tensor] = []
    if c0 is not None:
        all_c.append(c0)
    for s in range(0, T, d):
        n = min(d, T - s)
        rows = n * B
        h_before = h[:n].reshape(rows, H)
        c_before: Optional[Tensor] = None
        if c is not None:
            c_before = c[:n].reshape(rows, H)
        gh = linear(h_before, w_hh, b_hh)
        h_new, c_new = gates_to_state(cell, gi[s : s + n].reshape(rows, G), gh, h_before, c_before)
        h = h_new.view(n, B, H)
        all_h.append(h)
        if c_new is not None:
            c = c_new.view(n, B, H)
            all_c.append(c)
    if c0 is None:
        return torch.cat(all_h), None
    return torch.cat(all_h), torch.cat(all_c)
