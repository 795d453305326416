"""What people do with any ``nn.Module``: copy, save, tie, prune, reparametrise, hook, quantise."""

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from streamdrnn import Classifier, DilatedRNN, DRNNState, SpeakerEmbedder, StreamingDRNN, Tagger, load_model, save_model
from streamdrnn.audio import LogMel
from tests.agreement import assert_close

QUANTISED = [
    "ignore:.*(quantize_per_tensor|torch.ao.quantization).*",
    "ignore:.*TypedStorage is deprecated",
]


def tagger(seed: int = 0, **options: Any) -> Tagger:
    torch.manual_seed(seed)
    return Tagger(DilatedRNN(3, 4, 2, **options), 2)


X = torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(1))


def streamed(model: nn.Module) -> Tensor:
    """A model's output in a live stream, in two chunks and then steps."""
    stream = StreamingDRNN(model, 2)  # type: ignore[arg-type]
    return torch.cat([stream.push(X[:3]), stream.push(X[3:5]), stream.step(X[5])[None]])


COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
}


def by_torch_save(model: Any) -> Any:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES["torch.save"] = by_torch_save


@pytest.mark.parametrize("how", COPIES)
def test_copies_compute_the_same_and_are_their_own(how: str) -> None:
    for model in (DilatedRNN(3, 4, 2), tagger(), SpeakerEmbedder(DilatedRNN(40, 4, 2), 3, LogMel())):
        other = COPIES[how](model)
        x = torch.randn(2000, 2) if isinstance(model, SpeakerEmbedder) else X
        assert torch.equal(other(x)[0], model(x)[0])
        with torch.no_grad():
            next(other.parameters()).add_(1)
        assert not torch.equal(other(x)[0], model(x)[0])


@pytest.mark.parametrize("how", COPIES)
def test_copies_of_streams_and_states_go_on_from_the_same_place(how: str) -> None:
    stream = StreamingDRNN(tagger(), 2)
    stream.push(X[:3])
    other = COPIES[how](stream)
    assert torch.equal(stream.push(X[3:]), other.push(X[3:]))
    state = COPIES[how](stream.snapshot())
    assert isinstance(state.rnn, DRNNState)
    other.restore(state)
    assert torch.equal(stream.push(X), other.push(X))


def test_a_tied_output_is_saved_and_loaded(tmp_path: Path) -> None:
    """Ties are lost in a file, as everywhere with safetensors; the numbers are not."""
    model = Tagger(DilatedRNN(4, 4, dilations=[1], cell="rnn"), 4)
    model.output.weight = model.rnn.weight_hh_l0
    save_model(model, tmp_path / "model.safetensors")
    x = torch.randn(5, 2, 4)
    assert torch.equal(load_model(tmp_path / "model.safetensors")(x)[0], model(x)[0])
    assert len(list(model.parameters())) == 5


def test_shared_layers_have_one_gradient_and_one_stream() -> None:
    model = DilatedRNN(4, 4, dilations=[1, 2], cell="rnn")
    model.weight_hh_l1 = model.weight_hh_l0
    x = torch.randn(5, 2, 4)
    model(x)[0].sum().backward()
    assert model.weight_hh_l0.grad is not None
    assert torch.equal(StreamingDRNN(model, 2).push(x), model(x)[0].detach())


def test_a_model_is_made_without_memory_and_filled() -> None:
    with torch.device("meta"):
        model = Classifier(DilatedRNN(3, 4, 2), 5)
    assert all(p.is_meta for p in model.parameters())
    y, state = model(X.to("meta"))
    assert y.shape == (6, 2, 5)
    assert y.is_meta
    assert state.rnn.cursor.is_meta
    filled = model.to_empty(device="cpu")
    want = Classifier(DilatedRNN(3, 4, 2), 5)
    filled.load_state_dict(want.state_dict())
    assert torch.equal(filled(X)[0], want(X)[0])
    with torch.device("meta"):
        model = Classifier(DilatedRNN(3, 4, 2), 5)
    model.load_state_dict(want.state_dict(), assign=True)
    assert torch.equal(model(X)[0], want(X)[0])


@pytest.mark.parametrize("name", ["rnn", "output"])
def test_hooks_on_parts_see_and_change_their_outputs(name: str) -> None:
    model, seen = tagger(), list[str]()

    def doubled(module: nn.Module, inputs: Any, output: Any) -> Any:
        seen.append(type(module).__name__)
        return (output[0] * 2, output[1]) if isinstance(output, tuple) else output * 2

    plain = model(X)[0]
    handle = getattr(model, name).register_forward_hook(doubled)
    changed = model(X)[0]
    assert len(seen) == 1
    assert not torch.equal(changed, plain)
    assert_close(streamed(model), changed.detach())
    handle.remove()
    assert torch.equal(streamed(model), plain.detach())


def test_hooks_set_under_a_live_stream_are_in_its_next_step() -> None:
    model = tagger()
    stream = StreamingDRNN(model, 2)
    first = stream.push(X[:3])
    model.register_forward_hook(lambda module, inputs, output: (output[0] + 1, output[1]))
    assert_close(stream.push(X[3:]), model(X)[0][3:].detach())
    assert torch.equal(first, tagger()(X)[0][:3].detach())


def test_backward_hooks_fire() -> None:
    model, seen = tagger(), list[tuple[int, ...]]()
    for part in (model.output, model.rnn):
        part.register_full_backward_hook(lambda module, dx, dy: seen.append(tuple(dy[0].shape)))  # type: ignore[index]
    model(X.clone().requires_grad_())[0].sum().backward()
    assert seen == [(6, 2, 2), (6, 2, 4)]


