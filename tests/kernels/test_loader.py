"""The native loader of model files: it makes of a file what ``load_model`` makes of it, and refuses what that refuses.

The program is ``native/describe.cpp``; it runs under the sanitizers.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from streamdrnn import Classifier, DilatedRNN, SpeakerEmbedder, Tagger, load_model, save_model
from streamdrnn.audio import MFCC, LogMel, RawWaveform
from streamdrnn.heads import Head
from tests.compiling import LIBRARY, OPTIMIZED, SANITIZERS, SOURCES, built, call, needs_compiler
from tests.core.test_checkpoint import HOSTILE, HOSTILE_NETWORKS
from tests.properties.models import KINDS, build
from tests.strategies import CELLS, Network

pytestmark = needs_compiler

NETWORK = Network(hidden_size=(4, 5), dilations=(2, 3), cell="lstm", dtype=torch.float32)
FRONTS = [
    RawWaveform(3, 8000),
    LogMel(n_fft=64, win_length=50, hop_length=20, n_mels=8, fmin=1e-05, fmax=6855.497663850143),
    LogMel(sample_rate=11025, n_fft=512, n_mels=10, fmin=1.1),
    MFCC(n_mels=16, n_mfcc=5, deltas=2),
]
BAD_MODEL = 3  # in streamdrnn.h
Fact = tuple[str, list[float]]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    main = Path(__file__).parent / "native" / "describe.cpp"
    sources = [SOURCES / "loader.cpp", SOURCES / "json.cpp"]
    flags = [OPTIMIZED, *LIBRARY, *SANITIZERS]
    return built(main, tmp_path_factory.mktemp("describe"), flags, sources)


def output_of(program: Path, *files: Path) -> list[list[str]]:
    """The program's lines for each file."""
    lines = call(program, *files).stdout.splitlines()
    ends = [i for i, line in enumerate(lines) if line == "end"]
    assert len(ends) == len(files)
    return [lines[start:end] for start, end in zip([0, *[end + 1 for end in ends]], ends, strict=False)]


def described(lines: list[str]) -> list[Fact]:
    return [(name, [float(value) for value in values]) for name, *values in map(str.split, lines)]


def facts(model: Any) -> Iterator[Fact]:
    """What the program should print for a model."""
    head = model if isinstance(model, Head) else None
    rnn = model if head is None else head.rnn
    front = None if head is None else head.frontend
    config = {} if front is None else front.config()
    yield "frontend", [[type(None), RawWaveform, LogMel, MFCC].index(type(front))]
    for fact, attribute in {
        "features": "num_features",
        "sample_rate": "sample_rate",
        "window": "window",
        "win_length": "win_length",
        "hop_length": "hop_length",
    }.items():
        yield fact, [getattr(front, attribute, 0)]
    for name in ("n_mels", "n_mfcc", "deltas", "fmin", "fmax"):
        yield name, [config.get(name, 0)]
    yield "cell", [["rnn", "gru", "lstm"].index(rnn.cell)]
    yield "layers", [rnn.num_layers]
    yield "taps", [rnn.dilations[0] if rnn.fuse else 0]
    weights = model.float().state_dict()
    output = "projection" if isinstance(head, SpeakerEmbedder) else "output"
    yield "head", [[type(None), Classifier, Tagger, SpeakerEmbedder].index(type(head))]
    yield "pools_mean", [getattr(head, "pool", "") == "mean"]
    yield "outputs", [0 if head is None else weights[f"{output}.weight"].shape[0]]

    def tensor(fact: str, name: str) -> list[Fact]:
        return [(fact, weights[name].flatten().tolist())] if name in weights else []

    prefix = "" if head is None else "rnn."
    below = rnn.input_size
    for layer, (size, d) in enumerate(zip(rnn.hidden_sizes, rnn.dilations, strict=True)):
        yield "layer", [below, size, d]
        for kind in ("weight", "bias"):
            for part in ("ih", "hh"):
                yield from tensor(f"{kind[0]}_{part}", f"{prefix}{kind}_{part}_l{layer}")
        below = size
    for name in ("fusion_weight", "fusion_bias"):
        yield from tensor(name, prefix + name)
    for name in ("feature_mean", "feature_std"):
        yield from tensor(name, name)
    for kind in ("weight", "bias"):
        yield from tensor(f"head_{kind}", f"{output}.{kind}")


def test_every_number_of_every_model_arrives(program: Path, tmp_path: Path) -> None:
    dtypes = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
    models: list[Any] = [
        build(kind, Network(hidden_size=(4, 5), dilations=(2, 3), cell=cell, bias=bias, dtype=dtype))
        for kind, cell, bias, dtype in product(KINDS, CELLS, (True, False), dtypes)
    ]
    models += [SpeakerEmbedder(DilatedRNN(front.num_features, 4, dilations=[1, 1]), 3, front) for front in FRONTS]
    models.append(DilatedRNN(2, 3, dilations=[1, 1], fuse=True, batch_first=True, dropout=0.25))
    files = [tmp_path / f"{i}" for i in range(len(models))]
    for model, file in zip(models, files, strict=True):
        save_model(model, file)
    for model, lines in zip(models, output_of(program, *files), strict=True):
        assert described(lines) == list(facts(model))


