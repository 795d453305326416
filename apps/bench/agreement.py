"""Only equal results are compared: a fast way to other numbers is no peer."""

from collections.abc import Sequence

import torch
from torch import Tensor

LIMIT = 1e-4
"""Relative RMS difference below which float32 results count as equal."""


def check_same(peer: str, what: str, got: Tensor, expected: Tensor) -> None:
    """Raise unless a peer's result is ours.

    Raises:
        ValueError: the shapes differ, or the values by :data:`LIMIT` or more.
    """
    if got.shape != expected.shape:
        raise ValueError(f"{peer}: {what} of shape {tuple(got.shape)}, ours has {tuple(expected.shape)}")
    difference = relative_rms(got, expected)
    if not difference < LIMIT:  # NaN is no agreement
        raise ValueError(f"{peer}: {what} differs from ours by {difference:.1e} (relative RMS), expected below {LIMIT}")


def check_all_same(peer: str, what: str, got: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """:func:`check_same` for each of several results.

    Raises:
        ValueError: as there, or their number differs.
    """
    if len(got) != len(expected):
        raise ValueError(f"{peer}: {len(got)} of {what}, ours are {len(expected)}")
    for number, (one, other) in enumerate(zip(got, expected, strict=True)):
        check_same(peer, f"{what} {number}", one, other)


def relative_rms(got: Tensor, expected: Tensor) -> float:
    """The RMS of the difference over that of what is expected; 0 for two that are all zero."""
    error = (got.detach().double() - expected.detach().double()).square().sum()
    size = expected.detach().double().square().sum()
    return float(torch.sqrt(error / size)) if error > 0 else float(error)
