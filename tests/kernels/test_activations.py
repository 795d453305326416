"""The tanh and logistic function of the native kernels and of Triton's, seen through cells of one unit."""

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from streamdrnn import kernels
from streamdrnn.kernels import cpu
from tests.kernels.cases import DEVICE, TRITON, needs_native

ACCURACY = 5e-7
"""Of an activation: float32 near 1 is 6e-8 apart."""


def answers_of_one_cell(level: str, cell: str, weight: float, x: Tensor) -> Tensor:
    """What a layer of one unit that forgets makes of each number alone.

    Args:
        level: of the native kernels; or "triton".
    """
    backend, device = ("triton", DEVICE) if level == "triton" else ("cpu", torch.device("cpu"))
    gates = kernels.CELLS[cell].gates
    w_ih = torch.full((gates, 1), weight, device=device)
    weights = kernels.Weights(w_ih, torch.zeros(gates, 1, device=device), None, None)
    ring = torch.zeros(1, x.numel(), 1, device=device)
    clock = torch.zeros(x.numel(), dtype=torch.int64, device=device)
    c_ring = ring if kernels.CELLS[cell].has_c else None
    with nullcontext() if level == "triton" else cpu.use_level(level):
        y = kernels.dilated_layer(cell, x.view(1, -1, 1).to(device), weights, ring, c_ring, clock, backend=backend)[0]
    return y.view(-1).cpu()


LEVELS = [pytest.param(level, marks=needs_native) for level in (["portable"] if cpu.why_not() else cpu.levels())]
every_level = pytest.mark.parametrize("level", LEVELS)
every_level_and_triton = pytest.mark.parametrize("level", [*LEVELS, TRITON])
overflows = pytest.mark.filterwarnings("ignore:overflow encountered")  # as Triton's interpreter says


@every_level
def test_tanh_is_accurate_odd_and_bounded(level: str) -> None:
    x = torch.cat(
        [torch.linspace(-12, 12, 400_003), torch.logspace(-38, 1.2, 50_000), torch.linspace(7.5, 9.5, 100_000)]
    )
    x = torch.cat([x, torch.nextafter(x, torch.tensor(torch.inf))]).sort().values
    y, negative = answers_of_one_cell(level, "rnn", 1.0, x), answers_of_one_cell(level, "rnn", 1.0, -x)
    want = x.double().tanh()
    assert float((y.double() - want).abs().max()) < ACCURACY
    assert float(((y.double() - want) / want.where(want != 0, 1)).abs().max()) < ACCURACY
    assert float(y.abs().max()) <= 1
    assert torch.equal(negative, -y)
    assert float((y[1:] - y[:-1]).min()) > -ACCURACY  # no step back is larger than the error


@every_level
def test_the_logistic_function_is_accurate_and_bounded(level: str) -> None:
    """Of a GRU whose h is 0 the answer is (1 - z) tanh(x): z is left when the division is made."""
    x = torch.cat([torch.linspace(-30, -1e-3, 200_001), torch.linspace(1e-3, 30, 200_001)])
    y = answers_of_one_cell(level, "gru", 1.0, x)
    c = answers_of_one_cell(level, "lstm", 1.0, x)
    wide = x.double()
    assert float((y - (1 - wide.sigmoid()) * wide.tanh()).abs().max()) < 1e-6
    sigmoid = wide.sigmoid()
    assert float((c - sigmoid * (sigmoid * wide.tanh()).tanh()).abs().max()) < 1.5e-6
    z = 1 - y.double() / wide.tanh()
    near = wide.abs() > 0.5
    assert float((z - sigmoid)[near].abs().max()) < 2e-6
    assert float(z[near].min()) > -2e-6
    assert float(z[near].max()) < 1 + 2e-6


@overflows
@every_level_and_triton
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_extreme_numbers_give_the_right_ones(cell: str, level: str) -> None:
    extreme = torch.tensor(
        [0.0, -0.0, 1e30, -1e30, 3.4e38, -3.4e38, 1e-30, -1e-30, 1e-40, -1e-40, 1e-45, -1e-45, 1.2e-38]
    )
    y = answers_of_one_cell(level, cell, 1.0, extreme)
    wide = extreme.double()
    sigmoid, tanh = wide.sigmoid(), wide.tanh()
    want = {"rnn": tanh, "gru": (1 - sigmoid) * tanh, "lstm": sigmoid * (sigmoid * tanh).tanh()}[cell]
    assert y.isfinite().all()
    # Where nothing is left of 1 - z, or of the cell, the error of the logistic function is.
    large = extreme.abs() > 1
    torch.testing.assert_close(y.double()[large], want[large], rtol=0, atol=ACCURACY)
    torch.testing.assert_close(y.double()[~large], want[~large], rtol=1e-6, atol=1e-44)


@overflows
@every_level_and_triton
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_a_sum_that_overflows_saturates(cell: str, level: str) -> None:
    for x in (torch.tensor([3e38]), torch.tensor([-3e38])):
        y = answers_of_one_cell(level, cell, 10.0, x)
        big = answers_of_one_cell(level, cell, 1.0, x)
        assert torch.equal(y, big), (cell, x)


@every_level_and_triton
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_nan_stays_nan(cell: str, level: str) -> None:
    """A training run that has diverged must be seen."""
    assert answers_of_one_cell(level, cell, float("nan"), torch.ones(3)).isnan().all()
