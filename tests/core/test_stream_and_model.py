"""A live stream and the model that it was made of: whatever happens to the one is seen, or refused, by the other."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from streamdrnn import Classifier, DilatedRNN, StreamingDRNN
from streamdrnn.network import NETWORKS, register_network
from tests.kernels.cases import NATIVE
from tests.strategies import Network

NETWORK = Network(dilations=(1, 2), dtype=torch.float32)
X = NETWORK.x(4, 1)

every_backend = pytest.mark.parametrize("backend", ["torch", NATIVE])


def other_weights(model: DilatedRNN) -> dict[str, Tensor]:
    return {name: weight.detach() / 2 for name, weight in model.state_dict().items()}


@every_backend
@pytest.mark.parametrize("assign", [True, False])
def test_steps_go_on_with_loaded_weights(backend: str, assign: bool) -> None:
    model = NETWORK.build(backend)
    live = StreamingDRNN(model)
    live.step(X[0])
    model.load_state_dict(other_weights(model), assign=assign)
    live.reset()
    assert torch.equal(live.step(X[0]), StreamingDRNN(copy.deepcopy(model)).step(X[0]))


@every_backend
def test_a_replaced_forward_and_global_hooks_are_called_by_steps_too(backend: str) -> None:
    model = NETWORK.build(backend)
    live = StreamingDRNN(model)
    own = model.forward

    def doubled(x: Tensor, *more: Any) -> Any:
        y, state = own(x, *more)
        return 2 * y, state

    want = live.step(X[0])
    live.reset()
    setattr(model, "forward", doubled)  # noqa: B010 (a method)
    assert torch.equal(live.step(X[0]), 2 * want)
    del model.forward
    live.reset()
    called = []
    handle = nn.modules.module.register_module_forward_hook(lambda *_: called.append(1))
    try:
        assert torch.equal(live.step(X[0]), want)
    finally:
        handle.remove()
    assert called


@pytest.mark.parametrize("times", [1, 2])
def test_weights_that_do_not_fit_are_refused_each_time(times: int) -> None:
    model = NETWORK.build("cpu")
    live = StreamingDRNN(model)
    model.weight_hh_l0.data = torch.zeros(2, 2)
    for _ in range(times):
        with pytest.raises(ValueError, match="expected shape"):
            live.push(X)
    assert live.cursor.tolist() == [0]


def test_another_dtype_is_refused() -> None:
    model = NETWORK.build("auto")
    live = StreamingDRNN(model)
    model.double()
    with pytest.raises(ValueError, match=r"^model: its dtype is torch.float64 now.*make a new stream$"):
        live.push(X.double())


def test_a_stream_leaves_training_as_it_is() -> None:
    """Of a model with dropout, and has none of it itself."""
    model = Classifier(NETWORK.build("cpu", dropout=0.5), 3)
    live, want = StreamingDRNN(model), StreamingDRNN(copy.deepcopy(model)).push(X)
    model.train()
    seen = []
    read_out = model.read_out

    def looks(*arguments: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(model.rnn.training)
        return read_out(*arguments)

    setattr(model, "read_out", looks)  # noqa: B010 (a method)
    assert torch.equal(live.push(X), want)
    assert seen == [True]


@every_backend
def test_streams_are_made_restored_and_reset_in_any_mode(backend: str) -> None:
    model = NETWORK.build(backend)
    with torch.inference_mode():
        live = StreamingDRNN(model)
        live.restore(live.snapshot())
        live.step(X[0])
    live.reset()
    live.step(X[0])
    with torch.inference_mode():
        live.restore(live.snapshot())
    live.reset(0)
    assert torch.equal(live.push(X), StreamingDRNN(model).push(X))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_what_has_no_memory_of_its_own_is_refused() -> None:
    live = StreamingDRNN(NETWORK.build("cpu"))
    message = "a live stream cannot be traced or transformed"
    with pytest.raises(ValueError, match=message):
        live.step(FakeTensorMode().from_tensor(X[0]))
    with pytest.raises(ValueError, match=message):
        make_fx(lambda x: live.step(x))(X[0])
    with pytest.raises(ValueError, match=message):
        torch.jit.trace(lambda x: live.step(x), X[0], check_trace=False)
    assert live.cursor.tolist() == [0]


@every_backend
def test_an_output_of_inference_mode_is_written_there(backend: str) -> None:
    live, want = StreamingDRNN(NETWORK.build(backend)), StreamingDRNN(NETWORK.build(backend)).step(X[0])
    with torch.inference_mode():
        out = torch.empty(1, 4)
        assert live.step(X[0], out=out) is out
        assert torch.equal(out, want)
        live.step(X[0], torch.tensor([True]), out=out)
    before = live.cursor
    with pytest.raises(ValueError, match=r"^out: a tensor that was made in inference mode"):
        live.step(X[0], torch.tensor([True]), out=out)
    assert torch.equal(live.cursor, before)


def test_autograd_sees_that_an_output_was_overwritten() -> None:
    live, out = StreamingDRNN(NETWORK.build("cpu")), torch.ones(1, 4)
    weight = torch.ones(1, 4, requires_grad=True)
    loss = (weight * out).sum()
    live.step(X[0], out=out)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_network_without_forward_is_not_registered() -> None:
    class Silent(nn.Module):
        zero_state = chunk = step = config = lambda self: None

    with pytest.raises(TypeError, match=r"^Silent: expected a method forward"):
        register_network(Silent)
    assert "Silent" not in NETWORKS
