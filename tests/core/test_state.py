"""States: every operation returns a new one."""

from collections.abc import Callable

import pytest
import torch

from streamdrnn import Classifier, DRNNState, ModelState
from streamdrnn.audio import RawWaveform
from streamdrnn.kernels import cell_named
from tests.agreement import assert_same_bits
from tests.properties.models import build
from tests.strategies import Network, random_state

NETWORK = Network(dilations=(2, 3), cell="lstm", dtype=torch.float32)


def network_state() -> DRNNState:
    return random_state(NETWORK.build(), [0, 4, 7], seed=5)


def model_state() -> ModelState:
    head = build("classifier of the mean", NETWORK)
    _, state = head(NETWORK.x(6, 3), None, torch.tensor([6, 2, 0]))
    assert isinstance(state, ModelState)
    return state.detach()


def audio_state() -> ModelState:
    head = Classifier(NETWORK.build(), 2, pool="mean", frontend=RawWaveform(3))
    _, state = head(NETWORK.x(11, 3).sum(2), None, torch.tensor([11, 4, 0]))
    assert isinstance(state, ModelState)
    return state.detach()


every_state = pytest.mark.parametrize("make", [network_state, model_state, audio_state])
Make = Callable[[], DRNNState] | Callable[[], ModelState]


@every_state
def test_select_takes_streams_in_any_order_and_twice(make: Make) -> None:
    state = make()
    chosen = state.select([2, 0, 2])
    assert chosen.batch_size == 3
    for name, tensor in state.tensors().items():
        dim = 0 if tensor.dim() == 1 else 1
        want = torch.stack([tensor.select(dim, b) for b in (2, 0, 2)], dim)
        assert torch.equal(chosen.tensors()[name], want), name


@every_state
def test_select_takes_an_index_a_tensor_or_a_mask(make: Make) -> None:
    state = make()
    assert_same_bits(state.select(1), state.select([1]))
    assert_same_bits(state.select(torch.tensor([2, 1])), state.select([2, 1]))
    assert_same_bits(state.select(torch.tensor([True, False, True])), state.select([0, 2]))
    assert state.select([]).batch_size == 0


@every_state
def test_select_costs_what_it_takes(make: Make) -> None:
    """Of very many streams, which here share the memory of one; a copy of all would need a hundred terabytes."""
    one, many = make().select(0), 2**40
    state = one.map(lambda t: t.expand(many) if t.dim() == 1 else t.expand(-1, many, *t.shape[2:]))
    assert_same_bits(state.select([7, many - 1]), one.select([0, 0]))


@every_state
def test_stack_undoes_select(make: Make) -> None:
    state = make()
    parts = [state.select(0), state.select([1, 2])]
    assert_same_bits(type(state).stack(parts), state)  # type: ignore[arg-type]


def test_stack_refuses_states_of_different_models() -> None:
    state = network_state()
    others: list[tuple[DRNNState, str]] = [
        (
            Network(dilations=(2, 4), cell="lstm", dtype=torch.float32).build().zero_state(1),
            r"\.h\[1\]: expected shape",
        ),
        (
            Network(dilations=(2, 3), cell="gru", dtype=torch.float32).build().zero_state(1),
            r"\.c: expected 2 tensors, got 0",
        ),
        (state.to(dtype=torch.float64), r"\.h\[0\]: expected dtype torch.float32, got torch.float64"),
        (state.to("meta"), r"\.h\[0\]: expected device cpu, got meta"),
    ]
    for other, what in others:
        with pytest.raises((ValueError, TypeError), match=r"^states\[1\]" + what):
            DRNNState.stack([state, other])
    rnn, gru = (Network(cell=cell).build().zero_state(1) for cell in ("rnn", "gru"))
    with pytest.raises(
        ValueError, match=r"^states\[1\]\.mark: expected that of a 'rnn' model, got that of a 'gru' model"
    ):
        DRNNState.stack([rnn, gru])
    with pytest.raises(ValueError, match=r"^states: an empty sequence"):
        DRNNState.stack([])
    with pytest.raises(TypeError, match=r"^states\[1\]: expected DRNNState, got ModelState"):
        DRNNState.stack([state, model_state()])  # type: ignore[list-item]


@every_state
def test_reset_puts_some_streams_at_their_beginning_and_no_others(make: Make) -> None:
    state = make()
    before = state.clone()
    after = state.reset([0, 2])
    assert_same_bits(state, before)
    assert_same_bits(after.select(1), state.select(1))
    assert not any(t.any() for t in after.select([0, 2]).tensors().values())
    assert_same_bits(state.reset(torch.tensor([True, False, True])), after)
    assert not any(t.any() for t in state.reset().tensors().values())
    assert_same_bits(state.reset([]), state)


@every_state
def test_a_clone_shares_no_memory(make: Make) -> None:
    state = make()
    copy = state.clone()
    assert_same_bits(copy, state)
    for tensor in copy.tensors().values():
        tensor.fill_(3)
    assert_same_bits(state, make())


def test_detach_cuts_the_graph() -> None:
    model = NETWORK.build()
    _, state = model(NETWORK.x(4, 2))
    assert state.h[0].requires_grad
    cut = state.detach()
    assert not any(t.requires_grad for t in cut.tensors().values())
    assert_same_bits(cut, state)


@every_state
def test_to_moves_floating_point_only(make: Make) -> None:
    state = make()
    wide = state.to(dtype=torch.float64)
    for name, tensor in state.tensors().items():
        want = tensor.double() if tensor.is_floating_point() else tensor
        assert wide.tensors()[name].dtype == want.dtype
        assert torch.equal(wide.tensors()[name], want)
    assert {t.device.type for t in state.to("meta").tensors().values()} == {"meta"}
    for narrow in (torch.bfloat16, torch.float16, torch.int64):
        with pytest.raises(ValueError, match=r"^dtype: got .*, expected torch.float32 or torch.float64"):
            state.to(dtype=narrow)


@every_state
def test_to_the_dtype_that_a_state_has_changes_nothing(make: Make) -> None:
    """Nor from float32 to float64 and back: a sum that is kept in float64 for its length stays there."""
    state = make()
    assert_same_bits(state.to(dtype=torch.float32), state)
    assert_same_bits(state.to(dtype=torch.float64).to(dtype=torch.float32), state)


def test_a_moved_state_goes_on_with_a_moved_model() -> None:
    head = build("classifier of the mean", NETWORK)
    x = NETWORK.x(6, 3)
    _, state = head(x)
    wide = head.double()
    y, after = wide(x.double(), state.to(dtype=torch.float64))
    assert y.dtype == torch.float64
    assert after.rnn.cursor.tolist() == [12, 12, 12]


def test_a_state_names_its_model() -> None:
    state = network_state()
    assert state.batch_size == 3
    assert state.dilations == [2, 3]
    assert state.hidden_sizes == [4, 4]
    assert cell_named(state.cell).has_c
    assert list(state.tensors()) == ["h.0", "h.1", "c.0", "c.1", "fusion", "cursor", "mark"]
