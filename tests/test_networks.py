"""Any network goes all the way: behind a head, through training, into a stream, a file, an export and a server."""

import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from streamdrnn import Classifier, StreamingDRNN, Tagger, load_model, save_model
from streamdrnn.apps.training.evaluation import evaluate
from streamdrnn.apps.training.run_folder import RunFolder
from streamdrnn.apps.training.runs import load_run
from streamdrnn.baselines import SkipRNN
from streamdrnn.export import export_model
from streamdrnn.kernels import cpu
from streamdrnn.network import ChunkedNetwork, register_network
from streamdrnn.state import StreamState
from tests.agreement import assert_close, assert_same_bits
from tests.serving.servers import Wire, assert_same, offline, running
from tests.strategies import randn
from tests.training.test_trainer import copying, train


class _LeakyFields(NamedTuple):
    level: Tensor
    cursor: Tensor


class LeakyState(_LeakyFields, StreamState):
    __slots__ = ()


@register_network
class LeakyIntegrator(ChunkedNetwork):
    """A user's own network: every input leaks away by half a step."""

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.input_size = self.hidden_size = input_size
        self.gain = nn.Parameter(torch.ones(input_size))

    def config(self) -> dict[str, object]:
        return {"input_size": self.input_size}

    def zero_state(self, batch_size: int, device: Any = None, dtype: Any = None) -> LeakyState:
        level = torch.zeros(1, batch_size, self.input_size, device=device, dtype=dtype)
        return LeakyState(level, torch.zeros(batch_size, device=device, dtype=torch.int64))

    def chunk(self, x: Tensor, state: LeakyState, lengths: Optional[Tensor]) -> tuple[Tensor, LeakyState]:
        (level,), made = state.level, torch.full_like(state.cursor, len(x)) if lengths is None else lengths
        outputs = [x[:0]]
        for t, x_t in enumerate(x):
            real = (t < made)[:, None]
            level = torch.where(real, level / 2 + self.gain * torch.where(real, x_t, 0.0), level)
            outputs.append(torch.where(real, level, 0.0)[None])
        return torch.cat(outputs), LeakyState(level[None], state.cursor + made)


def exported_step(model: nn.Module, folder: Path) -> Any:
    export_model(model, folder / "x.pt2", "pt2")  # type: ignore[arg-type]
    return torch.export.load(folder / "x.step.pt2").module()


def assert_streams_as_a_batch(model: Any, x: Tensor, step: Any) -> None:
    """Bit for bit, alone and beside a stream that rests; the exported step within rounding."""
    with torch.no_grad():
        whole, end = model(x)
    live = StreamingDRNN(model, x.shape[1])
    first = torch.cat([live.push(x[:3]), live.step(x[3])[None]])
    rest = torch.tensor([True] + [False] * (x.shape[1] - 1))
    before = live.snapshot()
    live.step(torch.where(rest[:, None], x[4], torch.nan), rest)
    assert_same_bits(live.snapshot(1), before.select(1))
    live.restore(before)
    y = torch.cat([first, live.push(x[4:])])
    assert_close(y, whole)
    assert cpu.why_not() or torch.equal(y, whole)
    assert live.cursor.tolist() == [len(x)] * x.shape[1]
    state = {name: torch.zeros_like(t) for name, t in end.tensors().items() if t.numel()}
    for t, x_t in enumerate(x):
        y_t, state = step(x_t, state)
        assert_close(y_t, whole[t])


def test_a_baseline_is_trained_saved_loaded_streamed_exported_and_served(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    results = train(copying("skip", steps=4), folder.path)
    model = load_model(folder.model)
    assert isinstance(model, Tagger)
    assert isinstance(model.rnn, SkipRNN)
    ours, task = load_run(folder, None)
    for measured in (evaluate(ours, task, "test"), evaluate(model, task, "test", as_stream=True)):
        assert measured == pytest.approx(results["test"], rel=1e-6)
    x = randn(9, 2, 10, seed=0, dtype=torch.float32)
    assert_streams_as_a_batch(model, x, exported_step(model, tmp_path))
    alone = x[:, 0].numpy()
    with running([folder.model], tmp_path / "store.sqlite3") as server, Wire(server.url) as wire:
        assert wire.open("model")["output_size"] == 9
        rows = []
        for seq, part in enumerate([alone[:1], alone[1:7], alone[7:]], 1):
            wire.send(seq, part, seq - 1)
            rows.append(wire.result(9)[1])
    assert_same(np.concatenate(rows), offline(folder.model, alone))


def test_a_network_of_a_users_own_goes_the_same_way(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Classifier(LeakyIntegrator(3), 2, "mean").eval()
    save_model(model, tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert again.config() == model.config()
    x = randn(9, 2, 3, seed=0, dtype=torch.float32)
    assert torch.equal(again(x)[0], model(x)[0])
    assert_streams_as_a_batch(again, x, exported_step(again, tmp_path))
    StreamingDRNN(again).snapshot().save(tmp_path / "state")
    assert_same_bits(type(StreamingDRNN(again).state).load(tmp_path / "state"), StreamingDRNN(again).state)
    with pytest.raises(TypeError, match="state: expected a LeakyState, got SkipRNNState"):
        again.rnn(x, SkipRNN(3, 3, 1).zero_state(2))


def test_a_file_of_a_network_that_this_program_does_not_know_is_refused_in_one_line(tmp_path: Path) -> None:
    save_model(LeakyIntegrator(3), tmp_path / "model")
    program = f"import streamdrnn; streamdrnn.load_model({str(tmp_path / 'model')!r})"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "kind: got 'LeakyIntegrator', expected one of DilatedCNN, LRU, MinGRU, SkipRNN, DilatedRNN" in result.stderr


def test_what_is_no_network_is_not_registered_nor_taken() -> None:
    with pytest.raises(TypeError, match="Linear: expected a method zero_state"):
        register_network(nn.Linear)
    with pytest.raises(ValueError, match="SkipRNN: a network of this name is registered already"):
        register_network(type("SkipRNN", (LeakyIntegrator,), {}))
    with pytest.raises(TypeError, match=r"rnn: expected a network \(DilatedRNN, .*\), got GRU"):
        Tagger(nn.GRU(3, 4), 2)  # type: ignore[arg-type]
