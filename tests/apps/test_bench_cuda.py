"""The benchmark on a GPU: all but the GPU itself is tested on the CPU, which stands in for the device."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Optional

import pytest
import torch
from torch import Tensor, nn

from streamdrnn import DilatedRNN, StreamingDRNN, kernels
from streamdrnn.apps.bench.cuda import contenders, contest, growth, machine, sequences, target, works
from streamdrnn.apps.bench.cuda.accuracy import Check, Errors, max_with_nan
from streamdrnn.apps.bench.cuda.budget import Allowance, Deadline, turns_within
from streamdrnn.apps.bench.cuda.ceilings import Ceilings
from streamdrnn.apps.bench.cuda.contest import Contest, Result, input_sets
from streamdrnn.apps.bench.cuda.flashrnn import flashrnn
from streamdrnn.apps.bench.cuda.floors import (
    Floors,
    dependent_steps,
    sequence_bytes,
    sequence_floors,
    step_bytes,
    weight_bytes,
)
from streamdrnn.apps.bench.cuda.plots import draw
from streamdrnn.apps.bench.cuda.precision import LIMITS, Precision, float32_products, switches
from streamdrnn.apps.bench.cuda.session import Session
from streamdrnn.apps.bench.cuda.target import Target
from streamdrnn.apps.bench.forward_train import Network
from streamdrnn.apps.bench.peers import CannotRunError
from streamdrnn.apps.bench.tables import Table
from streamdrnn.apps.bench.timing import Times
from streamdrnn.apps.bench.works import CELLS, Work
from streamdrnn.apps.cli import main
from tests.agreement import assert_close

CPU = Target("cpu", "torch", lambda: None, cache_bytes=0)
WORK = Work("some", batch=3, steps=13, inputs=2, hidden=5, layers=3)

Outcome = tuple[int, str, str]
Bench = Callable[..., Outcome]


@pytest.fixture
def bench(capsys: pytest.CaptureFixture[str]) -> Bench:
    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = 0
        try:
            main(["bench", "--device", "cuda", *map(str, arguments)])
        except SystemExit as end:
            code = int(end.code or 0)
        return (code, *capsys.readouterr())

    return call


@pytest.fixture
def _cpu_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compiled takes too long for a test of the rest; oneDNN's LSTM has no bfloat16 on processors of AVX2."""
    monkeypatch.setattr(target, "gpu", lambda: CPU)
    monkeypatch.setattr(machine, "gpu_facts", lambda: {"gpu": "none"})
    monkeypatch.setitem(sys.modules, "flashrnn", None)  # its kernel needs a GPU, wherever it is installed
    monkeypatch.setattr(works, "QUICK", works.QUICK._replace(compiled=None, compiled_streams=()))
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def session(deadline: Optional[Deadline] = None) -> Session:
    ceilings = Ceilings(1e9, dict.fromkeys(LIMITS, 1e9), 1e-6)
    return Session(CPU, ceilings, works.QUICK, (), (), 2, lambda _: None, deadline or Deadline(1.0, lambda: 0.0))


def test_without_a_gpu_there_is_one_line(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, printed, err = bench("--out", tmp_path / "new")
    assert (code, printed) == (1, "")
    assert err.startswith("streamdrnn: --device cuda needs an NVIDIA GPU: torch ")
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "new").exists()


def test_a_gpu_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(name="A GPU", multi_processor_count=7, total_memory=2**34, L2_cache_size=2**25)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    monkeypatch.setattr(kernels, "check_backend", lambda backend: None)
    monkeypatch.setenv("PATH", "")  # no driver's tool
    found = target.gpu()
    assert (found.device, found.kind, found.backend, found.cache_bytes) == ("cuda", "cuda", "triton", 2**25)
    facts = machine.gpu_facts()
    assert (facts["gpu"], facts["multiprocessors"], facts["memory"], facts["last cache"]) == (
        "A GPU",
        7,
        "16 GiB",
        "32 MiB",
    )
    assert (facts["driver"], facts["cudnn"]) == ("unknown", "9.10.2")
    assert facts["triton"]


