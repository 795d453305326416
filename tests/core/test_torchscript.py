"""Every model compiles with TorchScript, and computes there what it computes here."""

import io
import warnings
from typing import Any, Tuple

import pytest
import torch
from torch import Tensor, nn

from streamdrnn import DilatedRNN, DRNNState, ModelState
from streamdrnn.heads import Head
from tests.agreement import assert_all_close, assert_close
from tests.properties.models import KINDS, build, build_head
from tests.strategies import CELLS, Network

pytestmark = pytest.mark.filterwarnings(r"ignore:`torch.jit.\w+` is deprecated:DeprecationWarning")

HEADS = [kind for kind in KINDS if kind != "network"]
NETWORKS = [
    *(Network(dilations=(2, 3), cell=cell) for cell in CELLS),
    *(Network(dilations=(1, 2, 4), hidden_size=(4, 5, 3), cell=cell, bias=False) for cell in CELLS),
    Network(dilations=(3, 1), cell="lstm", fuse=False, dtype=torch.float32),
    Network(dilations=(1,), cell="gru", fuse=True, bias=False, dtype=torch.float32),
    Network(dilations=(2, 2), cell="lstm", dtype=torch.bfloat16),
]
every_network = pytest.mark.parametrize(
    "network", NETWORKS, ids=lambda n: f"{n.cell} {n.dilations} bias={n.bias} fuse={n.fuse} {n.dtype}"
)


def tensors(value: Any) -> list[Tensor]:
    """All tensors of a result, also of the named tuples that TorchScript makes of ours."""
    if isinstance(value, Tensor):
        return [value]
    return [t for item in value for t in tensors(item)] if isinstance(value, tuple | list) else []


def run(model: Any, x: Tensor) -> list[Tensor]:
    """Everything that a model does: chunks, with and without state and lengths, and single steps with a mask."""
    T, B = x.shape[0], x.shape[1]
    y0, state = model(x)
    y1, state = model(x[:3], state)
    y2, state = model(x[:0], state)
    y3, state = model(x, state, torch.arange(B) % (T + 1))
    y4, state = model.step(x[0], state)
    y5, state = model.step(x[1], state, torch.arange(B) % 2 == 0)
    zero = model.zero_state(B)
    y6, last = model(x, zero)
    return tensors((y0, y1, y2, y3, y4, y5, y6, state, zero, last))


def assert_scripted_equals_eager(scripted: Any, eager: Any, x: Tensor) -> None:
    """Three times: the first two calls profile, the third runs what was optimised for them."""
    for _ in range(3):
        got, want = run(scripted, x), run(eager, x)
        if x.dtype == torch.bfloat16:
            assert all(torch.allclose(g, w, atol=1e-2) for g, w in zip(got, want, strict=True))
        else:
            assert_all_close(got, want)


@every_network
def test_a_scripted_network_equals_the_eager_one(network: Network) -> None:
    model = network.build().eval()
    assert_scripted_equals_eager(torch.jit.script(model), model, network.x(7, 3))


@pytest.mark.parametrize("kind", HEADS)
def test_a_scripted_head_equals_the_eager_one(kind: str) -> None:
    network = Network(dilations=(2, 3), cell="lstm")
    head = build(kind, network).eval()
    assert_scripted_equals_eager(torch.jit.script(head), head, network.x(7, 3))


def test_a_scripted_batch_first_network_equals_the_eager_one() -> None:
    network = Network(dilations=(2, 3))
    model = network.build(batch_first=True)
    x = network.x(7, 3).transpose(0, 1)
    assert_all_close(tensors(torch.jit.script(model)(x)), tensors(model(x)))


