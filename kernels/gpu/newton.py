"""All steps of a layer's phases at once, by Newton's method: an experiment, in torch's operations.

The states of a phase solve ``s_i = f(s_{i-1}, x_i)`` for all its steps i together. Newton's method replaces f by its
linear part about a guess, which gives a linear recurrence for the guess's error. A scan in pairs solves that one in
log2(N) rounds, and the next guess is better: its error is about the square of the last one's. The gradient's
recurrence is linear as it is, so that one scan gives it. Lim et al. 2024 (arXiv 2309.12252) and Danieli et al. 2025
(arXiv 2510.21450) do so for other networks; with dilation d there are d times as many sequences, each d times shorter.

A state is K vectors of H numbers: h, for an LSTM h and c. Steps are in front, then rows: phases times streams.
"""

from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from streamdrnn.kernels.cells import CELLS

TOLERANCE = 1e-6
"""The largest residual ``s_i - f(s_{i-1}, x_i)`` of states that count as solved, relative to numbers above 1."""

MOST_ITERATIONS = 16
"""After so many without that, the steps are taken one after the other."""

MOST_NUMBERS = 2**25
"""Of a window's Jacobians: longer chunks are solved window after window."""


def forward(
    cell: str,
    gi: Tensor,
    w_hh: Tensor,
    b_n: Optional[Tensor],
    made: Optional[Tensor],
    h: Tensor,
    c: Tensor,
    gates: Tensor,
    d: int,
) -> int:
    """The states of all steps.

    Args:
        gi, w_hh, b_n: as for ``scan.forward``, in float32.
        made: ``(T, B, 1)`` bool, which steps are made; None is all.
        h, c: ``(d + T, B, H)``, the past in order of time; what the steps make is written behind it, zero where no
            step is made. c is empty but for an LSTM.
        gates: ``(T, B, 4 H)`` to be written, see ``scan.History``; or empty.

    Returns:
        the most iterations that a window took; 0 if a window did not converge.
    """
    histories, most = [h, c] if CELLS[cell].has_c else [h], 0
    for steps in _windows(len(gi), h, d, len(histories)):
        start = torch.stack([_rows(history[steps][:d], d)[0] for history in histories], 1)
        found = _solve(cell, _rows(gi[steps], d), w_hh, b_n, start)
        if found is None:
            return 0
        states, saved, iterations = found
        most = max(most, iterations)
        for history, new in zip(histories, states.unbind(2), strict=True):
            new = _times(new, gi[steps])
            history[d:][steps] = new if made is None else torch.where(made[steps], new, 0.0)
        if gates.numel():
            gates[steps] = _times(torch.cat(list(saved), -1), gi[steps])
    return most


def backward(
    cell: str, w_hh: Tensor, h: Tensor, c: Tensor, gates: Tensor, made: Optional[Tensor], ds: Tensor, dgates: Tensor
) -> bool:
    """The gradients of the gates' sums and of the past.

    Args:
        h, c, gates: a ``scan.History``.
        made: as for :func:`forward`.
        ds: ``(d + T, B, K, H)``, the gradients of the past and of all new states as they are used elsewhere. Its first
            d become the gradients of the past.
        dgates: to be written, see ``scan.backward``.

    Returns:
        whether all numbers are finite. Else products of Jacobians were too large.
    """
    T, d, H = len(dgates), len(h) - len(dgates), h.shape[2]
    histories = [h, c] if CELLS[cell].has_c else [h]
    for steps in reversed(_windows(T, h, d, len(histories))):
        old, new = (
            torch.stack([_rows(each[steps], d) for each in some], 2)
            for some in (histories, [history[d:] for history in histories])
        )
        saved = _rows(gates[steps], d).split(H, -1) if gates.numel() else ()
        by_gate, direct = _derivatives(cell, saved, old, new)
        if made is not None:
            real = _rows(made[steps], d).unsqueeze(2)
            direct, by_gate = torch.where(real, direct, 0.0), torch.where(real.unsqueeze(2), by_gate, 0.0)
        a = _jacobians(cell, w_hh, by_gate, direct)
        b = _rows(ds[d:][steps].flatten(2), d)
        x = solve_linear(a[1:].mT.flip(0), b.flip(0)).flip(0)
        if not x.isfinite().all():
            return False
        dgates[steps] = _times((by_gate * x.view_as(direct).unsqueeze(2)).sum(3).flatten(2), dgates[steps])
        past = ds[steps][:d]
        past += _times(_applied(a[0].mT, x[0])[None], past).view_as(past)
    return True


