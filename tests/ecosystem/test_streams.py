"""Live streams beside everything else a program does with the model: training it, threads, autograd."""

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from streamdrnn import Classifier, DilatedRNN, ModelState, StreamingDRNN, Tagger
from streamdrnn.kernels import BACKENDS
from tests.agreement import assert_close

X = torch.randn(8, 2, 3, generator=torch.Generator().manual_seed(1))
MODELS = ["network", "head"]


def model_of(kind: str, seed: int = 0, **options: Any) -> Any:
    torch.manual_seed(seed)
    rnn = DilatedRNN(3, 4, 2, **options)
    return rnn if kind == "network" else Tagger(rnn, 2)


def by_load_state_dict(model: nn.Module, other: nn.Module) -> None:
    model.load_state_dict(other.state_dict())


def by_assigning(model: nn.Module, other: nn.Module) -> None:
    model.load_state_dict(copy.deepcopy(other.state_dict()), assign=True)


def by_an_optimizer(model: nn.Module, other: nn.Module) -> None:
    model(X)[0].square().sum().backward()
    torch.optim.Adam(model.parameters(), 0.1).step()


def by_averaging(model: nn.Module, other: nn.Module) -> None:
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    average.module = model
    average.update_parameters(other)
    average.update_parameters(other)


def by_hand(model: nn.Module, other: nn.Module) -> None:
    with torch.no_grad():
        for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
            mine.copy_(theirs)


def by_a_parametrization(model: nn.Module, other: nn.Module) -> None:
    class Doubled(nn.Module):
        def forward(self, w: Tensor) -> Tensor:
            return 2 * w

    parametrize.register_parametrization(getattr(model, "rnn", model), "weight_ih_l0", Doubled())


@pytest.mark.parametrize(
    "change", [by_load_state_dict, by_assigning, by_an_optimizer, by_averaging, by_hand, by_a_parametrization]
)
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("how", ["push", "step"])
def test_a_live_stream_computes_with_the_weights_as_they_are(change: Any, kind: str, how: str) -> None:
    """It goes on from the state it has, as the model itself does."""
    model, other = model_of(kind), model_of(kind, 1)
    stream = StreamingDRNN(model, 2)
    stream.push(X[:3])
    _, state = model(X[:3])
    change(model, other)
    if how == "step" and kind == "network":  # a step looks at one weight in turn, see StreamingDRNN
        stream.push(X[:0])
    got = stream.push(X[3:]) if how == "push" else torch.stack([stream.step(x_t) for x_t in X[3:]])
    assert_close(got, model(X[3:], state)[0].detach())


def test_a_step_notices_within_as_many_steps_as_there_are_weights() -> None:
    model = model_of("network")
    stream, count = StreamingDRNN(model, 2), len(list(model.parameters()))
    with torch.no_grad():
        model.bias_hh_l1.add_(1)
    for t in range(count):
        stream.step(X[t % 8])
    snapshot = stream.snapshot()
    assert_close(stream.step(X[0]), model.step(X[0], snapshot)[0].detach())


def test_dropout_never_reaches_a_live_stream() -> None:
    model = Classifier(DilatedRNN(3, 4, 2, dropout=0.5), 2)
    stream = StreamingDRNN(model, 2)
    want = model(X)[0].detach()
    model.train()
    assert torch.equal(stream.push(X), want)
    assert model.training
    assert model.rnn.training


@pytest.mark.parametrize("kind", MODELS)
def test_eight_threads_push_to_streams_of_their_own(kind: str) -> None:
    model, x = model_of(kind), torch.randn(60, 8, 3)
    stream, want = StreamingDRNN(model, 8), model(x)[0].detach()

    def live(number: int) -> Tensor:
        own = x[:, number : number + 1]
        return torch.cat([stream.push(own[t : t + 5], streams=number) for t in range(0, 60, 5)])

    with ThreadPoolExecutor(8) as pool:
        got = torch.cat(list(pool.map(live, range(8))), 1)
    assert_close(got, want)
    assert stream.cursor.tolist() == [60] * 8