@pytest.mark.parametrize("kind", KINDS)
def test_scripting_warns_of_nothing_but_torchs_deprecation(kind: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.jit.script(build(kind, Network(dilations=(2, 3))))
    assert [str(w.message) for w in caught if "`torch.jit.script` is deprecated" not in str(w.message)] == []


def gradients(model: Any, leaves: list[Tensor], x: Tensor, before: Any) -> list[Tensor]:
    y, state = model(x, before)
    y_t, state = model.step(x[0], state)
    loss = y.cos().sum() + y_t.sin().sum()
    for i, tensor in enumerate(tensors(state)):
        if tensor.is_floating_point():
            loss = loss + (i + 1) * tensor.square().sum()
    return list(torch.autograd.grad(loss, leaves))


@pytest.mark.parametrize("dilations", [(1, 3), (2, 3)], ids=["plain", "fused"])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_of_a_scripted_network_equal_the_eager_ones(cell: str, dilations: tuple[int, ...]) -> None:
    network = Network(dilations=dilations, cell=cell)
    model = network.build()
    scripted = torch.jit.script(model)
    x = network.x(7, 2).requires_grad_()
    _, before = model(network.x(3, 2, seed=5))
    before = before.detach()
    rings = [t.requires_grad_() for t in before.tensors().values() if t.is_floating_point() and t.numel()]
    leaves = [x, *model.parameters(), *rings]
    want = gradients(model, leaves, x, before)
    for _ in range(3):
        assert_all_close(gradients(scripted, leaves, x, before), want, "gradient")


@pytest.mark.parametrize("kind", HEADS)
def test_gradients_of_a_scripted_head_equal_the_eager_ones(kind: str) -> None:
    network = Network(dilations=(1, 2), cell="gru")
    head = build(kind, network)
    scripted = torch.jit.script(head)
    x = network.x(7, 2)
    leaves = list(head.parameters())
    want = torch.autograd.grad(head(x)[0].cos().sum(), leaves)
    for _ in range(3):
        assert_all_close(torch.autograd.grad(scripted(x)[0].cos().sum(), leaves), want, "gradient")


def saved_and_loaded(scripted: Any) -> Any:
    file = io.BytesIO()
    torch.jit.save(scripted, file)
    file.seek(0)
    return torch.jit.load(file)


@every_network
def test_a_saved_script_computes_the_same_without_our_code(network: Network) -> None:
    model = network.build().eval()
    assert_scripted_equals_eager(saved_and_loaded(torch.jit.script(model)), model, network.x(7, 3))


@pytest.mark.parametrize("kind", HEADS)
def test_a_saved_head_computes_the_same_without_our_code(kind: str) -> None:
    network = Network(dilations=(2, 3), cell="lstm")
    head = build(kind, network).eval()
    assert_scripted_equals_eager(saved_and_loaded(torch.jit.script(head)), head, network.x(7, 3))


def test_a_script_names_its_parameters_as_the_network_does() -> None:
    model = Network(dilations=(2, 3)).build()
    scripted = torch.jit.script(model)
    for again in (scripted, saved_and_loaded(scripted)):
        assert list(again.state_dict()) == list(model.state_dict())


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("kind", ["network", "classifier of the mean"])
def test_a_script_follows_its_parameters(kind: str, loaded: bool) -> None:
    """Through ``load_state_dict``, an optimiser's step, and a change of dtype."""
    network = Network(dilations=(2, 3), cell="lstm")
    model, other = build(kind, network), build(kind, Network(dilations=(2, 3), cell="lstm", seed=1))
    scripted: Any = torch.jit.script(model)
    if loaded:
        scripted = saved_and_loaded(scripted)
    x = network.x(7, 2)
    assert_close(scripted(x)[0], model(x)[0])
    scripted.load_state_dict(other.state_dict())
    assert_close(scripted(x)[0], other(x)[0])
    for trained in (scripted, other):
        optimiser = torch.optim.SGD(trained.parameters(), lr=0.1)
        trained(x)[0].square().sum().backward()
        optimiser.step()
    assert_close(scripted(x)[0], other(x)[0])
    assert_close(scripted.float()(x.float())[0], other.float()(x.float())[0])


def test_an_eager_network_still_follows_its_parameters_once_scripted() -> None:
    network = Network(dilations=(2, 3))
    model = network.build()
    torch.jit.script(model)
    other = Network(dilations=(2, 3), seed=1).build()
    model.load_state_dict({name: value.clone() for name, value in other.state_dict().items()}, assign=True)
    x = network.x(7, 2)
    assert_close(model(x)[0], other(x)[0])
    assert_close(torch.jit.script(model)(x)[0], other(x)[0])


class Smoother(nn.Module):
    """Somebody's own module around a network."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.rnns = nn.ModuleList([network.build()])
        self.rnn = network.build()
        self.output = nn.Linear(4, 2, dtype=network.dtype)

    def forward(self, x: Tensor, state: DRNNState) -> Tuple[Tensor, DRNNState]:
        for rnn in self.rnns:
            x = x + rnn(x)[0][..., :3]
        y, state = self.rnn(x, state)
        y_t, state = self.rnn.step(x[0], state)
        return self.output(torch.cat([y, y_t[None]])), state


@pytest.mark.parametrize("cell", CELLS)
def test_a_users_module_with_a_network_inside_scripts(cell: str) -> None:
    network = Network(dilations=(2, 3), cell=cell)
    torch.manual_seed(0)
    module = Smoother(network)
    scripted: Any = torch.jit.script(module)
    x, before = network.x(5, 2), module.rnn.zero_state(2)
    want = tensors(module(x, before))
    for compiled in (scripted, saved_and_loaded(scripted)):
        for _ in range(3):
            assert_all_close(tensors(compiled(x, before)), want)


class Listener(nn.Module):
    """Somebody's own module around a head."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor, state: ModelState) -> Tuple[Tensor, ModelState]:
        y, state = self.head(x, state)
        return y.softmax(-1), state


def test_a_users_module_with_a_head_inside_scripts() -> None:
    network = Network(dilations=(2, 3))
    module = Listener(build_head("classifier of the last", network))
    x, before = network.x(5, 2), module.head.zero_state(2)
    scripted: Any = torch.jit.script(module)
    assert_all_close(tensors(scripted(x, before)), tensors(module(x, before)))


def test_a_scripted_step_does_not_write_the_given_state() -> None:
    network = Network(dilations=(2, 3), cell="lstm")
    model = network.build()
    _, state = model(network.x(4, 2))
    state = state.detach()
    before = state.clone()
    torch.jit.script(model).step(network.x(1, 2)[0], state)
    assert_all_close(tensors(tuple(state)), tensors(tuple(before)))


def test_a_scripted_network_drops_out_in_training_only() -> None:
    network = Network(dilations=(1, 2), hidden_size=20)
    model: DilatedRNN = network.build(dropout=0.5)
    scripted = torch.jit.script(model)
    x = network.x(7, 2)
    torch.manual_seed(3)
    want = model.train()(x)[0]
    torch.manual_seed(3)
    assert_close(scripted.train()(x)[0], want)
    assert_close(scripted.eval()(x)[0], model.eval()(x)[0])
