"""The weights that training starts from."""

import math

import pytest
import torch
from torch import nn

from streamdrnn import DilatedRNN, initialise
from streamdrnn.baselines import SkipRNN
from tests.strategies import CELLS


@pytest.mark.parametrize("cell", CELLS)
def test_signals_keep_their_size_through_many_layers(cell: str) -> None:
    """With torch's own the top layer of seven hardly moves."""
    torch.manual_seed(0)
    rnn = DilatedRNN(8, 32, num_layers=7, cell=cell)
    x = torch.randn(200, 4, 8)

    @torch.no_grad()
    def deviation() -> float:
        return float(rnn(x)[0][100:].std(0).mean())

    assert deviation() < 0.04
    initialise(rnn)
    assert 0.1 < deviation() < 0.6


@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_matrices_are_orthogonal_gate_by_gate(cell: str) -> None:
    rnn = SkipRNN(3, 6, skips=[2, 1], cell=cell)
    initialise(rnn)
    for name, parameter in rnn.named_parameters():
        if name.startswith("weight_hh"):
            for gate in parameter.split(6):
                torch.testing.assert_close(gate @ gate.T, torch.eye(6), rtol=0, atol=1e-5)


@pytest.mark.parametrize("keep_bias", [math.nan, math.inf, -11.0])
def test_gates_are_not_shut_for_good(keep_bias: float) -> None:
    with pytest.raises(ValueError, match="keep_bias: expected from -10 to 10"):
        initialise(DilatedRNN(2, 3, num_layers=1), keep_bias)


def test_what_has_no_gates_has_no_bias_for_them() -> None:
    with pytest.raises(ValueError, match="keep_bias: expected with a gru or lstm"):
        initialise(DilatedRNN(2, 3, num_layers=1, cell="rnn"), 1.0)


def test_what_has_no_cell_is_refused() -> None:
    with pytest.raises(ValueError, match=r"cell: got '', expected one of rnn, gru, lstm"):
        initialise(nn.Linear(2, 3))
