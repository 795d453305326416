"""Models to export, and exported files as one thing to call."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple, Union

import pytest
import torch
from torch import Tensor

from streamdrnn import Classifier, DilatedRNN, SpeakerEmbedder, Tagger, load_model
from streamdrnn.apps.speaker_id.model import asset
from streamdrnn.audio import MFCC, LogMel, RawWaveform
from streamdrnn.baselines import LRU, DilatedCNN, MinGRU, SkipRNN
from streamdrnn.export import Format, export_model, export_paths
from streamdrnn.heads import Head
from tests.audio.signals import voice_like

Model = Union[DilatedRNN, Head]
State = dict[str, Tensor]
Call = Callable[[Tensor, State], tuple[Tensor, State]]

FORMATS: tuple[Format, ...] = ("torchscript", "onnx", "pt2")
ENDINGS = {"torchscript": "pt", "onnx": "onnx", "pt2": "pt2"}


def small_log_mel() -> LogMel:
    return LogMel(n_fft=64, win_length=50, hop_length=32, n_mels=6)


MODELS: dict[str, Callable[[], Model]] = {
    "network": lambda: DilatedRNN(3, [4, 5, 3], dilations=[1, 4, 2], bias=False, batch_first=True),
    "language model": lambda: Tagger(DilatedRNN(5, 6, dilations=[2, 3, 1], cell="lstm"), 5),
    "classifier": lambda: Classifier(DilatedRNN(1, 6, dilations=[1, 2, 16], cell="rnn"), 3),
    "speaker": lambda: SpeakerEmbedder(DilatedRNN(6, 5, dilations=[1, 2]), 4, small_log_mel()),
    "classifier of the mean": lambda: Classifier(DilatedRNN(3, 4, dilations=[3, 1]), 3, pool="mean"),
    "mfcc": lambda: Tagger(
        DilatedRNN(12, 4, dilations=[1, 2], cell="lstm"),
        2,
        MFCC(n_fft=64, win_length=64, hop_length=20, n_mels=8, n_mfcc=4, deltas=2),
    ),
    "raw": lambda: Classifier(DilatedRNN(4, 4, dilations=[2, 1], cell="rnn"), 2, "mean", RawWaveform(4)),
    "float64": lambda: SpeakerEmbedder(DilatedRNN(6, 5, dilations=[2, 2]), 4, small_log_mel()).double(),
    "skip": lambda: Tagger(SkipRNN(3, 4, skips=[2, 1], cell="lstm"), 2),
    "cnn": lambda: Classifier(DilatedCNN(6, 4, dilations=[1, 3], gated=True), 3, "mean", small_log_mel()),
    "min-gru": lambda: Tagger(MinGRU(3, 4, 2), 2),
    "lru": lambda: Tagger(LRU(3, 4, 2), 2),
    "shipped": lambda: load_model(asset("speaker.safetensors")).float(),
}
TRACED = ("skip", "cnn", "min-gru", "lru")
"""Those that TorchScript does not compile."""
QUICK: dict[Format, Collection[str]] = {
    "torchscript": MODELS,
    "onnx": ("language model", "cnn"),
    "pt2": ("language model", "speaker", "skip", "min-gru", "lru"),
}
"""Those that are always exported to a format, every kind of network to one: torch traces some for ten seconds.
``make check-full`` exports all."""

CASES = [
    pytest.param((format, name), id=f"{format}-{name}", marks=[] if name in QUICK[format] else pytest.mark.full)
    for format in FORMATS
    for name in MODELS
    if format != "torchscript" or name not in TRACED
]


def build(name: str) -> Model:
    """One of the models; it standardises its features, as trained ones do."""
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    if isinstance(model, Head) and model.frontend is not None and name != "shipped":
        voice = voice_like(16000)[:, None].to(model.feature_mean.dtype)
        features = model.frontend(voice)[0].flatten(0, 1)
        model.feature_mean.copy_(features.mean(0))
        model.feature_std.copy_(features.std(0))
    return model


def skip_without_packages(format: Format) -> None:
    """Skip the test if a format needs packages that are not here."""
    for package in ("onnx", "onnxscript", "onnxruntime") if format == "onnx" else ():
        pytest.importorskip(package, reason=f"{package} is not installed: pip install '.[export]'")


class Files(NamedTuple):
    """What was exported of a model.

    Attributes:
        model: the model itself.
        format: of the files.
        paths: the files by entry point; one that has both is under "".
        description: of the model.
    """

    model: Model
    format: Format
    paths: dict[str, Path]
    description: dict[str, Any]


Export = Callable[[Format, str], Files]


def export(format: Format, name: str, folder: Path) -> Files:
    """Export a model into a folder."""
    skip_without_packages(format)
    model, out = build(name), folder / f"model.{ENDINGS[format]}"
    return Files(model, format, export_paths(out, format), export_model(model, out, format))


class Program(NamedTuple):
    """What was exported, loaded: two functions from x and a state to y and the next state."""

    step: Call
    chunk: Call


def load(files: Files) -> Program:
    """The program in the files."""
    if files.format == "torchscript":
        module: Any = torch.jit.load(files.paths[""])
        return Program(module.step, module.chunk)
    if files.format == "pt2":
        return Program(*(torch.export.load(files.paths[point]).module() for point in ("step", "chunk")))
    return Program(*(onnx_call(files.paths[point]) for point in ("step", "chunk")))


def onnx_call(file: Path) -> Call:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install '.[export]'")
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def call(x: Tensor, state: State) -> tuple[Tensor, State]:
        given = {"x": x.numpy(), **{name: tensor.numpy() for name, tensor in state.items()}}
        y, *after = (torch.from_numpy(array) for array in session.run(None, given))
        names = [output.name.removeprefix("next.") for output in session.get_outputs()[1:]]
        return y, dict(zip(names, after, strict=True))

    return call


def initial_state(description: dict[str, Any], batch_size: int) -> State:
    """The state before the first step, from nothing but the description in a file."""
    return {
        name: torch.full(
            [batch_size if size == "batch" else size for size in described["shape"]],
            described["initial"],
            dtype=getattr(torch, described["dtype"]),
        )
        for name, described in description["state"].items()
    }


def inputs(model: Model, steps: int, batch_size: int, seed: int = 0) -> Tensor:
    """``(T, B, I)``; for a front-end ``(T, B, hop_length)`` samples."""
    dtype = next(model.parameters()).dtype
    frontend = model.frontend if isinstance(model, Head) else None
    if frontend is None:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(steps, batch_size, model.input_size, generator=generator, dtype=dtype)
    samples = [voice_like(steps * frontend.hop_length, seed + 10 * stream) for stream in range(batch_size)]
    return torch.stack(samples, -1).view(steps, -1, batch_size).transpose(1, 2).to(dtype)