def test_threads_may_step_push_snapshot_and_reset_at_once() -> None:
    stream = StreamingDRNN(model_of("network"), 8)
    calls = [
        lambda: stream.step(torch.zeros(8, 3)),
        lambda: stream.push(torch.zeros(3, 8, 3)),
        lambda: stream.snapshot().check(),
        lambda: stream.restore(stream.snapshot()),
        lambda: stream.reset(3),
    ]
    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(calls[i % 5]) for i in range(200)]:
            future.result()
    assert stream.step(torch.zeros(8, 3)).isfinite().all()


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
@pytest.mark.parametrize("kind", MODELS)
def test_outputs_of_streams_are_usable_in_autograd(kind: str, mode: Any) -> None:
    model = model_of(kind)
    with mode():
        stream = StreamingDRNN(model, 2)
    y = [stream.step(X[0]), stream.push(X), stream.push(X, active=torch.tensor([True, False]))[0]]
    layer = nn.Linear(model(X)[0].shape[-1], 1)
    for out in y:
        assert not out.is_inference()
        layer(out).sum().backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize("kind", MODELS)
def test_a_stream_also_runs_in_inference_mode_and_on_inference_tensors(kind: str) -> None:
    with torch.inference_mode():
        model = model_of(kind)
        x = X.clone()
        stream = StreamingDRNN(model, 2)
        a = torch.cat([stream.push(x[:4]), stream.step(x[4])[None]])
    assert_close(a, model_of(kind)(X[:5])[0].detach())
    b = stream.push(x[5:])
    assert_close(b.clone(), model_of(kind)(X)[0][5:].detach())


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(
    ("out", "message"),
    [
        (torch.zeros(3, 9), "out: expected shape"),
        (torch.zeros(2, 4, dtype=torch.float64), "out: expected"),
        (torch.zeros(2, 4, device="meta"), "out: expected"),
        (torch.zeros(2, 4, requires_grad=True), "out: expected"),
        (torch.zeros(1, 1).expand(2, 4), "out: expected memory of its own"),
    ],
)
def test_a_refused_out_leaves_the_stream_where_it_was(kind: str, out: Tensor, message: str) -> None:
    model = model_of(kind)
    if isinstance(model, Tagger):
        model.output = nn.Linear(4, 4)
    stream = StreamingDRNN(model, 2)
    stream.push(X)
    before = stream.snapshot()
    with pytest.raises((TypeError, ValueError), match=message):
        stream.step(X[0], out=out)
    assert all(
        torch.equal(a, b) for a, b in zip(before.tensors().values(), stream.state.tensors().values(), strict=True)
    )


@pytest.mark.parametrize("backend", ["torch", "cpu"])
@pytest.mark.parametrize("kind", MODELS)
def test_streams_run_under_autocast(kind: str, backend: str) -> None:
    model = model_of(kind, backend=backend)
    with torch.autocast("cpu", torch.bfloat16):
        want = model(X.bfloat16())[0]
        stream = StreamingDRNN(model, 2)
        got = torch.cat([stream.push(X[:4].bfloat16()), torch.stack([stream.step(x_t) for x_t in X[4:].bfloat16()])])
    assert torch.allclose(got.float(), want.float(), atol=0.02)
    assert stream.state.tensors()["h.0" if kind == "network" else "rnn.h.0"].dtype == torch.float32


def test_every_backend_streams_what_it_computes() -> None:
    for backend in BACKENDS:
        if backend != "triton" or not BACKENDS[backend].why_not():
            model = model_of("network", backend=backend)
            assert_close(StreamingDRNN(model, 2).push(X[:3]), model(X[:3])[0].detach())


def test_a_state_is_tensors_all_the_way_down() -> None:
    """So that what walks through outputs (accelerate, captum, DataParallel, pytree) finds nothing else."""
    leaves = torch.utils._pytree.tree_leaves(model_of("head", cell="lstm")(X)[1])
    assert all(leaf is None or isinstance(leaf, Tensor) for leaf in leaves)
    moved = torch.utils._pytree.tree_map(lambda t: t if t is None else t.clone(), model_of("head")(X)[1])
    assert isinstance(moved, ModelState)
    assert model_of("head")(X, moved)[0].shape == (8, 2, 2)