def test_an_overridden_forward_is_what_streams_compute() -> None:
    class Scaled(DilatedRNN):
        def forward(self, x: Any, state: Any = None, lengths: Any = None) -> Any:
            y, state = super().forward(x, state, lengths)
            return 3 * y, state

    torch.manual_seed(0)
    model = Scaled(3, 4, 2)
    assert_close(streamed(model), model(X)[0].detach())
    torch.manual_seed(0)
    assert_close(model(X)[0], 3 * DilatedRNN(3, 4, 2)(X)[0])


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_the_old_weight_norm_trains_and_streams() -> None:
    model = DilatedRNN(3, 4, 2)
    nn.utils.weight_norm(model, "weight_hh_l0")
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    before = model(X)[0].detach()
    stream = StreamingDRNN(model, 2)
    assert_close(stream.push(X), before)
    model(X)[0].sum().backward()
    optimizer.step()
    after = model(X)[0].detach()
    assert not torch.equal(before, after)
    stream.reset()
    assert_close(stream.push(X), after)


@pytest.mark.parametrize("how", ["weight_norm", "spectral_norm", "own"])
def test_parametrizations_train_and_stream(how: str) -> None:
    class Doubled(nn.Module):
        def forward(self, w: Tensor) -> Tensor:
            return 2 * w

    model = DilatedRNN(3, 4, 2)
    plain = model(X)[0].detach()
    if how == "own":
        parametrize.register_parametrization(model, "weight_hh_l1", Doubled())
        assert not torch.equal(model(X)[0], plain)
    else:
        getattr(parametrizations, how)(model, "weight_hh_l1")
    model(X)[0].sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    torch.optim.SGD(model.parameters(), 0.1).step()
    stream = StreamingDRNN(model.eval(), 2)
    assert_close(stream.push(X), model(X)[0].detach())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    stream.reset()
    assert_close(stream.push(X), model(X)[0].detach())


@pytest.mark.parametrize("part", ["rnn", "output"])
def test_pruned_weights_stay_zero_and_train_on(part: str) -> None:
    model = tagger()
    name = {"rnn": "weight_hh_l0"}.get(part, "weight")
    prune.l1_unstructured(getattr(model, part), name, amount=0.5)
    for _ in range(2):  # a second backward pass needs a graph of its own
        model(X)[0].square().sum().backward()
    torch.optim.SGD(model.parameters(), 0.1).step()
    y = model(X)[0].detach()
    weight = getattr(getattr(model, part), name)
    assert (weight == 0).sum() == weight.numel() // 2
    assert_close(streamed(model), y)
    prune.remove(getattr(model, part), name)
    assert_close(model(X)[0], y)


def test_an_output_of_several_layers_is_called_as_it_is() -> None:
    model: Any = tagger()
    model.output = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    y = model(X)[0]
    assert_close(y, model.output(model.rnn(X)[0]))
    assert_close(streamed(model), y.detach())


@pytest.mark.filterwarnings(*QUANTISED)
def test_a_dynamically_quantised_output_computes() -> None:
    model = tagger().eval()
    y = model(X)[0].detach()
    quantised: Any = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    assert type(quantised.output) is not nn.Linear
    error = (quantised(X)[0] - y).abs().max()
    assert 0 < error < 0.02
    assert (streamed(quantised) - y).abs().max() < 0.02  # a chunk is quantised by its own range


def test_one_device_and_dtype_at_a_time_is_asked_for_in_one_line() -> None:
    model = tagger()
    model.output.to("meta")
    with pytest.raises((RuntimeError, ValueError), match="meta"):
        model(X)
    with pytest.raises(TypeError, match=r"x: expected the parameters' dtype torch.float32, got torch.float64"):
        tagger()(X.double())


def test_weights_of_another_shape_are_refused_in_one_line() -> None:
    rnn = DilatedRNN(3, 4, 1)
    rnn.weight_hh_l0 = nn.Parameter(torch.randn(3, 4))
    with pytest.raises(ValueError, match=r"w_hh: expected shape \(12, 4\), got \(3, 4\)"):
        rnn(X)


def test_weights_of_two_dtypes_are_refused_in_one_line() -> None:
    model = DilatedRNN(3, 4, 1)
    model.bias_ih_l0 = nn.Parameter(torch.zeros(12, dtype=torch.float64))
    with pytest.raises(TypeError, match=r"b_ih: expected dtype torch.float32, got torch.float64"):
        model(X)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_model_in_another_dtype_computes_in_batch_and_streams(dtype: torch.dtype) -> None:
    model, want = tagger().to(dtype), tagger()(X)[0]
    y, state = model(X.to(dtype))
    assert y.dtype == dtype
    assert state.rnn.h[0].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert (y.float() - want).abs().max() < 8 * torch.finfo(dtype).eps + 1e-6
    stream = StreamingDRNN(model, 2)
    assert torch.allclose(stream.push(X.to(dtype)).float(), y.float(), atol=4 * torch.finfo(dtype).eps)


def test_a_head_has_the_dtype_and_device_of_its_network() -> None:
    model = Classifier(DilatedRNN(3, 4, 2, dtype=torch.float64), 5)
    assert {t.dtype for t in model.state_dict().values()} == {torch.float64}
    assert model(X.double())[0].dtype == torch.float64
    assert all(t.is_meta for t in Tagger(DilatedRNN(3, 4, 2, device="meta"), 5).state_dict().values())
