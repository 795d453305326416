"""`streamdrnn info`: a model's memory, in print, as JSON and drawn."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from matplotlib.image import imread
from torch import nn

from streamdrnn import Classifier, DilatedRNN, Tagger, save_model
from streamdrnn.apps import memory_plots
from streamdrnn.apps.cli import main
from streamdrnn.apps.info import gradients_for_noise
from streamdrnn.audio import LogMel
from streamdrnn.baselines import LRU, DilatedCNN, MinGRU, SkipRNN
from streamdrnn.memory import DependencyGraph
from tests.apps.test_cli import Outcome

Info = Callable[..., Outcome]
PLOTS = {f"{name}.{ending}" for name in ("graph", "recurrent_length", "gradients") for ending in ("png", "svg")}


@pytest.fixture
def info(capsys: pytest.CaptureFixture[str]) -> Info:
    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = 0
        try:
            main(["info", *map(str, arguments)])
        except SystemExit as end:
            code = int(end.code or 0)
        return Outcome(code, *capsys.readouterr())

    return call


@pytest.fixture
def nine(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_model(Classifier(DilatedRNN(1, 3, 9), 10), tmp_path / "nine.safetensors")
    return tmp_path / "nine.safetensors"


def test_nine_layers_are_readable(info: Info, nine: Path) -> None:
    out = info(nine).out
    assert max(len(line) for line in out.splitlines() if "'dilations'" not in line) <= 80
    lines = out.splitlines()
    assert "  receptive field (steps):                             without bound" in lines
    assert "  by one recurrence per layer at most (steps):         512" in lines
    assert "  mean recurrent length over the period (edges):       12" in lines
    top = next(number for number, line in enumerate(lines) if line.startswith("gru d=256"))
    assert [line.split()[1] for line in lines[top : top + 9]] == [f"d={2**k}" for k in range(8, -1, -1)]


def test_memory_as_json(info: Info, nine: Path) -> None:
    facts = json.loads(info(nine, "--json").out)
    assert facts["memory"] == {
        "receptive_field": None,
        "one_hop_field": 512,
        "period": 256,
        "mean_recurrent_length": 12 + 1 / 256,
        "mean_recurrent_length_of_a_regular_stack": 136.5,
        "recurrent_edges_per_node": 1.0,
        "network_parameters": facts["parameters"] - 40,
    }


def test_phases_that_never_meet_have_no_mean_recurrent_length(info: Info, tmp_path: Path) -> None:
    save_model(DilatedRNN(1, 3, dilations=[2, 4], fuse=False), tmp_path / "apart.safetensors")
    assert json.loads(info(tmp_path / "apart.safetensors", "--json").out)["memory"]["mean_recurrent_length"] is None


def test_with_a_front_end_steps_have_a_length(info: Info, tmp_path: Path) -> None:
    frontend = LogMel(sample_rate=16000, hop_length=160, n_mels=20)
    save_model(Tagger(DilatedRNN(20, 3, 2), 2, frontend), tmp_path / "tagger.safetensors")
    outcome = info(tmp_path / "tagger.safetensors", "--plot", tmp_path / "plots", "--json")
    assert json.loads(outcome.out)["memory"]["seconds_per_step"] == 0.01


@pytest.mark.parametrize(
    "network",
    [
        DilatedRNN(1, 3, 4),
        DilatedRNN(2, 3, dilations=[4, 8], cell="lstm", batch_first=True),
        DilatedRNN(1, 3, dilations=[2, 4], fuse=False),
        DilatedRNN(1, 3, dilations=[64], fuse=False).double(),
        SkipRNN(2, 3, skips=[4, 1]),
        MinGRU(2, 3, 2),
        LRU(2, 3, 2),
        Tagger(DilatedCNN(2, 3, 3), 2),
    ],
    ids=["dilated", "fused", "apart", "far", "skip", "min-gru", "lru", "cnn"],
)
def test_plots_of_any_network(info: Info, tmp_path: Path, network: nn.Module) -> None:
    save_model(network, tmp_path / "model.safetensors")
    outcome = info(tmp_path / "model.safetensors", "--plot", tmp_path / "new" / "plots", "--json")
    assert outcome.code == 0, outcome
    assert {Path(name).name for name in json.loads(outcome.out)["plots"]} == PLOTS
    for name in json.loads(outcome.out)["plots"]:
        assert Path(name).parent == tmp_path / "new" / "plots"
        if name.endswith(".png"):
            picture = imread(name)
            assert picture.std() > 0.01  # something is drawn
        else:
            assert "<svg" in Path(name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "graph", [DependencyGraph.convolutional([1, 2, 4]), DependencyGraph.recurrent([[1, 4]])], ids=["cnn", "skip"]
)
def test_plots_of_baselines(tmp_path: Path, graph: DependencyGraph) -> None:
    assert set(memory_plots.draw(graph, torch.ones(8), tmp_path)) == PLOTS


def test_only_a_finite_mean_is_drawn() -> None:
    for dilations, lines in (([1, 2], 3), ([2, 4], 2)):
        figure = memory_plots.lengths(DependencyGraph.recurrent([[d] for d in dilations]))
        assert len(figure.axes[0].lines) == lines


def test_gradients_are_over_time_whichever_dimension_is_first() -> None:
    time_first, batch_first = (
        DilatedRNN(2, 3, dilations=[2, 4], fuse=False, batch_first=first) for first in (False, True)
    )
    batch_first.load_state_dict(time_first.state_dict())
    norms = gradients_for_noise(time_first, 12)
    assert (norms > 0).tolist() == [lag % 2 == 0 for lag in range(12)]
    assert torch.equal(gradients_for_noise(batch_first, 12), norms)
    assert torch.equal(gradients_for_noise(Tagger(time_first, 2), 12), norms)


def test_wrong_use_gets_one_line(info: Info, nine: Path, tmp_path: Path) -> None:
    info("--plot", tmp_path).is_one_line_about("--plot: give the model file to draw")
    info(tmp_path / "gone.safetensors", "--plot", tmp_path).is_one_line_about("no such file")
    info(nine, "--plot", nine).is_one_line_about("file exists")


def test_plots_without_matplotlib_get_one_line(info: Info, nine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "streamdrnn.apps.memory_plots")
    monkeypatch.delattr("streamdrnn.apps.memory_plots")
    info(nine, "--plot", nine.parent / "plots").is_one_line_about("pip install '.[bench]'")


def test_what_is_not_drawn_loads_no_matplotlib(nine: Path) -> None:
    script = (
        "import sys; from streamdrnn.apps.cli import main\n"
        f"main(['info', {str(nine)!r}])\n"
        "import streamdrnn.memory, streamdrnn.baselines\n"
        "assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