def solve_linear(a: Tensor, b: Tensor) -> Tensor:
    """``x_0 = b_0`` and ``x_{i+1} = a_i x_i + b_{i+1}`` for rows beside one another, by halves: N steps take log2(N)
    rounds and fewer than N products of matrices.

    Args:
        a: ``(N - 1, R, S, S)``.
        b: ``(N, R, S)``.
    """
    N = len(b)
    if N == 1:
        return b
    # Two steps are one: this leaves every second unknown, after which the others follow.
    odd = solve_linear(a[2::2] @ a[1 : N - 2 : 2], b[1::2] + _applied(a[::2], b[: N - 1 : 2]))
    x = torch.empty_like(b)
    x[0] = b[0]
    x[1::2] = odd
    x[2::2] = b[2::2] + _applied(a[1::2], odd[: (N - 1) // 2])
    return x


def _applied(a: Tensor, x: Tensor) -> Tensor:
    return (a @ x.unsqueeze(-1)).squeeze(-1)


def _solve(
    cell: str, gi: Tensor, w: Tensor, b_n: Optional[Tensor], start: Tensor
) -> Optional[tuple[Tensor, Sequence[Tensor], int]]:
    """Newton's method for a window.

    Args:
        gi: ``(N, R, G H)``.
        start: ``(R, K, H)``.

    Returns:
        the states ``(N, R, K, H)``, the saved gates ``(N, R, H)`` and the iterations; None if it did not converge.
    """
    states = start.new_zeros(len(gi), *start.shape)
    for iterations in range(1, MOST_ITERATIONS + 1):
        old = torch.cat([start[None], states[:-1]])
        new, saved = _step(cell, gi, w, b_n, old)
        residual = new - states
        if (residual.abs() <= TOLERANCE * new.abs().clamp(min=1)).all():
            return new, saved, iterations
        a = _jacobians(cell, w, *_derivatives(cell, saved, old, new))[1:]
        states = states + solve_linear(a, residual.flatten(2)).view_as(states)
    return None


def _step(cell: str, gi: Tensor, w: Tensor, b_n: Optional[Tensor], old: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
    """The new states and what the gradient needs, as ``cells.step``, of all steps and rows."""
    H = old.shape[-1]
    h = old[..., 0, :]
    sums = linear(h, w)
    if cell == "rnn":
        return torch.tanh(gi + sums).unsqueeze(-2), ()
    if cell == "gru":
        r, z = torch.sigmoid(gi[..., : 2 * H] + sums[..., : 2 * H]).chunk(2, -1)
        h_n = sums[..., 2 * H :]
        h_n = h_n if b_n is None else h_n + b_n
        n = torch.tanh(gi[..., 2 * H :] + r * h_n)
        return (n + z * (h - n)).unsqueeze(-2), (r, z, n, h_n)
    i, f, g, o = (gi + sums).chunk(4, -1)
    i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
    c = f * old[..., 1, :] + i * g
    return torch.stack([o * torch.tanh(c), c], -2), (i, f, g, o)


def _derivatives(cell: str, saved: Sequence[Tensor], old: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    """What ``cells.gradient`` multiplies gradients by.

    Returns:
        ``(N, R, kept, K, H)``, the derivatives of the new states with respect to the gates' sums, in the order in which
        their gradients are kept; ``(N, R, K, H)``, those with respect to a GRU's h or an LSTM's c, directly.
    """
    if cell == "rnn":
        return (1 - new.square()).unsqueeze(2), torch.zeros_like(new)
    if cell == "gru":
        r, z, n, h_n = (gate.unsqueeze(2) for gate in saved)
        of_n = (1 - z) * (1 - n.square())
        of_r = of_n * h_n * r * (1 - r)
        return torch.stack([of_n * r, of_r, (old - n) * z * (1 - z), of_n], 2), z
    i, f, g, o = saved
    tanh_c = torch.tanh(new[..., 1, :])
    h_of_c = o * (1 - tanh_c.square())
    c_of_sums = [g * i * (1 - i), old[..., 1, :] * f * (1 - f), i * (1 - g.square()), torch.zeros_like(o)]
    h_of_sums = [*(h_of_c * each for each in c_of_sums[:3]), tanh_c * o * (1 - o)]
    by_gate = torch.stack([torch.stack(h_of_sums, 2), torch.stack(c_of_sums, 2)], 3)
    return by_gate, torch.stack([h_of_c * f, f], 2)


def _jacobians(cell: str, w: Tensor, by_gate: Tensor, direct: Tensor) -> Tensor:
    """``(N, R, K H, K H)``, the derivatives of the new states with respect to the old ones."""
    H = direct.shape[-1]
    weights = w.view(-1, H, H)
    if cell == "gru":  # kept are h_n, r, z, and i_n, which the state does not reach
        weights = weights.roll(1, 0)
    through_gates = torch.einsum("nrgki,gij->nrkij", by_gate[:, :, : len(weights)], weights).flatten(2, 3)
    of_itself = torch.diag_embed(direct).flatten(2, 3)
    return torch.cat([through_gates, of_itself], -1) if CELLS[cell].has_c else through_gates + of_itself


def _windows(T: int, h: Tensor, d: int, K: int) -> list[slice]:
    """Runs of times whose Jacobians are few enough, each of whole steps of all phases."""
    _, B, H = h.shape
    span = d * max(1, MOST_NUMBERS // (d * B * (K * H) ** 2))
    return [slice(first, min(first + span, T)) for first in range(0, T, span)]


def _rows(sequence: Tensor, d: int) -> Tensor:
    """From times ``(T, B, X)`` to steps ``(N, d B, X)``: the last ones are zero where T ends before them."""
    T, B, X = sequence.shape
    return pad(sequence, (0, 0, 0, 0, 0, -T % d)).view(-1, d * B, X)


def _times(rows: Tensor, like: Tensor) -> Tensor:
    """From steps ``(N, d B, X)`` back to as many times of as many streams as the other tensor has."""
    T, B = like.shape[:2]
    return rows.reshape(-1, B, rows.shape[2])[:T]
