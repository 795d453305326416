"""Models as files: what is loaded is what was saved, and what is hostile is refused at once."""

import json
import os
import pickle
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from streamdrnn import Classifier, DilatedRNN, SpeakerEmbedder, Tagger, load_model, model_notes, save_model
from streamdrnn.audio import MFCC, FrontEnd, LogMel, RawWaveform
from streamdrnn.baselines import DilatedCNN, SkipRNN
from streamdrnn.heads import Head
from tests.core.test_state_files import Trap
from tests.properties.models import KINDS, build
from tests.strategies import Network, randn

NETWORK = Network(hidden_size=(4, 5), dilations=(2, 3), cell="lstm", dtype=torch.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def parts(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def rewrite(path: Path, config: Any = None, **metadata: str) -> None:
    """Save a good classifier with another configuration, or other metadata."""
    save_model(build("classifier of the mean", NETWORK), path)
    change_file(path, config, **metadata)


def change_file(path: Path, config: Any = None, **metadata: str) -> None:
    good, tensors = parts(path)
    changed = {} if config is None else {"config": config if isinstance(config, str) else json.dumps(config)}
    save_file(tensors, path, metadata=good | changed | metadata)


def good_config(path: Path) -> dict[str, Any]:
    save_model(build("classifier of the mean", NETWORK), path)
    config: dict[str, Any] = json.loads(parts(path)[0]["config"])
    return config


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_comes_back_with_the_same_answers(kind: str, dtype: torch.dtype, path: Path) -> None:
    network = Network(hidden_size=(4, 5), dilations=(2, 3), cell="lstm", dtype=dtype)
    model = build(kind, network, backend="auto").train()
    save_model(model, path)
    again = load_model(path)
    assert type(again) is type(model)
    assert again.config() == model.config()
    assert not again.training
    assert all(p.requires_grad for p in again.parameters())
    assert os.listdir(path.parent) == [path.name]
    x = network.x(6, 2)
    assert torch.equal(again(x)[0], model.eval()(x)[0])
    again(x)[0].float().square().sum().backward()
    torch.optim.SGD(again.parameters(), lr=0.1).step()


@pytest.mark.parametrize(
    "network",
    [
        Network(cell="rnn", bias=False, dtype=torch.float32),
        Network(dilations=(3, 1), fuse=False, dtype=torch.float32),
        Network(dilations=(1, 1), fuse=True, dtype=torch.float32),
    ],
)
def test_every_option_comes_back(network: Network, path: Path) -> None:
    model = network.build(batch_first=True, dropout=0.25)
    save_model(model, path)
    assert load_model(path).config() == model.config()


@pytest.mark.parametrize(
    "front",
    [RawWaveform(3), LogMel(n_fft=64, win_length=50, hop_length=20, n_mels=8), MFCC(n_mels=16, n_mfcc=5, deltas=2)],
    ids=lambda front: type(front).__name__,
)
def test_a_model_comes_back_with_its_front_end(front: FrontEnd, path: Path) -> None:
    model = SpeakerEmbedder(DilatedRNN(front.num_features, 4, dilations=[2, 3]), 3, front)
    model.feature_mean.fill_(0.5)
    model.feature_std.fill_(2)
    save_model(model, path)
    again = load_model(path)
    assert isinstance(again, Head)
    assert again.config() == model.config()
    audio = randn(2000, 2, seed=1, dtype=torch.float32)
    assert torch.equal(again(audio)[0], model.eval()(audio)[0])


@pytest.mark.parametrize(
    "rnn",
    [SkipRNN(3, 4, skips=[3, 1], cell="lstm", bias=False), DilatedCNN(3, 4, 2, kernel_size=3, gated=True)],
    ids=lambda rnn: type(rnn).__name__,
)
def test_other_networks_come_back_alone_and_behind_heads(rnn: Any, path: Path) -> None:
    x = randn(9, 2, 3, seed=1, dtype=torch.float32)
    for model in (rnn, Tagger(rnn, 2), Classifier(rnn, 2, "mean"), SpeakerEmbedder(rnn, 3)):
        save_model(model, path)
        again = load_model(path)
        assert again.config() == model.config()
        assert torch.equal(again(x)[0], model.eval()(x)[0])


def test_a_file_that_says_no_kind_of_network_is_of_the_dilated_one(path: Path) -> None:
    """As releases wrote it that knew no other."""
    model, config = build("classifier of the mean", NETWORK), good_config(path)
    assert config["rnn"].pop("kind") == "DilatedRNN"
    rewrite(path, config)
    again = load_model(path)
    assert again.config() == model.config()
    assert_same_weights(again, model)


def test_tied_weights_are_saved(path: Path) -> None:
    model = Tagger(DilatedRNN(4, 4, dilations=[1, 2], cell="rnn"), 4)
    model.rnn.weight_hh_l1 = model.rnn.weight_hh_l0
    model.output.weight = model.rnn.weight_ih_l0
    save_model(model, path)
    x = randn(5, 2, 4, seed=0, dtype=torch.float32)
    assert torch.equal(load_model(path)(x)[0], model.eval()(x)[0])


def test_what_could_not_be_read_again_is_not_written(path: Path) -> None:
    class OwnRNN(DilatedRNN):
        pass

    odd = type("Tagger", (Tagger,), {})
    with pytest.raises(ValueError, match=r"kind: got 'OwnRNN', expected one of .*DilatedRNN"):
        save_model(Tagger(OwnRNN(3, 4, 1), 2), path)
    with pytest.raises(TypeError, match=r"model: another Tagger than tests\.core\.test_checkpoint\.Tagger"):
        save_model(odd(DilatedRNN(3, 4, 1), 2), path)
    with pytest.raises(ValueError, match="kind: got 'ParametrizedDilatedRNN'"):
        save_model(torch.nn.utils.parametrizations.weight_norm(DilatedRNN(3, 4, 1), "weight_hh_l0"), path)
    assert not path.exists()


def test_a_loaded_model_does_not_depend_on_its_file(path: Path) -> None:
    """A new model may be copied over the old one's file while the old one runs."""
    model = NETWORK.build("auto")
    save_model(model, path)
    one, two = load_model(path), load_model(path)
    with torch.no_grad():
        for p in one.parameters():
            p.zero_()
    path.write_bytes(b"gone")
    x = NETWORK.x(4, 2)
    assert torch.equal(two(x)[0], model.eval()(x)[0])


def test_notes_come_back(path: Path) -> None:
    notes = {"threshold": "0.61", "trained on": "seven voices, größer ✓", "empty": ""}
    save_model(NETWORK.build(), path, notes)
    assert model_notes(path) == notes
    save_model(NETWORK.build(), path)
    assert model_notes(path) == {}


@pytest.mark.parametrize("read", [load_model, model_notes])
def test_a_missing_file_is_named(read: Any, path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors: no such file"):
        read(path)


@pytest.mark.parametrize("kept", [0, 5, 8, 200, -1, -100])
@pytest.mark.parametrize("read", [load_model, model_notes])
def test_a_truncated_file_is_refused(kept: int, read: Any, path: Path) -> None:
    save_model(NETWORK.build(), path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"^\S+model\.safetensors: damaged or not a safetensors file"):
        read(path)


def test_a_pickle_is_refused_and_not_run(path: Path) -> None:
    trap = Trap(path.with_name("sprung"))
    for write in (lambda: torch.save(trap, path), lambda: path.write_bytes(pickle.dumps(trap))):
        write()
        with pytest.raises(ValueError, match="damaged or not a safetensors file"):
            load_model(path)
    assert not trap.sprung.exists()


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format": "streamdrnn-state"}, "not a streamdrnn-model file"),
        ({"version": "2"}, "version '2', this release reads 1"),
    ],
)
def test_another_format_or_version_is_refused(metadata: dict[str, str], message: str, path: Path) -> None:
    rewrite(path, **metadata)
    with pytest.raises(ValueError, match=message):
        load_model(path)


MEGA = 10**9

IN_LITTLE_TIME_AND_MEMORY = """
import resource, sys, streamdrnn
used = resource.getrusage(resource.RUSAGE_SELF)
resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 20,) * 2)
resource.setrlimit(resource.RLIMIT_DATA, (2**31, 2**31))
for path in sys.argv[1:]:
    try:
        streamdrnn.load_model(path)
    except ValueError as error:
        print(error)
"""


def test_a_configuration_with_endless_layers_is_refused_at_once(path: Path) -> None:
    """In one line; in a process of its own, as without it the machine's memory or hours would go."""
    config, paths = good_config(path), list[Path]()
    for name, change in {
        "20000 dilations": {"dilations": [1] * 20_000},
        "10000 layers": {"dilations": None, "num_layers": 10_000},
        "10^9 layers": {"dilations": None, "num_layers": MEGA},
    }.items():
        paths.append(path.with_name(f"{name}.safetensors"))
        rewrite(paths[-1], config | {"rnn": config["rnn"] | {"hidden_size": 4} | change})
    command = [sys.executable, "-c", IN_LITTLE_TIME_AND_MEMORY, *map(str, paths)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = result.stdout.splitlines()
    assert len(lines) == len(paths), result.stderr
    for line, refused in zip(lines, paths, strict=True):
        assert line.startswith(f"{refused}: the model's configuration does not fit: ")
        assert len(line) < 1000


def of_pieces(metadata: dict[str, str], tensors: dict[str, Any]) -> bytes:
    """A safetensors file as its bytes, right or wrong; all weights are zeros."""
    header = json.dumps({"__metadata__": metadata} | tensors).encode()
    return len(header).to_bytes(8, "little") + header


@pytest.mark.parametrize("what", ["long format", "long notes", "a list of lists", "endless tensors", "a false length"])
def test_a_header_of_many_megabytes_is_not_even_read(what: str, path: Path) -> None:
    rewrite(path)
    metadata, _ = parts(path)
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    layers = {"dilations": [1] * 200_000, "kind": "DilatedRNN", "input_size": 1, "hidden_size": 1}
    path.write_bytes(
        {
            "long format": lambda: of_pieces(metadata | {"format": "x" * 20_000_000}, {}),
            "long notes": lambda: of_pieces(metadata | {"notes": " " * 20_000_000}, {}),
            "a list of lists": lambda: of_pieces(metadata | {"config": f"[{'[],' * 10_000_000}1]"}, {}),
            "endless tensors": lambda: of_pieces(
                metadata | {"config": json.dumps(layers)}, {f"weight_ih_l{i}": empty for i in range(200_000)}
            ),
            "a false length": lambda: b"\xff" * 8 + b"{}",
        }[what]()
    )
    start = time.process_time()
    for read in (load_model, model_notes):
        with little_memory(), pytest.raises(ValueError, match=r"^\S+: damaged or not a .*header of more than 1 MiB\)$"):
            read(path)
    assert time.process_time() - start < 0.5


def test_as_many_tensors_as_a_header_may_have_take_little_memory(path: Path) -> None:
    rewrite(path)
    config = json.dumps({"kind": "DilatedRNN", "input_size": 1, "hidden_size": 1, "dilations": [1] * 15_000})
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    path.write_bytes(of_pieces(parts(path)[0] | {"config": config}, {f"{i}": empty for i in range(15_000)}))
    with little_memory(), pytest.raises(ValueError, match=r"^\S+model\.safetensors: the model's conf") as caught:
        load_model(path)
    assert len(str(caught.value)) < 1000


def test_notes_that_could_not_be_read_again_are_not_written(path: Path) -> None:
    with pytest.raises(ValueError, match="a header of more than 1 MiB"):
        save_model(NETWORK.build(), path, {"story": "x" * 2_000_000})
    assert not path.exists()


def test_names_that_collide_are_one_tensor_or_none(path: Path) -> None:
    """Whichever of them the file's reader takes, what is loaded is a whole model of sizes that fit."""
    model = build("classifier of the mean", NETWORK)
    save_model(model, path)
    content = path.read_bytes()
    for name in (b'"output.bias":{', b'"__metadata__":{'):
        assert content.count(name) == 1
        end = content.index(b"}", content.index(name)) + 1
        twice = content[8:end] + b"," + content[content.index(name) :]
        size = int.from_bytes(content[:8], "little") + len(twice) + 8 - len(content)
        path.write_bytes(size.to_bytes(8, "little") + twice)
        try:
            again = load_model(path)
        except ValueError as error:
            assert str(error).startswith(f"{path}: ")  # noqa: PT017 (either will do)
        else:
            assert_same_weights(again, model)


def assert_same_weights(one: torch.nn.Module, other: torch.nn.Module) -> None:
    torch.testing.assert_close(dict(one.state_dict()), dict(other.state_dict()), rtol=0, atol=0)


# Changes to the configuration of `good_config`, and of the network in it.
HOSTILE: list[dict[str, Any]] = [
    {"kind": "Recogniser"},
    {"kind": "Head"},
    {"kind": "os.system"},
    {"kind": None},
    {"kind": ["Tagger"]},
    {"kind": "Tagger"},
    {"kind": "SpeakerEmbedder"},
    {"kind": "DilatedRNN"},
    {"surprise": 1},
    {"num_classes": 4},
    {"num_classes": MEGA},
    {"num_classes": "3"},
    {"num_classes": -3},
    {"pool": "max"},
    {"frontend": {"kind": "Microphone"}},
    {"frontend": {"kind": "RawWaveform", "frame_length": 4}},
    {"frontend": {"kind": "RawWaveform", "frame_length": MEGA}},
    {"frontend": {"kind": "LogMel", "n_fft": MEGA, "win_length": MEGA, "n_mels": 3}},
    {"frontend": {"kind": "LogMel", "n_fft": 65536, "win_length": 1, "n_mels": 20_000}},
    {"frontend": {"kind": "LogMel", "fmax": 10**400}},
    {"frontend": {"kind": "LogMel", "sample_rate": 10**400}},
    {"frontend": {"kind": "LogMel", "fmin": float("nan")}},
    {"frontend": {"kind": "LogMel", "hop_length": float("inf")}},
    {"frontend": {"kind": "LogMel", "surprise": 1}},
    {"frontend": {}},
    {"frontend": 3},
    {"frontend": "LogMel"},
    {"rnn": None},
    {"rnn": 3},
    {"rnn": {}},
]
HOSTILE_NETWORKS: list[dict[str, Any]] = [
    {"hidden_size": [MEGA, MEGA]},
    {"hidden_size": MEGA},
    {"hidden_size": 10**30},
    {"hidden_size": [4]},
    {"hidden_size": 5},
    {"hidden_size": 2.5},
    {"hidden_size": float("nan")},
    {"hidden_size": float("inf")},
    {"hidden_size": "4"},
    {"hidden_size": {"4": 5}},
    {"input_size": MEGA},
    {"input_size": -1},
    {"dilations": [MEGA, 3]},
    {"dilations": [2, MEGA]},
    {"dilations": [2, 2**63]},
    {"dilations": [2, 10**400]},
    {"dilations": [2, float("nan")]},
    {"dilations": [2, 0]},
    {"dilations": "23"},
    {"dilations": None},
    {"cell": "gru"},
    {"cell": ["lstm"]},
    {"bias": False},
    {"bias": "yes"},
    {"fuse": False},
    {"fuse": 1},
    {"dropout": float("nan")},
    {"dropout": 2},
    {"dropout": "half"},
    {"batch_first": True},
    {"backend": "triton"},
    {"backend": "reference"},
    {"device": "cuda"},
    {"surprise": 1},
]


@pytest.mark.parametrize("change", HOSTILE, ids=str)
def test_a_hostile_configuration_is_refused(change: dict[str, Any], path: Path) -> None:
    config = good_config(path)
    rewrite(path, config | change)
    assert_refused_at_once(path)


@pytest.mark.parametrize("change", HOSTILE_NETWORKS, ids=str)
def test_a_hostile_configuration_of_the_network_is_refused(change: dict[str, Any], path: Path) -> None:
    config = good_config(path)
    rewrite(path, config | {"rnn": config["rnn"] | change})
    assert_refused_at_once(path)


@pytest.mark.parametrize(
    "change",
    [
        {"skips": [MEGA, 1]},
        {"skips": [2, MEGA]},
        {"skips": [2, 2**63]},
        {"skips": [1] * 20_000},
        {"skips": None, "num_layers": MEGA},
        {"skips": "21"},
        {"hidden_size": MEGA},
        {"hidden_size": [4, 4]},
        {"cell": "rnn"},
        {"bias": 1},
        {"dilations": [2, 1]},
        {"backend": "reference"},
        {"device": "cuda"},
        {"kind": "DilatedRNN"},
        {"kind": "Tagger"},
        {"kind": ["SkipRNN"]},
    ],
    ids=str,
)
def test_a_hostile_configuration_of_a_skip_network_is_refused(change: dict[str, Any], path: Path) -> None:
    assert_changed_is_refused(SkipRNN(3, 4, skips=[2, 1]), change, path)


@pytest.mark.parametrize(
    "change",
    [
        {"dilations": [MEGA, 3]},
        {"dilations": [1, 10**30]},
        {"kernel_size": MEGA},
        {"kernel_size": 10**30},
        {"kernel_size": 3},
        {"kernel_size": 2.0},
        {"channels": MEGA},
        {"gated": True},
        {"gated": "no"},
        {"residual": 0},
        {"num_layers": MEGA, "dilations": None},
    ],
    ids=str,
)
def test_a_hostile_configuration_of_a_convolutional_network_is_refused(change: dict[str, Any], path: Path) -> None:
    assert_changed_is_refused(DilatedCNN(3, 4, dilations=[1, 2]), change, path)


def assert_changed_is_refused(rnn: Any, change: dict[str, Any], path: Path) -> None:
    """Alone and behind a head."""
    for model in (rnn, Tagger(rnn, 2)):
        save_model(model, path)
        config = json.loads(parts(path)[0]["config"])
        change_file(path, config | change if model is rnn else config | {"rnn": config["rnn"] | change})
        assert_refused_at_once(path)


@pytest.mark.parametrize(
    "config", ["", "{", "[]", "3", "null", '"Classifier"', "[" * 100_000, "{}", "NaN"], ids=lambda c: c[:9]
)
def test_a_configuration_that_is_no_json_object_is_refused(config: str, path: Path) -> None:
    rewrite(path, config)
    assert_refused_at_once(path)


@contextmanager
def little_memory() -> Iterator[None]:
    """So that a file that is not refused fails its test instead of the machine."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (4 * 2**30, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def assert_refused_at_once(path: Path) -> None:
    """In one line that names the file, and without taking the memory or the time that the file asks for."""
    start = time.process_time()
    with little_memory(), pytest.raises(ValueError, match=r"^\S+model\.safetensors: ") as caught:
        load_model(path)
    message = str(caught.value)
    assert "the model's configuration does not fit: " in message
    assert "\n" not in message
    assert len(message) < 1000
    assert "can't allocate" not in message
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    "change",
    [
        {"output.weight": None},
        {"rnn.weight_hh_l1": None},
        {"feature_std": None},
        {"output.weight": torch.zeros(3, 4)},
        {"rnn.weight_ih_l0": torch.zeros(16, 3, 1)},
        {"rnn.weight_ih_l0": torch.zeros(16, 3, dtype=torch.int64)},
        {"rnn.weight_ih_l0": torch.zeros(16, 3, dtype=torch.float64)},
        {"rnn.weight_ih_l2": torch.zeros(16, 3)},
    ],
    ids=lambda change: " ".join(f"{k} {'gone' if v is None else (v.dtype, tuple(v.shape))}" for k, v in change.items()),
)
def test_weights_that_the_configuration_does_not_ask_for_are_refused(
    change: dict[str, Tensor | None], path: Path
) -> None:
    rewrite(path)
    metadata, tensors = parts(path)
    save_file({k: v for k, v in (tensors | change).items() if v is not None}, path, metadata=metadata)
    assert_refused_at_once(path)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.complex64, torch.int64, torch.bool])
def test_weights_of_a_kind_that_no_network_computes_in_are_refused(dtype: torch.dtype, path: Path) -> None:
    rewrite(path)
    metadata, tensors = parts(path)
    save_file({name: tensor.to(dtype) for name, tensor in tensors.items()}, path, metadata=metadata)
    assert_refused_at_once(path)


@pytest.mark.parametrize(
    "notes", ["", "{", "[]", "3", "null", "[" * 100_000, '{"a":' * 100_000, "9" * 10_000], ids=lambda n: n[:9]
)
def test_damaged_notes_are_refused(notes: str, path: Path) -> None:
    rewrite(path, notes=notes)
    with pytest.raises(ValueError, match=r"^\S+model\.safetensors: "):
        model_notes(path)


def test_a_failed_save_leaves_the_old_file_and_no_other(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Classifier(NETWORK.build(), 2)
    save_model(model, path)
    before = path.read_bytes()

    def fails(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("streamdrnn.storage.os.replace", fails)
    with pytest.raises(OSError, match="no space left"):
        save_model(NETWORK.build(), path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]
