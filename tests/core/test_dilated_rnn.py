"""The layer's interface, beyond what holds for every input (see ``tests/properties``)."""

import copy

import pytest
import torch

from streamdrnn import DilatedRNN
from tests.agreement import assert_close, assert_same_bits, assert_states_close
from tests.strategies import CELLS, Network, random_state


def test_num_layers_doubles_the_dilations() -> None:
    model = DilatedRNN(3, 4, num_layers=4)
    assert model.dilations == [1, 2, 4, 8]
    assert not model.fuse


def test_hidden_sizes_may_differ_per_layer() -> None:
    model = DilatedRNN(3, [4, 6, 5], dilations=[2, 1, 3])
    y, state = model(torch.zeros(7, 2, 3))
    assert y.shape == (7, 2, 5)
    assert [ring.shape for ring in state.h] == [(2, 2, 4), (1, 2, 6), (3, 2, 5)]
    assert state.fusion.shape == (2, 2, 5)


@pytest.mark.parametrize("cell", CELLS)
def test_a_given_state_is_not_written(cell: str) -> None:
    network = Network(dilations=(2, 3), cell=cell)
    model = network.build()
    given = random_state(model, [0, 5], seed=1)
    before = given.clone()
    x = network.x(4, 2)
    model(x, given)
    model.step(x[0], given)
    model.step(x[0], given, torch.tensor([True, False]))
    assert_same_bits(given, before)


def test_the_states_after_share_no_memory_with_those_before() -> None:
    """Also where nothing was written: who goes on from both must not find one in the other."""
    model = Network(dilations=(2, 3), cell="lstm").build()
    given = random_state(model, [0, 5], seed=1)
    before = given.clone()
    nobody = torch.tensor([False, False])
    for _, after in (
        model(model.weight_ih_l0.new_zeros(0, 2, 3), given),
        model.step(torch.zeros(2, 3).double(), given, nobody),
    ):
        for tensor in after.tensors().values():
            tensor.detach().fill_(9)
    assert_same_bits(given, before)


def test_a_step_where_nobody_is_active_changes_nothing() -> None:
    model = Network(dilations=(2, 3), cell="lstm").build()
    given = random_state(model, [0, 5], seed=1)
    y, after = model.step(Network().x(1, 2)[0], given, torch.tensor([False, False]))
    assert not y.any()
    assert_same_bits(after, given)


@pytest.mark.parametrize("cell", CELLS)
def test_nan_in_an_inactive_stream_reaches_no_gradient(cell: str) -> None:
    network = Network(dilations=(1, 2), cell=cell)
    gradients = []
    for filling in (0.0, torch.nan):
        model = network.build()
        x = network.x(1, 2)[0]
        x[1] = filling
        y, _ = model.step(x, model.zero_state(2), torch.tensor([True, False]))
        gradients.append(torch.autograd.grad(y.square().sum(), list(model.parameters())))
    for got, want in zip(gradients[1], gradients[0], strict=True):
        assert_close(got, want)


def test_an_empty_batch_is_no_error() -> None:
    model = Network(dilations=(2, 3)).build()
    y, state = model(torch.zeros(5, 0, 3, dtype=torch.float64))
    assert y.shape == (5, 0, 4)
    assert state.batch_size == 0


def test_an_empty_chunk_leaves_the_state_as_it_is() -> None:
    model = Network(dilations=(2, 3), cell="lstm").build()
    given = random_state(model, [0, 5], seed=1)
    y, after = model(torch.zeros(0, 2, 3, dtype=torch.float64), given)
    assert y.shape == (0, 2, 4)
    assert_same_bits(after.detach(), given)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_zero_state_is_zero_and_wide(dtype: torch.dtype) -> None:
    model = Network(dilations=(2, 3), cell="lstm", dtype=dtype).build()
    state = model.zero_state(3)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert not any(t.any() for t in state.tensors().values())
    assert {t.dtype for name, t in state.tensors().items() if name != "cursor"} == {wide}
    assert state.cursor.dtype == torch.int64
    assert state.batch_size == 3
    assert model.zero_state(3, dtype=torch.bfloat16).fusion.dtype == torch.float32


def test_config_builds_the_same_network() -> None:
    model = DilatedRNN(3, [4, 5], dilations=[3, 1], cell="lstm", bias=False, batch_first=True, dropout=0.25, fuse=False)
    again = DilatedRNN(**model.config())  # type: ignore[arg-type]
    again.load_state_dict(model.state_dict())
    assert again.config() == model.config()
    x = torch.ones(2, 6, 3)
    assert torch.equal(again.eval()(x)[0], model.eval()(x)[0])


def test_a_network_may_be_copied() -> None:
    network = Network(dilations=(2, 3))
    model = network.build()
    again = copy.deepcopy(model)
    x = network.x(5, 2)
    want = model(x)[0]
    with torch.no_grad():
        model.weight_ih_l0.zero_()
    assert torch.equal(again(x)[0], want)


def test_a_network_moves_between_dtypes() -> None:
    network = Network(dilations=(2, 3), dtype=torch.float32)
    model = network.build()
    x = network.x(5, 2)
    want, state = model(x)
    y, wide = model.double()(x.double())
    assert_close(y.float(), want)
    assert_states_close(wide.to(dtype=torch.float32), state)


def test_the_fusion_is_a_causal_convolution() -> None:
    network = Network(dilations=(3, 2))
    model = network.build()
    x = network.x(8, 2)
    y = model(x)[0]
    plain = Network(dilations=(3, 2), fuse=False).build()
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if "fusion" not in name})
    top = torch.nn.functional.pad(plain(x)[0].permute(1, 2, 0), (2, 0))
    assert model.fusion_weight is not None
    want = torch.nn.functional.conv1d(top, model.fusion_weight, model.fusion_bias).permute(2, 0, 1)
    assert_close(y, want)


@pytest.mark.parametrize("lengths", [torch.tensor([0, 3]), torch.tensor([4, 3])])
def test_the_last_output_needs_a_step(lengths: torch.Tensor) -> None:
    network = DilatedRNN(3, 4, num_layers=2)
    with pytest.raises(ValueError, match="lengths: expected"):
        network.last(torch.zeros(3, 2, 3), lengths=lengths)
    with pytest.raises(ValueError, match="expected a step or more"):
        network.last(torch.zeros(0, 2, 3))


def test_repr_says_what_it_is() -> None:
    assert "dilations=[1, 2], cell='gru'" in repr(Network().build())
