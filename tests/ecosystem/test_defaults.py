"""Torch's default dtype and device, changed by somebody else, change what is made and never what is computed."""

import ast
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from streamdrnn import Classifier, DilatedRNN, SpeakerEmbedder, StreamingDRNN, Tagger, load_model, save_model
from streamdrnn.audio import MFCC, LogMel, RawWaveform
from streamdrnn.baselines import DilatedCNN, SkipRNN, stacked_rnn

ROOT = Path(__file__).parents[2]
DEFAULTS: list[Any] = [torch.float64, torch.bfloat16, torch.float16, "meta"]
MODELS: dict[str, Callable[[], Any]] = {
    "network": lambda: DilatedRNN(3, 4, dilations=[2, 1], cell="lstm"),
    "torch": lambda: DilatedRNN(3, 4, 2, backend="torch"),
    "reference": lambda: DilatedRNN(3, 4, 2, backend="reference"),
    "stacked": lambda: stacked_rnn(3, 4, 2),
    "skip": lambda: SkipRNN(3, 4, 2),
    "cnn": lambda: DilatedCNN(3, 4, 2),
    "tagger": lambda: Tagger(DilatedRNN(3, 4, 2), 2),
    "classifier": lambda: Classifier(DilatedRNN(3, 4, 2), 2, pool="mean"),
    "raw": lambda: Tagger(DilatedRNN(4, 4, 2), 2, RawWaveform(4)),
    "log-mel": lambda: SpeakerEmbedder(DilatedRNN(40, 4, 2), 3, LogMel()),
    "mfcc": lambda: Classifier(DilatedRNN(60, 4, 2), 3, frontend=MFCC(deltas=2)),
}


@contextmanager
def default(value: Any) -> Iterator[None]:
    """A default dtype or device."""
    dtype = torch.get_default_dtype()
    try:
        torch.set_default_device(value) if isinstance(value, str) else torch.set_default_dtype(value)
        yield
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(dtype)


def everything(model: Any, x: Tensor) -> list[Tensor]:
    """What a model computes: in batch, with its gradients, and live."""
    y, state = model(x)
    gradients = torch.autograd.grad(y.square().sum(), list(model.parameters()))
    stream = StreamingDRNN(model, 2)
    lengths = torch.tensor([len(x) // 2, len(x)], device="cpu")
    live = [stream.push(x), stream.push(x, lengths=lengths), stream.push(x[:, :1], streams=1)]
    if x.dim() == 3:
        live += [stream.step(x[0]), stream.step(x[0], active=torch.tensor([True, False], device="cpu"))]
    stream.restore(stream.snapshot())
    stream.reset(0)
    return [y.detach(), *gradients, *state.tensors().values(), *live, *stream.state.tensors().values()]


@pytest.mark.parametrize("value", DEFAULTS, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_computes_the_same_bits_under_any_default(name: str, value: Any) -> None:
    torch.manual_seed(0)
    model = MODELS[name]()
    samples = getattr(model, "frontend", None) is not None
    x = torch.randn(1200, 2) if samples else torch.randn(6, 2, 3)
    want = everything(model, x)
    with default(value):
        got = everything(model, x)
    for g, w in zip(got, want, strict=True):
        assert (g.dtype, g.device) == (w.dtype, w.device)
        assert torch.equal(g, w)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_is_made_under_a_default_dtype_is_of_that_dtype(name: str, dtype: torch.dtype) -> None:
    with default(dtype):
        model = MODELS[name]()
        samples = getattr(model, "frontend", None) is not None
        x = torch.randn(1200, 2, dtype=torch.float32) if samples else torch.randn(6, 2, 3)
        y, state = model(x)
        live = StreamingDRNN(model, 2).push(x)
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert y.dtype == live.dtype == dtype
    assert torch.allclose(live.double(), y.detach().double(), atol=8 * torch.finfo(dtype).eps)
    rings = {t.dtype for t in getattr(state, "rnn", state).tensors().values() if t.is_floating_point()}
    assert rings == {torch.float64 if dtype == torch.float64 else torch.float32}


@pytest.mark.parametrize("value", DEFAULTS, ids=str)
def test_a_file_loads_as_it_was_saved_under_any_default(value: Any, tmp_path: Path) -> None:
    model, x = MODELS["mfcc"](), torch.randn(1200, 2)
    save_model(model, tmp_path / "model.safetensors")
    with default(value):
        loaded = load_model(tmp_path / "model.safetensors")
        assert torch.equal(loaded(x)[0], model(x)[0])


MAKERS = {"empty", "zeros", "ones", "full", "rand", "randn", "tensor", "eye", "linspace", "normal", "scalar_tensor"}
OF_GIVEN_NUMBERS = {"arange", "randint", "randperm", "as_tensor"}
FOLDERS = ["streamdrnn", *(f"streamdrnn/{name}" for name in ("audio", "baselines", "export", "memory"))]
FOLDERS += ["kernels", "kernels/cpu", "kernels/pytorch"]
LAUNCHERS = [f"kernels/gpu/{name}.py" for name in ("network", "scan", "stack", "stream")]  # the others are Triton's


def unnamed(source: str) -> list[str]:
    """Every call of torch that makes memory without naming its device or, of floating point numbers, its dtype."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        name = node.func.attr
        if not (isinstance(node.func.value, ast.Name) and node.func.value.id == "torch"):
            continue
        given = {keyword.arg for keyword in node.keywords}  # None is **options, which name both
        wanted = {"device", "dtype"} if name in MAKERS else {"device"} if name in OF_GIVEN_NUMBERS else set[str]()
        if None not in given and not wanted <= given:
            found.append(f"{node.lineno}: torch.{name} without {', '.join(sorted(wanted - given))}")
    return found


def test_memory_is_made_with_its_device_and_dtype() -> None:
    files = sorted(
        [*(path for folder in FOLDERS for path in (ROOT / folder).glob("*.py")), *map(ROOT.joinpath, LAUNCHERS)]
    )
    assert len(files) > 50
    assert [f"{file.relative_to(ROOT)}:{line}" for file in files for line in unnamed(file.read_text("utf-8"))] == []


def test_the_check_of_memory_sees_what_it_is_for() -> None:
    assert unnamed("torch.zeros(3)") == ["1: torch.zeros without device, dtype"]
    assert unnamed("torch.full((3,), 1.0, dtype=x.dtype)") == ["1: torch.full without device"]
    assert unnamed("torch.arange(3)\ntorch.zeros(3, **options)\nx.new_zeros(3)") == ["1: torch.arange without device"]
