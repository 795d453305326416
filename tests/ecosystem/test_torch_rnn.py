"""Put where ``torch.nn.RNN``, ``GRU`` or ``LSTM`` was: the same arguments, weights and numbers."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence, unpack_sequence

from streamdrnn import DilatedRNN
from tests.agreement import assert_close
from tests.strategies import CELLS

OF_TORCH: dict[str, Any] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


def pair(cell: str, **options: Any) -> tuple[DilatedRNN, Any]:
    """Ours with dilations of 1, and torch's, made from one seed."""
    torch.manual_seed(0)
    ours = DilatedRNN(4, 8, dilations=[1, 1], cell=cell, **options)
    torch.manual_seed(0)
    return ours, OF_TORCH[cell](4, 8, 2, **options)


def hidden(state: Any) -> Tensor:
    """Torch's last hidden states, of which an LSTM gives a pair."""
    h: Tensor = state[0] if isinstance(state, tuple) else state
    return h


@pytest.mark.parametrize("cell", CELLS)
def test_the_same_seed_gives_the_same_weights(cell: str) -> None:
    ours, torchs = pair(cell)
    assert list(ours.state_dict()) == list(torchs.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), torchs.parameters(), strict=True))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("options", [{}, {"batch_first": True}, {"bias": False}, {"dtype": torch.float64}])
def test_outputs_last_states_and_gradients_are_torchs(cell: str, options: dict[str, Any]) -> None:
    ours, torchs = pair(cell, **options)
    x = torch.randn(5, 6, 4, dtype=options.get("dtype"))
    y, state = ours(x)
    want, last = torchs(x)
    assert_close(y, want)
    assert_close(state.h_n, hidden(last))
    if isinstance(last, tuple):
        assert_close(state.c_n, last[1])
    (y.square().sum() + state.h_n.sum()).backward()
    (want.square().sum() + hidden(last).sum()).backward()
    for a, b in zip(ours.parameters(), torchs.parameters(), strict=True):
        assert a.grad is not None
        assert_close(a.grad, b.grad)


def test_the_last_layers_h_n_is_the_last_output() -> None:
    rnn = DilatedRNN(4, 8, 3)
    y, state = rnn(torch.randn(9, 2, 4))
    assert torch.equal(nn.Identity()(state.h_n[-1]), y[-1])


def test_a_gru_has_no_c_n_and_layers_of_two_sizes_no_h_n() -> None:
    with pytest.raises(ValueError, match="'gru' cells have no cell state"):
        _ = DilatedRNN(4, 8, 1).zero_state(1).c_n
    with pytest.raises(ValueError, match=re.escape("expected layers of one size, got [3, 8]; see h and c")):
        _ = DilatedRNN(4, [3, 8], 2).zero_state(1).h_n


@pytest.mark.parametrize("batch_first", [False, True])
def test_one_sequence_needs_no_batch(batch_first: bool) -> None:
    ours, torchs = pair("gru", batch_first=batch_first)
    x = torch.randn(7, 4)
    y, state = ours(x)
    want, last = torchs(x)
    assert_close(y, want)
    assert_close(state.h_n[:, 0], last)
    assert torch.equal(ours(x[:3])[0], y[:3])
    assert torch.equal(ours(x[3:], ours(x[:3])[1])[0], y[3:])


@pytest.mark.parametrize("cell", CELLS)
def test_packed_sequences_give_what_torch_gives(cell: str) -> None:
    ours, torchs = pair(cell)
    sequences = [torch.randn(T, 4) for T in (3, 6, 1)]
    packed = pack_sequence(sequences, enforce_sorted=False)
    y, state = ours(packed)
    want, last = torchs(packed)
    assert isinstance(y, PackedSequence)
    assert torch.equal(y.batch_sizes, want.batch_sizes)
    assert_close(y.data, want.data)
    assert_close(state.h_n, hidden(last))
    for out, alone in zip(unpack_sequence(y), sequences, strict=True):
        assert_close(out, ours(alone)[0])
    assert_close(pad_packed_sequence(y)[0], pad_packed_sequence(want)[0])
    more = pack_padded_sequence(torch.randn(2, 3, 4), torch.tensor([2, 1, 1]))
    assert_close(ours(more, state)[0].data, torchs(more, last)[0].data)
    y.data.sum().backward()
    assert ours.weight_ih_l0.grad is not None


def test_a_packed_sequence_has_its_own_lengths() -> None:
    with pytest.raises(ValueError, match="lengths: a PackedSequence has its own, expected None"):
        DilatedRNN(4, 8, 1)(pack_sequence([torch.randn(3, 4)]), None, torch.tensor([3]))


def test_device_and_dtype_are_those_of_the_parameters() -> None:
    rnn = DilatedRNN(4, 8, dilations=[2, 4], device="meta", dtype=torch.float64)
    assert {(p.device.type, p.dtype) for p in rnn.parameters()} == {("meta", torch.float64)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bidirectional": True}, "bidirectional: a network that streams cannot read the future, expected False"),
        ({"proj_size": 3}, "proj_size: the cells have no projection, expected 0, got 3"),
    ],
)
def test_what_we_do_not_have_is_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DilatedRNN(4, 8, 2, **options)


def test_torchs_own_state_is_refused_in_one_line() -> None:
    ours, torchs = pair("gru")
    with pytest.raises(TypeError, match="state: expected a DRNNState, got Tensor"):
        ours(torch.randn(3, 2, 4), torchs(torch.randn(3, 2, 4))[1])
