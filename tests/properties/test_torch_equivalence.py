"""With all dilations 1 the network is ``torch.nn.RNN``, ``GRU`` or ``LSTM``."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from streamdrnn import DilatedRNN
from streamdrnn.kernels import cell_named
from tests.agreement import assert_all_close, assert_close
from tests.strategies import CELLS, randn

THEIRS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_weights_load_and_everything_is_equal(
    cell: str, num_layers: int, bias: bool, batch_first: bool, dtype: torch.dtype
) -> None:
    T, B, I, H = 6, 2, 3, 5  # noqa: E741
    torch.manual_seed(0)
    theirs = THEIRS[cell](I, H, num_layers, bias=bias, batch_first=batch_first).to(dtype)
    ours = DilatedRNN(I, H, dilations=[1] * num_layers, cell=cell, bias=bias, batch_first=batch_first).to(dtype)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    theirs.load_state_dict(ours.state_dict(), strict=True)

    x = randn(*((B, T) if batch_first else (T, B)), I, seed=1, dtype=dtype).requires_grad_()
    h0 = randn(num_layers, B, H, seed=2, dtype=dtype).requires_grad_()
    c0 = randn(num_layers, B, H, seed=3, dtype=dtype).requires_grad_()
    before = ours.zero_state(B)._replace(h=list(h0.split(1)), c=list(c0.split(1)) if cell_named(cell).has_c else [])
    y, state = ours(x, before)
    want_y, want_end = theirs(x, (h0, c0) if cell_named(cell).has_c else h0)
    want_h, want_c = want_end if cell_named(cell).has_c else (want_end, None)
    assert_close(y, want_y, "y")
    assert_close(torch.cat(state.h), want_h, "h")
    if want_c is not None:
        assert_close(torch.cat(state.c), want_c, "c")

    def loss(y: Tensor, h: Tensor, c: Tensor | None) -> Tensor:
        return (y * randn(*y.shape, seed=4, dtype=dtype)).sum() + h.square().sum() + (0 if c is None else c.sum())

    inputs = [x, h0, c0] if cell_named(cell).has_c else [x, h0]
    our_loss = loss(y, torch.cat(state.h), torch.cat(state.c) if cell_named(cell).has_c else None)
    our_gradients = torch.autograd.grad(our_loss, [*inputs, *ours.parameters()])
    their_parameters = [dict(theirs.named_parameters())[name] for name, _ in ours.named_parameters()]
    their_gradients = torch.autograd.grad(loss(want_y, want_h, want_c), [*inputs, *their_parameters])
    assert_all_close(our_gradients, their_gradients, "gradient")


def test_parameters_are_named_and_ordered_as_torchs() -> None:
    theirs = [name for name, _ in nn.LSTM(3, 4, 2).named_parameters()]
    assert [name for name, _ in DilatedRNN(3, 4, dilations=[1, 2], cell="lstm").named_parameters()] == theirs


def test_initial_weights_are_within_torchs_bounds() -> None:
    torch.manual_seed(0)
    model = DilatedRNN(7, [16, 64], dilations=[3, 5], cell="lstm")
    for name, parameter in model.named_parameters():
        fan = {"_l0": 16, "_l1": 64}.get(name[-3:], 64 * 3)
        bound = fan**-0.5
        largest = float(parameter.detach().abs().max())
        assert 0.8 * bound < largest <= bound, name


@pytest.mark.parametrize("dilations", [[1, 2], [2, 1]])
def test_dropout_is_between_the_layers_and_in_training_only(dilations: list[int]) -> None:
    torch.manual_seed(0)
    model = DilatedRNN(3, 8, dilations=dilations, dropout=0.5, fuse=False)
    x = randn(6, 2, 3, seed=1, dtype=torch.float32)
    layers = []
    for layer, d in enumerate(dilations):
        alone = DilatedRNN(8 if layer else 3, 8, dilations=[d], fuse=False)
        weights = {name[:-1] + "0": value for name, value in model.state_dict().items() if name.endswith(f"l{layer}")}
        alone.load_state_dict(weights)
        layers.append(alone)
    below = layers[0](x)[0]
    torch.manual_seed(5)
    want = layers[1](dropout(below, 0.5))[0]
    torch.manual_seed(5)
    assert_close(model.train()(x)[0], want)
    assert_close(model.eval()(x)[0], layers[1](below)[0])


def test_one_layer_drops_nothing() -> None:
    model = DilatedRNN(3, 8, dilations=[3], dropout=0.9).train()
    x = randn(6, 2, 3, seed=1, dtype=torch.float32)
    assert torch.equal(model(x)[0], model(x)[0])