@pytest.mark.usefixtures("_cpu_stands_in")
def test_what_cannot_work_is_one_line(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = bench("--suite", "forward", "memory")
    assert (code, err) == (
        1,
        "streamdrnn: --suite memory: not on cuda, where there are forward, train, stream, growth\n",
    )
    assert bench("--precision", "octuple")[0] == 2
    with pytest.raises(SystemExit, match="1"):
        main(["bench", "--precision", "tf32"])
    assert "--precision: only with --device cuda" in capsys.readouterr().err


@pytest.mark.usefixtures("_cpu_stands_in")
def test_results_are_written(bench: Bench, tmp_path: Path) -> None:
    code, printed, err = bench("--quick", "--repeats", 2, "--out", tmp_path, "--json")
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
    assert [(row["cell"], row["streams"]) for row in tables["stream_floors"]] == [
        (cell, streams) for cell in ("gru", "lstm") for streams in works.QUICK.streams
    ]
    for row in tables["stream"]:
        assert row["us_per_stream"] == pytest.approx(row["p50_us"] / row["streams"])
        assert row["steps_timed"] == works.QUICK.blocks * works.QUICK.block
    page = (tmp_path / "results.md").read_text(encoding="utf-8")
    plots = sorted(path.name for path in tmp_path.glob("*.png"))
    assert plots == ["forward.png", "growth.png", "stream.png", "train.png"]
    assert all(f"]({name})" in page for name in plots)
    assert str(tmp_path) not in page + printed


@pytest.mark.usefixtures("_cpu_stands_in")
def test_cells_and_precisions_can_be_chosen(bench: Bench) -> None:
    code, printed, err = bench(
        *("--quick", "--suite", "train", "stream", "--cell", "gru", "--precision", "fp16", "--repeats", 1, "--json")
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
    def wrong(model: DilatedRNN, precision: str) -> Network:
        return Network(lambda x: 1.1 * model(x)[0], list(model.parameters()))

    def wrong_step(model: DilatedRNN, streams: int) -> Callable[[Tensor], Tensor]:
        step = StreamingDRNN(model, streams).step
        return lambda x_t: 1.1 * step(x_t)

    monkeypatch.setitem(contenders.OURS, "ours", wrong)
    monkeypatch.setitem(contenders.STEPS, "ours", wrong_step)
    options = ("--quick", "--suite", "train", "stream", "--cell", "gru", "--precision", "ieee", "--out", tmp_path)
    code, printed, err = bench(*options)
    assert code == 1
    last = err.splitlines()[-1]
    assert last.startswith("streamdrnn: 3 measurements failed: ")
    assert "train: H=5 T=21, gru, ieee, ours: wrong: outputs 1.0e-01, limit 1.0e-04" in last
    assert "stream: gru, 5 streams, ieee, ours: wrong: outputs 1.0e-01" in last
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


def broken(model: DilatedRNN, precision: str) -> Network:
    raise RuntimeError("/a/path/of/this/machine")


def test_a_failure_of_ours_is_told_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(contenders.OURS, "ours, another schedule", broken)
    monkeypatch.setitem(contenders.PEERS, "torch", broken)
    run = session()
    results = Contest(run, WORK, "rnn", train=False).results({"ieee": ("reshape", "torch")})
    assert [(result.contender, result.why_not) for result in results] == [
        ("ours", ""),
        ("ours, another schedule", "failed with RuntimeError"),
        ("reshape", ""),
        ("torch", "failed with RuntimeError"),
    ]
    assert [result.times is not None for result in results] == [True, False, True, False]
    assert run.problems == ["forward: some, rnn, ieee, ours, another schedule failed with RuntimeError"]
    assert "/a/path/of/this/machine" in capsys.readouterr().err
    assert [row["contender"] for row in sequences.ratios(results)] == ["ours", "ours, another schedule"]


def test_a_failure_of_the_reference_fails_its_comparison_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contest, "Check", broken)
    run = session()
    results = Contest(run, WORK, "gru", train=True).results({"tf32": ("reshape",), "bf16": ()})
    assert [result[2:4] for result in results] == [("tf32", "ours"), ("tf32", "reshape"), ("bf16", "ours")]
    assert {result.why_not for result in results} == {"failed with TypeError"}
    assert len(run.problems) == 1


@pytest.mark.parametrize("measure", [lambda run: sequences.measure(run, train=True), growth.measure])
def test_when_the_time_is_over_nothing_begins(measure: Callable[[Session], list[Table]], tmp_path: Path) -> None:
    tables = {table.name: table for table in measure(session(Deadline(1.0, lambda: 1.0)))}
    rows = [row for name in ("train", "growth") if name in tables for row in tables[name].rows]
    assert rows
    assert {row["why_not"] for row in rows} == {"not measured: the suite's time was over"}
    assert draw(list(tables.values()), tmp_path) == []


def test_suites_share_the_time() -> None:
    now = 100.0
    allowance = Allowance(90, {"forward": 1, "train": 2, "growth": 2}, lambda: now)
    first = allowance.begin("forward")
    assert first.until == pytest.approx(118)
    now = 110.0  # it left 8 seconds
    over = [first.over]
    assert allowance.begin("train").until == pytest.approx(150)
    now = 180.0  # a comparison that had begun took long
    over.append(first.over)
    assert over == [False, True]
    assert allowance.begin("growth").until == pytest.approx(190)


@pytest.mark.parametrize(("milliseconds", "turns"), [(1, 21), (10, 15), (100, 3), (5000, 3), (0, 21)])
def test_turns_fit_their_time(milliseconds: int, turns: int) -> None:
    now = 0
    calls = iter([10**12, milliseconds * 10**6])  # the first compiles

    def run() -> None:
        nonlocal now
        now += next(calls)

    assert turns_within(run, most=21, seconds=0.3, clock=lambda: now) == turns


def test_floors_are_those_counted_by_hand() -> None:
    work = Work("two layers", batch=3, steps=5, inputs=2, hidden=4, layers=2)
    weights = 4 * (3 * 4 * (2 + 4 + 2) + 3 * 4 * (4 + 4 + 2))
    assert weight_bytes(work, "gru") == weights
    x, y = 4 * 5 * 3 * 2, 4 * 5 * 3 * 4
    assert sequence_bytes(work, "gru", "tf32", train=False) == x + weights + y
    assert sequence_bytes(work, "gru", "tf32", train=True) == 2 * (x + weights + 2 * y) + y + weights
    assert sequence_bytes(work, "gru", "bf16", train=True) == 2 * (x + weights + y) + y + weights
    assert weight_bytes(work, "lstm") == weights * 4 // 3
    assert sequence_bytes(work, "lstm", "ieee", train=True) == 2 * (x + weights * 4 // 3 + 4 * y) + y + weights * 4 // 3
    assert step_bytes(work._replace(steps=1), "gru") == weights + 4 * (3 * (2 + 4) + 2 * 3 * 4 * 2)
    assert dependent_steps(work) == 5 + 3
    assert dependent_steps(work._replace(dilation=4)) == 2 + 1
    ceilings = Ceilings(bytes_per_s=1e3, flop_per_s={"tf32": 1e4}, launch_s=1e-6)
    floors = sequence_floors(work, "gru", "tf32", False, ceilings, step_s=0.5)
    assert floors == Floors((x + weights + y) / 1e3, work.flops("gru") / 1e4, 4.0)
    assert floors.highest == 4.0
    assert sequence_floors(work, "gru", "tf32", False, ceilings, None).highest == floors.bytes


def test_precisions_set_torchs_switches_and_put_them_back() -> None:
    def cudnn_rnn() -> str:
        return str(torch.backends.cudnn.rnn.fp32_precision)  # type: ignore[attr-defined]

    before = switches()
    with float32_products("ieee"):
        assert switches() == ("highest", False)
        assert cudnn_rnn() != "tf32"
        with float32_products("tf32"):
            assert switches() == ("high", True)
            assert cudnn_rnn() == "tf32"
        assert switches() == ("highest", False)
    assert switches() == before


@pytest.mark.parametrize(
    ("errors", "precision", "excess"),
    [
        (Errors(9e-5, 1e-4), "ieee", ""),
        (Errors(9e-5, 3e-4), "ieee", "wrong: gradients 3.0e-04, limit 2.0e-04"),
        (Errors(2e-4), "ieee", "wrong: outputs 2.0e-04, limit 1.0e-04"),
        (Errors(2e-4), "tf32", ""),
        (Errors(float("nan")), "bf16", "wrong: outputs nan, limit 1.5e-02"),
        (Errors(0.0, float("nan")), "bf16", "wrong: gradients nan, limit 6.0e-02"),
    ],
)
def test_errors_have_limits(errors: Errors, precision: str, excess: str) -> None:
    assert errors.excess(precision) == excess


def test_one_nan_is_enough() -> None:
    assert math.isnan(max_with_nan([1.0, float("nan"), 2.0]))
    assert max_with_nan([1.0, 3.0, 2.0]) == 3.0


@pytest.mark.parametrize("train", [False, True])
def test_a_check_finds_what_is_wrong(train: bool) -> None:
    model = WORK.model("lstm", "torch")
    check = Check(CPU, model, WORK, train)
    right = contenders.of_model(model)
    errors = check.errors(right, "ieee")
    assert errors.outputs < 1e-6
    assert (errors.gradients is None) == (not train)
    if train:  # the right outputs, and no gradient through time
        cut = Network(lambda x: right.forward(x.detach() + 0 * x), right.weights)
        assert check.errors(cut, "ieee").outputs < 1e-6
        assert check.errors(cut, "ieee").excess("bf16").startswith("wrong: gradients")
    else:
        with pytest.raises(ValueError, match=r"results of shapes .*\(12, 3, 5\)"):
            check.errors(Network(lambda x: right.forward(x)[1:], right.weights), "ieee")


def test_a_large_batch_is_checked_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamdrnn.apps.bench.cuda.accuracy.CHECKED_STATES", 2 * 13 * 5 * 3)
    model = WORK.model("gru", "torch")
    seen: list[int] = []

    def forward(x: Tensor) -> Tensor:
        seen.append(x.shape[1])
        return contenders.of_model(model).forward(x)

    assert Check(CPU, model, WORK, False).errors(Network(forward, []), "ieee").outputs < 1e-6
    assert seen == [2]


@pytest.mark.parametrize(("cache_bytes", "sets"), [(0, 1), (4 * 13 * 3 * 2, 2), (10**9, contest.MOST_INPUTS)])
def test_inputs_are_more_than_the_cache_holds(cache_bytes: int, sets: int) -> None:
    xs = input_sets(CPU._replace(cache_bytes=cache_bytes), WORK)
    assert len(xs) == sets
    assert len({float(x.sum()) for x in xs}) == sets


def test_the_clock_waits_for_the_device() -> None:
    waited = []
    before = CPU._replace(synchronize=lambda: waited.append(True)).clock()
    assert waited == [True]
    assert CPU.clock() > before


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("name", ["torch", "cuDNN"])
def test_a_live_peer_has_our_outputs(cell: str, name: str) -> None:
    model = DilatedRNN(2, 5, 3, cell=cell).eval()
    step = contenders.STEPS[name](model, 4)
    x = torch.randn(13, 4, 2)
    with torch.inference_mode():
        assert_close(torch.stack([step(x_t) for x_t in x]), model(x)[0])


def test_a_compiled_peer_has_our_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """That it compiles is tested with the CPU's suites; here, that the right thing would be."""
    compiled: list[nn.Module] = []

    def keep(module: nn.Module, **_: object) -> nn.Module:
        compiled.append(module)
        return module

    monkeypatch.setattr(torch, "compile", keep)
    model = DilatedRNN(2, 5, 3)
    x = torch.randn(13, 4, 2)
    for name in ("torch.compile", "loop torch.compile"):
        assert_close(contenders.PEERS[name](model, "tf32").forward(x), model(x)[0])
    with torch.inference_mode():
        step = contenders.STEPS[contenders.COMPILED_STEP](model, 4)
        assert_close(torch.stack([step(x_t) for x_t in x]), model(x)[0])
    assert len(compiled) == 3


def fake_flashrnn(
    Wx: Tensor,
    R: Tensor,
    b: Tensor,
    states: Optional[Tensor] = None,
    function: str = "lstm",
    config: Optional[object] = None,
    backend: str = "cuda_fused",
    dtype: str = "bfloat16",
) -> tuple[Tensor, Tensor]:
    """FlashRNN 1.0.8's signature and shapes on torch's LSTM: gates (B, T, 4, N, H) to states (2, B, T, N, H)."""
    assert (states, function, config, backend) == (None, "lstm", None, "triton_fused")
    assert f"torch.{dtype}" == str(Wx.dtype) == str(R.dtype) == str(b.dtype)
    B, T, gates, heads, H = Wx.shape
    assert (gates, heads) == (4, 1)
    assert R.shape == (4, 1, H, H)
    assert b.shape == (4, 1, H)
    lstm = nn.LSTM(4 * H, H, batch_first=True)
    weights = (torch.eye(4 * H), R.float().reshape(4 * H, H), b.float().reshape(4 * H), torch.zeros(4 * H))
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    x = Wx.float().reshape(B, T, 4 * H)
    with torch.autocast("cpu", enabled=False):
        h, _ = torch.func.functional_call(lstm, dict(zip(names, weights, strict=True)), x)
    h = h.to(Wx.dtype)
    states = torch.stack([h, torch.full_like(h, torch.nan)])[:, :, :, None]
    return states, states[:, :, -1:]


@pytest.fixture
def _flashrnn_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("flashrnn")
    package.flashrnn = fake_flashrnn  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flashrnn", package)


@pytest.mark.usefixtures("_flashrnn_is_there")
@pytest.mark.parametrize("dilations", [[1], [4], [2, 1, 3]])
@pytest.mark.parametrize("T", [1, 8, 13])
def test_flashrnn_gets_phases_as_rows(dilations: list[int], T: int) -> None:
    model = DilatedRNN(2, 16, dilations=dilations, cell="lstm", fuse=False)
    x = torch.randn(T, 3, 2, requires_grad=True)
    dy = torch.randn(T, 3, 16)
    weights = list(model.parameters())
    ours, theirs = model(x)[0], flashrnn(model, "tf32")(x)
    assert_close(theirs, ours)
    for got, want in zip(
        torch.autograd.grad(theirs, [x, *weights], dy), torch.autograd.grad(ours, [x, *weights], dy), strict=True
    ):
        assert_close(got, want)


@pytest.mark.usefixtures("_flashrnn_is_there")
def test_flashrnn_computes_in_the_precision_of_autocast() -> None:
    model = DilatedRNN(2, 16, dilations=[2, 1], cell="lstm", fuse=False, backend="torch")
    work = Work("some", batch=3, steps=13, inputs=2, hidden=16, layers=2)
    network = Network(flashrnn(model, "bf16"), list(model.parameters()))
    errors = Check(CPU, model, work, train=True).errors(network, "bf16")
    assert not errors.excess("bf16")
    assert errors.excess("tf32")


@pytest.mark.usefixtures("_flashrnn_is_there")
@pytest.mark.parametrize(
    ("hidden", "cell", "precision", "problem"),
    [
        (16, "gru", "tf32", "for LSTM cells"),
        (20, "lstm", "tf32", "for H of 16, 32, 64"),
        (16, "lstm", "ieee", "products are tf32"),
    ],
)
def test_flashrnn_says_what_it_cannot_do(hidden: int, cell: str, precision: str, problem: str) -> None:
    with pytest.raises(CannotRunError, match=problem):
        flashrnn(DilatedRNN(2, hidden, 1, cell=cell), precision)


@pytest.mark.parametrize(("missing", "problem"), [("flashrnn", "not installed"), ("einops", "needs einops")])
def test_flashrnn_may_be_missing(missing: str, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_module(name: str) -> None:
        raise ModuleNotFoundError(name=missing)

    monkeypatch.setattr("streamdrnn.apps.bench.cuda.flashrnn.importlib.import_module", no_module)
    with pytest.raises(CannotRunError, match=f"flashrnn: {problem}"):
        flashrnn(DilatedRNN(2, 16, 1, cell="lstm"), "tf32")


def test_ratios_are_of_the_same_comparison() -> None:
    def result(hidden: int, cell: str, precision: Precision, contender: str, ns: int) -> Result:
        times = Times((ns,)) if ns else None
        return Result(WORK._replace(name=f"H={hidden}", hidden=hidden), cell, precision, contender, times)

    results = [
        result(4, "gru", "tf32", "ours", 10),
        result(4, "gru", "tf32", "reshape", 40),
        result(4, "gru", "ieee", "ours", 20),
        result(4, "gru", "ieee", "reshape", 30),
        result(4, "lstm", "tf32", "ours", 0),
        result(4, "lstm", "tf32", "reshape", 30),
        result(6, "gru", "tf32", "ours", 10),
        result(6, "gru", "tf32", "reshape", 0),
    ]
    assert sequences.ratios(results) == [
        {"work": "H=4", "cell": "gru", "contender": "ours", "tf32": pytest.approx(4), "ieee": pytest.approx(1.5)},
        {"work": "H=4", "cell": "lstm", "contender": "ours", "tf32": None},
        {"work": "H=6", "cell": "gru", "contender": "ours", "tf32": None},
    ]
    assert growth.by_size(results) == [
        {"hidden": 4, "precision": "tf32", "gru": pytest.approx(4), "lstm": None},
        {"hidden": 4, "precision": "ieee", "gru": pytest.approx(1.5)},
        {"hidden": 6, "precision": "tf32", "gru": None},
    ]
    assert [row["times_ours"] for row in sequences.rows(results, train=True)][:6] == [1, 4, 1, 1.5, None, None]


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
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        "forward.png",
        "growth.png",
        "stream.png",
        "train.png",
    ]
