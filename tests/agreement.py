"""When two computations of the same thing count as equal."""

from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor

from streamdrnn import ModelState
from streamdrnn.state import StreamState

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
"""The relative root mean square error that the contract allows, by dtype."""

SMALLEST_SCALE = 1e-2
"""Results below this are sums whose terms, of order one, have cancelled: their rounding is that of the terms."""


def rms(x: Tensor) -> float:
    return float(x.double().square().mean().sqrt())


def assert_close(
    got: Tensor,
    want: Tensor,
    what: str = "tensor",
    computed_in: Optional[torch.dtype] = None,
    scale: float = SMALLEST_SCALE,
) -> None:
    """Integers are equal; floating point tensors are finite and agree within their dtype's tolerance.

    ``computed_in`` is the dtype of the computation where it is not that of the result.
    """
    assert got.shape == want.shape, f"{what}: shape {tuple(got.shape)}, expected {tuple(want.shape)}"
    assert got.dtype == want.dtype, f"{what}: {got.dtype}, expected {want.dtype}"
    got, want = got.detach(), want.detach()
    if not want.is_floating_point():
        assert torch.equal(got, want), f"{what}: {got}, expected {want}"
        return
    assert want.isfinite().all(), f"{what}: the expected values are not finite"
    assert got.isfinite().all(), f"{what}: NaN or infinity"
    if want.numel():
        error = rms(got.double() - want.double()) / max(rms(want), scale)
        assert error <= TOLERANCE[computed_in or want.dtype], f"{what}: relative RMS error {error:.3g}"


def assert_all_close(got: Sequence[Optional[Tensor]], want: Sequence[Optional[Tensor]], what: str = "tensor") -> None:
    assert len(got) == len(want)
    for i, (g, w) in enumerate(zip(got, want, strict=True)):
        assert (g is None) == (w is None), f"{what}[{i}]: {g}, expected {w}"
        if g is not None and w is not None:
            assert_close(g, w, f"{what}[{i}]")


def assert_gradients_close(got: Sequence[Tensor], want: Sequence[Tensor]) -> None:
    """In float64 each tensor by itself; in float32 by the scale of the whole gradient.

    A single weight's gradient is a sum over all steps and streams, which may all but cancel: float32 has no 1e-5 of it.
    """
    assert len(got) == len(want)
    whole = max(SMALLEST_SCALE, rms(torch.cat([w.detach().flatten() for w in want])))
    for i, (g, w) in enumerate(zip(got, want, strict=True)):
        assert_close(g, w, f"gradient[{i}]", scale=whole if w.dtype == torch.float32 else SMALLEST_SCALE)


def assert_states_close(got: StreamState, want: StreamState) -> None:
    assert type(got) is type(want)
    tensors = got.tensors()
    assert list(tensors) == list(want.tensors())
    # A mean is kept in float64 also where what it is the mean of was computed in float32.
    network = want.rnn if isinstance(want, ModelState) else want
    computed_in = next(iter(network.tensors().values())).dtype
    for name, tensor in want.tensors().items():
        assert_close(tensors[name], tensor, name, computed_in)


def assert_same_bits(got: StreamState, want: StreamState) -> None:
    tensors = got.tensors()
    assert list(tensors) == list(want.tensors())
    for name, tensor in want.tensors().items():
        assert tensors[name].dtype == tensor.dtype, name
        assert torch.equal(tensors[name], tensor), name