def test_halves_of_all_kinds_arrive(program: Path, tmp_path: Path) -> None:
    """Every float16 there is: subnormal ones, both zeros and infinities."""
    model = DilatedRNN(2**16 - 1, 1, dilations=[1], cell="rnn", bias=False, dtype=torch.float16)
    halves = torch.arange(2**16).to(torch.int16).view(torch.float16)
    finite = halves[~halves.isnan()]
    with torch.no_grad():
        model.weight_ih_l0.zero_()
        model.weight_ih_l0[0, : len(finite)] = finite
    save_model(model, tmp_path / "model")
    (lines,) = output_of(program, tmp_path / "model")
    loaded = dict(described(lines))["w_ih"][: len(finite)]
    assert torch.equal(torch.tensor(loaded), finite.float())
    assert [str(value) for value in loaded] == [str(value) for value in finite.tolist()]  # the zeros' signs


def file_of(header: object, tensors: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + tensors


class Parts:
    """A model's file in parts, to be changed: its header, the configuration in it, and the bytes of its tensors."""

    def __init__(self, model: Any, folder: Path) -> None:
        save_model(model, folder / "good")
        content = (folder / "good").read_bytes()
        end = 8 + int.from_bytes(content[:8], "little")
        self.header = json.loads(content[8:end])
        self.config = json.loads(self.header["__metadata__"]["config"])
        self.tensors = content[end:]

    def with_config(self, config: object) -> bytes:
        text = config if isinstance(config, str) else json.dumps(config)
        return self.with_metadata(config=text)

    def with_metadata(self, **changes: object) -> bytes:
        return self.with_header(__metadata__=self.header["__metadata__"] | changes)

    def with_header(self, **changes: object) -> bytes:
        """None stands for what is left out."""
        kept = {name: value for name, value in (self.header | changes).items() if value is not None}
        return file_of(kept, self.tensors)


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return Parts(build("classifier of the mean", NETWORK), tmp_path)


Reasons = Callable[[Iterable[bytes]], list[str]]


@pytest.fixture
def reasons(program: Path, tmp_path: Path) -> Reasons:
    """The reasons for which the program refuses files, all of which ``load_model`` refuses too."""

    def refused(contents: Iterable[bytes]) -> list[str]:
        files: list[Path] = []
        for content in contents:
            files.append(tmp_path / f"{len(files)}")
            files[-1].write_bytes(content)
            with pytest.raises(ValueError, match=f"^{files[-1]}: "):
                load_model(files[-1])
        outputs = output_of(program, *files)
        assert [len(lines) for lines in outputs] == [1] * len(files)
        start = f"error {BAD_MODEL} "
        assert [line for (line,) in outputs if not line.startswith(start) or not line.isascii()] == []
        return [line.removeprefix(start) for (line,) in outputs]

    return refused


def test_the_changed_parts_are_a_model_when_nothing_is_changed(program: Path, parts: Parts, tmp_path: Path) -> None:
    (tmp_path / "again").write_bytes(parts.with_config(parts.config))
    (lines,) = output_of(program, tmp_path / "again")
    assert described(lines) == list(facts(build("classifier of the mean", NETWORK)))


def test_a_file_that_is_cut_anywhere_is_refused(parts: Parts, reasons: Reasons) -> None:
    whole = parts.with_header()
    reasons(whole[:size] for size in range(0, len(whole), 7))


def test_hostile_configurations_are_refused(parts: Parts, reasons: Reasons) -> None:
    config = parts.config
    reasons(parts.with_config(config | change) for change in HOSTILE)
    reasons(parts.with_config(config | {"rnn": config["rnn"] | change}) for change in HOSTILE_NETWORKS)


def test_a_reason_names_what_is_wrong_in_the_configuration(parts: Parts, reasons: Reasons) -> None:
    config, rnn = parts.config, parts.config["rnn"]
    mel, raw = {"kind": "LogMel", "n_mels": 3}, {"kind": "RawWaveform"}
    changes: dict[str, dict[str, Any]] = {
        "model: kind: got Head, expected one of DilatedRNN, Classifier, Tagger, SpeakerEmbedder": {"kind": "Head"},
        "model: num_classes: got 0, expected an integer from 1 to 2147483647": {"num_classes": 0},
        "model: pool: got max, expected one of last, mean": {"pool": "max"},
        "output.weight: expected shape (4, 5), got (3, 5)": {"num_classes": 4},
        "DilatedRNN: cell: got another kind of value, expected one of rnn, gru, lstm": {"rnn": rnn | {"cell": None}},
        "DilatedRNN: bias: expected true or false": {"rnn": rnn | {"bias": 1}},
        "DilatedRNN: dilations: got 0, expected an integer from 1 to 67108864": {"rnn": rnn | {"dilations": [2, 0]}},
        "DilatedRNN: hidden_size: expected a list": {"rnn": rnn | {"hidden_size": 4}},
        "DilatedRNN: hidden_size is missing": {"rnn": {"input_size": 3, "dilations": [2, 3]}},
        "hidden_size, dilations: expected one of each for every layer": {"rnn": rnn | {"hidden_size": [4]}},
        "expected at most 67108864 numbers in the state of a stream": {"rnn": rnn | {"dilations": [2, 2**25]}},
        "rnn.weight_ih_l0: expected shape (16, 4), got (16, 3)": {"rnn": rnn | {"input_size": 4}},
        "rnn.weight_ih_l0: expected shape (4, 3), got (16, 3)": {"rnn": rnn | {"cell": "rnn"}},
        "rnn.fusion_weight: expected shape (5, 5, 3), got (5, 5, 2)": {"rnn": rnn | {"dilations": [3, 3]}},
        "rnn.fusion_bias: the model has no such weight": {"rnn": rnn | {"fuse": False}},
        "batch_first: heads are time first, expected false": {"rnn": rnn | {"batch_first": True}},
        "dropout: expected a probability from 0 to below 1": {"rnn": rnn | {"dropout": 2.5}},
        "a?new line??: no part of the file of a model": {"a\nnew line\u00e4": 1},
        "front-end: kind is missing": {"frontend": {}},
        "front-end: n_fft: got 65537, expected an integer from 2 to 65536": {"frontend": mel | {"n_fft": 65537}},
        "front-end: win_length: got 513, expected an integer from 1 to 512": {"frontend": mel | {"win_length": 513}},
        "front-end: n_mels: got 257, expected an integer from 1 to 256": {
            "frontend": {"kind": "LogMel", "n_fft": 65536, "n_mels": 257}
        },
        "fmin, fmax: expected 0 <= fmin < fmax <= half of sample_rate": {"frontend": mel | {"fmax": 8000.5}},
        "input_size: got 3, expected the front-end's 4 features": {"frontend": raw | {"frame_length": 4}},
    }
    assert reasons(parts.with_config(config | change) for change in changes.values()) == list(changes)


def test_a_reason_names_what_is_wrong_in_the_file(parts: Parts, reasons: Reasons) -> None:
    config, bias = json.dumps(parts.config), parts.header["output.bias"]
    begin, end = bias["data_offsets"]

    def with_bias(**changes: object) -> bytes:
        return parts.with_header(**{"output.bias": bias | changes})

    offsets = f"output.bias: data_offsets: got {{}}, expected an integer from {{}} to {len(parts.tensors)}"
    contents = {
        "damaged or not a safetensors file": b"",
        "damaged or not a safetensors file of ours (a header of more than 1 MiB)": file_of(b" " * (2**20 + 1), b""),
        "the header: damaged JSON": file_of(b"{", b""),
        "the header: expected a JSON object": file_of([], b""),
        "not a model file of streamdrnn": parts.with_metadata(format="streamdrnn-state"),
        "of another version; this library reads version 1": parts.with_metadata(version="2"),
        "__metadata__: expected a JSON object": parts.with_header(__metadata__=[]),
        "config: is missing": parts.with_metadata(config=None),
        "config: expected a JSON object": parts.with_config("3"),
        "config: damaged JSON": parts.with_config(config + "x"),
        "output.bias: dtype: got I32, expected one of F16, BF16, F32, F64": with_bias(dtype="I32"),
        "the weights are of different dtypes": with_bias(dtype="F16"),
        "output.bias: shape: got 0, expected an integer from 1 to 9223372036854775807": with_bias(shape=[3, 0]),
        "output.bias: expected at most 3 dimensions": with_bias(shape=[1, 1, 1, 3]),
        "output.bias: is too large": with_bias(shape=[2**62, 2**62]),
        "output.bias: is not as long as its shape asks for": with_bias(shape=[4]),
        "output.bias: expected two data_offsets": with_bias(data_offsets=[begin]),
        offsets.format(-1, 0): with_bias(data_offsets=[-1, end]),
        offsets.format(begin - 1, begin): with_bias(data_offsets=[begin, begin - 1]),
        offsets.format(10**6, begin): with_bias(data_offsets=[begin, 10**6]),
        "damaged: tensors overlap, or there are gaps between them": with_bias(data_offsets=[begin + 4, end + 4]),
        "damaged: the tensors are not as long as the file": file_of(parts.header, parts.tensors + b"0000"),
    }
    assert reasons(contents.values()) == list(contents)


def test_what_is_no_json_is_refused(parts: Parts, reasons: Reasons) -> None:
    config = json.dumps(parts.config)
    wrong = r'nul 01 1. - .5 1e NaN [1,] {,} {"a"1} {1:1} "\x" "\u12" "\udc00" "\ud800" "\ud800\u0041"'
    values = [*wrong.split(), '"\n"', "[" * 100_000 + "]" * 100_000]
    assert set(reasons(parts.with_config(f'{config[:-1]}, "a": {value}}}') for value in values)) == {
        "config: damaged JSON"
    }
