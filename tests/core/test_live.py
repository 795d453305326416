"""Which models run on the native runtime, and that nobody notices when one no longer can."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from streamdrnn import Classifier, DilatedRNN, SpeakerEmbedder, StreamingDRNN, Tagger, checkpoint, live
from streamdrnn.audio import LogMel, RawWaveform
from streamdrnn.baselines import DilatedCNN
from streamdrnn.kernels.cpu import library
from streamdrnn.live import LiveModel
from tests.kernels.cases import needs_native

pytestmark = needs_native


def listener(**options: Any) -> Any:
    torch.manual_seed(0)
    frontend = LogMel(n_fft=64, win_length=64, hop_length=32, n_mels=8, fmin=100)
    return Tagger(DilatedRNN(8, [6, 5], dilations=[1, 3], **options), 3, frontend)


def is_native(stream: StreamingDRNN) -> bool:
    return isinstance(stream._live, LiveModel)


def agrees(stream: StreamingDRNN, x: Tensor) -> bool:
    """Whether a stream that begins anew says what its model does."""
    stream.reset()
    with torch.no_grad():
        want = stream.model(x)[0]
    got = stream.push(x)
    return got.shape == want.shape and bool((got - want).norm() <= 1e-6 * want.norm())


class OwnHead(Tagger):
    def read_out(self, y: Tensor, pooled: Tensor, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        out, pooled = super().read_out(y, pooled, before, after)
        return 2 * out, pooled


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def test_the_packages_own_models_are_native() -> None:
    rnn = DilatedRNN(8, 6, num_layers=2)
    for model in (
        listener(),
        listener(cell="lstm"),
        listener(backend="cpu"),
        Classifier(rnn, 3, "last"),
        Classifier(rnn, 3, "mean", RawWaveform(8)),
        SpeakerEmbedder(rnn, 4),
    ):
        assert is_native(StreamingDRNN(model))


def test_others_are_computed_by_their_parts() -> None:
    replaced = listener()
    replaced.output = nn.Sequential(nn.Linear(5, 3))
    other_constants = listener()
    other_constants.frontend.hann.fill_(1)
    models = [
        listener(backend="torch"),
        listener().double(),
        listener().bfloat16(),
        OwnHead(DilatedRNN(8, 5, num_layers=1), 3),
        Tagger(DilatedCNN(8, 5, num_layers=2), 3),
        replaced,
        other_constants,
    ]
    for model in models:
        assert not is_native(StreamingDRNN(model))
    for stream in (StreamingDRNN(replaced), StreamingDRNN(other_constants)):
        assert agrees(stream, torch.randn(500, 1))


@pytest.mark.parametrize(
    "change", ["weight", "head", "standardisation", "replaced", "constants", "hook", "head hook", "forward", "read_out"]
)
def test_a_change_of_the_model_is_seen_by_the_next_call(change: str) -> None:
    model, x = listener(), torch.randn(300, 1)
    stream = StreamingDRNN(model)
    before = stream.push(x)
    with torch.no_grad():
        if change == "weight":
            model.rnn.weight_ih_l1.mul_(1.5)
        if change == "head":
            model.output.bias.add_(1)
        if change == "standardisation":
            model.feature_mean.add_(30)
        if change == "replaced":
            model.output = nn.Linear(5, 3)
        if change == "constants":
            model.frontend.mel.mul_(2)
        if change == "hook":
            model.rnn.register_forward_hook(lambda module, args, result: (2 * result[0], result[1]))
        if change == "head hook":
            model.register_forward_hook(lambda module, args, result: (2 * result[0], result[1]))
        if change == "read_out":
            read_out = model.read_out
            model.read_out = lambda y, pooled, before, after: read_out(2 * y, pooled, before, after)
        if change == "forward":
            own = model.output.forward
            model.output.forward = lambda x: own(x) + 1
    assert agrees(stream, x)
    stream.reset()
    assert not torch.equal(stream.push(x), before)
    assert is_native(stream) == (change in ("weight", "head", "standardisation", "replaced"))


def test_a_weight_that_is_written_while_the_weights_are_copied_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """As another thread may do."""
    model, x, copied = listener(), torch.randn(300, 1), checkpoint.model_content

    def copied_then_written(copying: nn.Module) -> bytes:
        content = copied(copying)
        with torch.no_grad():
            model.output.weight.mul_(3)
        return content

    monkeypatch.setattr(live, "model_content", copied_then_written)
    stream = StreamingDRNN(model)
    monkeypatch.undo()
    assert agrees(stream, x)


def test_a_deviation_of_zero_leaves_no_nan_behind() -> None:
    model = Tagger(DilatedRNN(4, 6, num_layers=2), 3, RawWaveform(4))
    model.feature_std[1] = 0
    stream = StreamingDRNN(model)
    assert not is_native(stream)
    with pytest.raises(ValueError, match="expected finite values"):
        stream.push(torch.zeros(40, 1))
    with torch.no_grad():
        model.feature_std.fill_(1)
    assert agrees(stream, torch.randn(400, 1))
    assert is_native(stream)


def test_a_transform_of_a_live_stream_is_refused_in_words() -> None:
    stream = StreamingDRNN(listener(), 2)
    with pytest.raises(ValueError, match="a live stream cannot be traced or transformed"):
        torch.func.vmap(stream.push)(torch.randn(3, 100, 2))


def test_the_state_survives_a_change() -> None:
    """The streams go on from where they are, on the runtime or by parts."""
    model, x = listener(), torch.randn(900, 2)
    want = StreamingDRNN(model, 2).push(x)
    stream = StreamingDRNN(model, 2)
    parts = [stream.push(x[:333])]
    hook = model.rnn.register_forward_hook(lambda module, args, result: None)
    parts.append(stream.push(x[333:600]))
    assert not is_native(stream)
    hook.remove()
    parts.append(stream.push(x[600:]))
    assert is_native(stream)
    assert float((torch.cat(parts) - want).norm() / want.norm()) < 1e-5


def test_parametrized_and_pruned_weights_are_computed_by_torch() -> None:
    parametrized, pruned = listener(), listener()
    parametrize.register_parametrization(parametrized.output, "weight", Doubled())
    prune.l1_unstructured(pruned.output, "weight", 0.5)
    for model in (parametrized, pruned):
        stream = StreamingDRNN(model)
        assert not is_native(stream)
        assert agrees(stream, torch.randn(300, 1))


def test_under_autocast_a_stream_is_its_models() -> None:
    model, x = listener(), torch.randn(300, 1)
    stream = StreamingDRNN(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = stream.push(x)
        assert not is_native(stream)
        assert y.dtype == model(x)[0].dtype
    assert stream.push(x).dtype == torch.float32
    assert is_native(stream)


def test_without_the_library_torch_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(300, 1)
    want = StreamingDRNN(listener()).push(x)
    monkeypatch.setattr(library, "_found", "there is none")
    with pytest.warns(RuntimeWarning, match="native CPU kernels cannot be used"):
        stream = StreamingDRNN(listener())
    assert not is_native(stream)
    got = stream.push(x)
    assert float((got - want).norm() / want.norm()) < 1e-5


def test_a_step_before_the_first_frame_says_what_is_known_so_far() -> None:
    models: list[Any] = [listener(), SpeakerEmbedder(DilatedRNN(8, 6, num_layers=1), 4, RawWaveform(8))]
    for model in models:
        stream = StreamingDRNN(model, 2)
        first = torch.randn(2, model.frontend.hop_length - 1)
        y = stream.push(first.T)
        assert y.shape[0] == 0
        want = model.output_so_far(model.zero_state(2))
        assert torch.equal(stream._live.output_so_far(), want)


def test_bad_input_leaves_every_stream_as_it_was() -> None:
    stream = StreamingDRNN(listener(), 2)
    stream.push(torch.randn(100, 2))
    before = stream.snapshot()
    bad = torch.zeros(50, 2)
    bad[49, 1] = torch.inf
    with pytest.raises(ValueError, match="chunk: expected finite values"):
        stream.push(bad)
    with pytest.raises(ValueError, match="chunk: expected finite values"):
        stream.push(bad, lengths=torch.tensor([10, 50]))
    with pytest.raises(ValueError, match=r"chunk: expected shape \(N, B\)"):
        stream.push(torch.zeros(50, 3))
    with pytest.raises(TypeError, match="chunk"):
        stream.push(torch.zeros(50, 2, dtype=torch.int64))
    for name, tensor in stream.state.tensors().items():
        assert torch.equal(tensor, before.tensors()[name])
    stream.push(bad, lengths=torch.tensor([50, 49]))


def test_samples_of_other_dtypes_and_layouts() -> None:
    stream, other = StreamingDRNN(listener(), 2), StreamingDRNN(listener(), 2)
    x = torch.randn(2, 200)
    want = other.push(x.T.contiguous())
    assert torch.equal(stream.push(x.T), want)
    stream.reset()
    assert torch.equal(stream.push(x.T.double()), want)
    stream.reset()
    assert torch.equal(stream.push(torch._neg_view(-x.T)), want)


def test_samples_of_any_size_leave_no_nan_behind() -> None:
    """Their power may be beyond float32, and their standardised value too."""
    loud = torch.full((200, 1), 3e38)
    models: list[Any] = [listener(), Tagger(DilatedRNN(4, 6, num_layers=2), 3, RawWaveform(4))]
    for model in models:
        model.feature_std.fill_(1e-3)
        stream = StreamingDRNN(model)
        assert stream.push(loud).isfinite().all()
        assert all(tensor.isfinite().all() for tensor in stream.state.tensors().values())
