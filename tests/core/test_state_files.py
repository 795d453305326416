"""States as files: what is loaded is what was saved, and nothing else is loaded."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from streamdrnn import DRNNState, ModelState
from tests.agreement import assert_same_bits
from tests.core.test_state import Make, every_state, model_state, network_state


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.safetensors"


def parts(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@every_state
def test_a_state_comes_back_bit_for_bit(make: Make, path: Path) -> None:
    state = make()
    state.save(path)
    assert_same_bits(type(state).load(path), state)
    assert os.listdir(path.parent) == [path.name]
    type(state).load(str(path))


def test_a_loaded_state_does_not_depend_on_its_file(path: Path) -> None:
    state = network_state()
    state.save(path)
    loaded = DRNNState.load(path)
    path.write_bytes(b"something else")
    assert_same_bits(loaded, state)


def test_the_file_says_what_it_is(path: Path) -> None:
    network_state().save(path)
    metadata, _ = parts(path)
    assert metadata == {
        "format": "streamdrnn-state",
        "version": "2",
        "type": "DRNNState",
        "cell": "lstm",
        "dilations": "[2, 3]",
        "hidden_sizes": "[4, 4]",
    }


def test_states_with_gradients_and_shared_memory_save(path: Path) -> None:
    state = network_state()
    state.h[0].requires_grad_()
    shared = state._replace(c=[state.h[0], state.h[1][:]])
    shared.save(path)
    assert_same_bits(DRNNState.load(path), shared)


def test_a_missing_file_is_named(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"state\.safetensors: no such file"):
        DRNNState.load(path)
    with pytest.raises(FileNotFoundError):
        DRNNState.load(path.parent)


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 100, -1, -40])
def test_a_truncated_file_is_refused(kept: int, path: Path) -> None:
    network_state().save(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"^\S+state\.safetensors: damaged or not a safetensors file"):
        DRNNState.load(path)


class Trap:
    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.sprung,)


@pytest.mark.parametrize("write", [pickle.dumps, None])
def test_a_pickle_is_refused_and_not_run(write: Callable[[Any], bytes] | None, path: Path) -> None:
    trap = Trap(path.with_name("sprung"))
    if write is None:
        torch.save({"h.0": trap}, path)
    else:
        path.write_bytes(write(trap))
    with pytest.raises(ValueError, match="damaged or not a safetensors file"):
        DRNNState.load(path)
    assert not trap.sprung.exists()


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format": "other"}, "not a streamdrnn-state file .*'other'"),
        ({"version": "1"}, "version '1', this release reads 2"),
        ({"type": "ModelState"}, "holds a 'ModelState', expected 'DRNNState'"),
        ({"cell": "gru"}, "metadata and the tensors disagree"),
        ({"dilations": "[2, 4]"}, "metadata and the tensors disagree"),
        ({"dilations": "no list"}, "metadata and the tensors disagree"),
        ({"hidden_sizes": "[4]"}, "metadata and the tensors disagree"),
        ({"format": None}, "not a streamdrnn-state file"),
        ({"version": None}, "version None"),
        ({"type": None}, "holds a None"),
        ({"cell": None}, "disagree"),
        ({"dilations": None}, "disagree"),
    ],
)
def test_metadata_that_does_not_fit_is_refused(metadata: dict[str, str | None], message: str, path: Path) -> None:
    network_state().save(path)
    good, tensors = parts(path)
    save_file(tensors, path, metadata={k: v for k, v in (good | metadata).items() if v is not None})
    with pytest.raises(ValueError, match=r"^\S+state\.safetensors: .*" + message) as caught:
        DRNNState.load(path)
    assert "\n" not in str(caught.value)


def test_a_safetensors_file_of_somebody_else_is_refused(path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="not a streamdrnn-state file"):
        DRNNState.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"h.0": None},
        {"h.1": None},
        {"cursor": None},
        {"fusion": None},
        {"cursor": torch.zeros(2, dtype=torch.int64)},
        {"cursor": torch.zeros(3)},
        {"cursor": torch.tensor([0, -1, 2])},
        {"cursor": torch.zeros((), dtype=torch.int64)},
        {"h.0": torch.zeros(2, 4)},
        {"h.0": torch.zeros(2, 2, 4)},
        {"c.1": torch.zeros(3, 3, 5)},
        {"h.0": torch.zeros(2, 3, 4, dtype=torch.int64), "c.0": torch.zeros(2, 3, 4, dtype=torch.int64)},
        {"h.0": torch.zeros(2, 3, 4, dtype=torch.float16), "c.0": torch.zeros(2, 3, 4, dtype=torch.float16)},
        {"fusion": torch.zeros(2, 3, 5)},
        {"h.2": torch.zeros(2, 3, 4)},
        {"somebody.elses": torch.zeros(2, 3, 4)},
    ],
    ids=lambda change: " ".join(f"{k} {'gone' if v is None else tuple(v.shape)}" for k, v in change.items()),
)
def test_tensors_that_do_not_make_a_state_are_refused(change: dict[str, Tensor | None], path: Path) -> None:
    network_state().save(path)
    metadata, tensors = parts(path)
    changed = {name: t for name, t in (tensors | change).items() if t is not None}
    save_file(changed, path, metadata=metadata)
    with pytest.raises(ValueError, match=r"^\S+state\.safetensors: "):
        DRNNState.load(path)


def test_a_models_state_is_checked_as_a_whole(path: Path) -> None:
    model_state().save(path)
    metadata, tensors = parts(path)
    assert metadata["type"] == "ModelState"
    for name in ("pooled", "rnn.cursor", "rnn.h.0"):
        save_file({k: t for k, t in tensors.items() if k != name}, path, metadata=metadata)
        with pytest.raises(ValueError, match="not a complete ModelState"):
            ModelState.load(path)
    save_file(tensors | {"rnn.cursor": tensors["rnn.cursor"] - 100}, path, metadata=metadata)
    with pytest.raises(ValueError, match="cursor"):
        ModelState.load(path)
    save_file(tensors, path, metadata=metadata | {"rnn.dilations": json.dumps([1, 2])})
    with pytest.raises(ValueError, match="disagree"):
        ModelState.load(path)
    with pytest.raises(ValueError, match="holds a 'ModelState', expected 'DRNNState'"):
        DRNNState.load(path)


def test_a_failed_save_leaves_the_old_file_and_no_other(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = network_state()
    old.save(path)

    def half_written(partial: Path, data: bytes) -> None:
        with partial.open("wb") as file:
            file.write(data[:4])
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", half_written)
        with pytest.raises(OSError, match="no space left"):
            old.reset().save(path)
    assert_same_bits(DRNNState.load(path), old)
    assert os.listdir(path.parent) == [path.name]


def test_a_folder_that_does_not_exist_is_an_oserror_that_names_it(path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        network_state().save(path.parent / "missing" / "state.safetensors")
