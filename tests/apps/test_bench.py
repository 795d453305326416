"""The benchmarks: fair turns, peers that compute the same, and results as people and programs read them."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from streamdrnn import DilatedRNN
from streamdrnn.apps.bench import forward_train, growth, machine, memory, peers, stream
from streamdrnn.apps.bench.agreement import check_same
from streamdrnn.apps.bench.plots import draw
from streamdrnn.apps.bench.process_usage import NEEDS, measurable
from streamdrnn.apps.bench.report import print_tables, to_json, to_markdown
from streamdrnn.apps.bench.tables import Row, Table
from streamdrnn.apps.bench.timing import Times, interleaved
from streamdrnn.apps.bench.works import CELLS, QUICK_STREAM, Work
from streamdrnn.apps.cli import main
from streamdrnn.kernels import cpu
from tests.agreement import assert_close

LAYERS = 3
LENGTHS = (1, 3, 4, 5, 13)
"""Below the largest dilation, at it, and no multiple of it."""

Outcome = tuple[int, str, str]
Bench = Callable[..., Outcome]


needs_memory = pytest.mark.skipif(not measurable(), reason=NEEDS)


@pytest.fixture
def bench(capsys: pytest.CaptureFixture[str]) -> Bench:
    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = 0
        try:
            main(["bench", *map(str, arguments)])
        except SystemExit as end:
            code = int(end.code or 0)
        return (code, *capsys.readouterr())

    return call


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def _compiler_forgets() -> Iterator[None]:
    yield
    torch.compiler.reset()


def loop(model: DilatedRNN) -> nn.Module:
    return peers.Loop(model, peers.StackStep(model))


def scripted_loop(model: DilatedRNN) -> nn.Module:
    return peers.scripted(loop(model))


@pytest.mark.parametrize("make", [peers.Reshape, loop, scripted_loop])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("T", LENGTHS)
def test_a_peer_has_our_outputs_and_gradients(make: Callable[[DilatedRNN], nn.Module], cell: str, T: int) -> None:
    model = DilatedRNN(2, 5, LAYERS, cell=cell)
    peer = make(model)
    weights = list(peer.parameters()) if isinstance(peer, peers.Reshape) else list(model.parameters())
    networks = (
        forward_train.Network(lambda x: model(x)[0], list(model.parameters())),
        forward_train.Network(peer, weights),
    )
    x = torch.randn(T, 3, 2)
    ours, theirs = (forward_train.outputs_and_gradients(network, x) for network in networks)
    assert len(ours) == 2 + 4 * LAYERS
    for number, (got, want) in enumerate(zip(theirs, ours, strict=True)):
        assert_close(got, want, f"number {number}")
    assert_close(forward_train.outputs(networks[1], x)[0], ours[0])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("kind", ["eager", "TorchScript", "onnxruntime"])
def test_a_live_peer_has_our_outputs(cell: str, kind: str) -> None:
    model = DilatedRNN(2, 5, LAYERS, cell=cell)
    step: Callable[[Tensor], Tensor]
    if kind == "onnxruntime":
        step = peers.live_onnx(model, 3)
    else:
        stack = peers.StackStep(model)
        step = peers.live(model, stack if kind == "eager" else peers.scripted(stack), 3)
    x = torch.randn(13, 3, 2)
    with torch.inference_mode():
        assert_close(torch.stack([step(x_t) for x_t in x]), model(x)[0])


def test_a_missing_compiler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor.exc import InvalidCxxCompiler

    def no_compiler(step: nn.Module) -> Callable[..., object]:
        def call(*_: object) -> object:
            raise InvalidCxxCompiler

        return call

    monkeypatch.setitem(
        stream.PEERS,
        "loop torch.compile",
        lambda model: peers.live(model, no_compiler(peers.StackStep(model)), 1),  # type: ignore[arg-type]
    )
    rows = {row["runner"]: row for row in stream.single_steps(QUICK_STREAM, 2, lambda _: None)}
    assert list(rows) == ["ours", "ours, out=", "loop", "loop TorchScript", "loop torch.compile", "onnxruntime"]
    assert rows["loop torch.compile"]["p50_us"] is None
    assert "C++ compiler" in str(rows["loop torch.compile"]["why_not"])
    assert float(str(rows["ours"]["p50_us"])) > 0


def test_without_onnxruntime_its_row_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(peers.CannotRunError, match=r"onnxruntime.*streamdrnn\[bench\]"):
        peers.live_onnx(DilatedRNN(1, 2, 1), 1)


@pytest.mark.parametrize("train", [False, True])
def test_a_wrong_peer_is_refused(monkeypatch: pytest.MonkeyPatch, train: bool) -> None:
    right = peers.Reshape.forward
    monkeypatch.setattr(peers.Reshape, "forward", lambda self, x: 1.001 * right(self, x))
    with pytest.raises(ValueError, match=r"reshape: outputs and gradients, number 0 differs from ours by 1\.0e-03"):
        forward_train.compare(Work("wrong", 2, 9, 3, 4, 2), "gru", train, repeats=1)


def test_a_wrong_gradient_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    right = peers.Reshape.forward
    monkeypatch.setattr(peers.Reshape, "forward", lambda self, x: right(self, x.detach() + 0 * x))
    with pytest.raises(ValueError, match="reshape: outputs and gradients, number 1 differs"):
        forward_train.compare(Work("wrong", 2, 9, 3, 4, 2), "gru", True, repeats=1)


@pytest.mark.parametrize(
    ("got", "problem"),
    [
        (torch.tensor([1.0, 2.0]), None),
        (torch.tensor([1.0, 2.00001]), None),
        (torch.tensor([1.0, 2.001]), "differs from ours by"),
        (torch.tensor([1.0, torch.nan]), "differs from ours by nan"),
        (torch.tensor([1.0]), "of shape"),
    ],
)
def test_agreement(got: Tensor, problem: str | None) -> None:
    expected = torch.tensor([1.0, 2.0])
    if problem is None:
        check_same("peer", "output", got, expected)
    else:
        with pytest.raises(ValueError, match=f"peer: output {problem}"):
            check_same("peer", "output", got, expected)


def test_runs_take_turns_and_are_timed_one_by_one() -> None:
    now, order = 0, []

    def run(name: str, *nanoseconds: int) -> Callable[[], None]:
        left = iter(nanoseconds)

        def call() -> None:
            nonlocal now
            order.append(name)
            now += next(left)

        return call

    runs = {"a": run("a", 99, 50, 1, 50, 7, 50, 4), "b": run("b", 99, 50, 5), "c": run("c", 99, 50, 2, 50, 2, 50, 9)}
    times = interleaved(runs, rounds=3, at_most={"b": 1}, clock=lambda: now)
    assert "".join(order) == "abc" + "aabbcc" + "aacc" + "aacc"
    assert times == {"a": Times((1, 7, 4)), "b": Times((5,)), "c": Times((2, 2, 9))}
    assert times["a"].ms == pytest.approx(4e-6)
    assert times["a"].quartiles_ms == pytest.approx((2.5e-6, 5.5e-6))

    order.clear()
    interleaved({"a": run("a", *[1] * 8), "b": run("b", *[1] * 8)}, rounds=2, block=2, clock=lambda: now)
    assert "".join(order) == "aabb" + "aaabbb" * 2


def test_operations_are_those_counted_by_hand() -> None:
    work = Work("two layers", batch=3, steps=5, inputs=2, hidden=4, layers=2)
    # 15 rows; each gate of 4 units takes products of 2 + 4, and above of 4 + 4 numbers, two operations each
    by_gate = 15 * 2 * 4 * ((2 + 4) + (4 + 4))
    assert {cell: work.flops(cell) for cell in CELLS} == {"rnn": by_gate, "gru": 3 * by_gate, "lstm": 4 * by_gate}
    assert work.flops("gru", train=True) == 9 * by_gate


def test_the_exponent_is_that_of_the_law() -> None:
    assert growth.exponent([1, 2, 4, 8], [5, 20, 80, 320]) == pytest.approx(2)
    rows: list[Row] = [
        {"axis": "n", "size": n, "runner": "ours", "ms": 1.0 if n < 4 else float(n)} for n in (1, 2, 4, 8)
    ]
    rows.append({"axis": "n", "size": 16, "runner": "ours", "ms": None})
    (law,) = growth.laws(rows)
    assert law["exponent_at_the_end"] == pytest.approx(1)
    assert law["exponent"] == pytest.approx(1.1)  # of the points (0, 0), (1, 0), (2, 2), (3, 3): 5.5 / 5


def test_what_would_take_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "TOO_LONG", 1e-9)
    rows = growth.series("n", (1, 10**9), lambda size: {"ours": lambda: size}, 1, lambda _: None)
    assert [row["ms"] is None for row in rows] == [False, True]


def test_the_ratio_over_the_cells_is_a_geometric_mean() -> None:
    rows: list[Row] = [{"work": "copy", "ratio": 2.0}, {"work": "copy", "ratio": 8.0}]
    (mean,) = forward_train.means(rows, [Work("copy", 1, 1, 1, 1, 1)])
    assert mean["geometric_mean_ratio"] == pytest.approx(4)


def test_without_native_kernels_the_peak_is_called_a_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "why_not", lambda: "not compiled")
    peak = machine.measured_peak.__wrapped__(0.01)
    assert peak.gflops > 0
    assert "a stand-in" in peak.source


def test_tables_for_people_leave_out_what_says_nothing() -> None:
    rows: list[Row] = [
        {"peer": "loop", "ms": 1234.5678, "quartiles_ms": (0.00123, 12.345), "why_not": ""},
        {"peer": "other", "ms": None, "quartiles_ms": None, "why_not": ""},
    ]
    page = to_markdown("streamdrnn bench", {"cores": 2}, [Table("t", "Title", rows, ("A note.",))], ["t.png"])
    assert (
        "| peer | ms | quartiles ms |\n| --- | ---: | ---: |\n| loop | 1235 | 0.00123\u201312.3 |\n| other | - | - |"
        in page
    )
    assert "\n- cores: 2\n" in page
    assert "![t](t.png)" in page
    assert json.loads(to_json("c", {}, [Table("t", "Title", rows)]))["tables"]["t"]["rows"][1]["ms"] is None


def test_brackets_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_tables({}, [Table("t", "Title", [{"why_not": "streamdrnn[bench]"}])])
    assert "streamdrnn[bench]" in capsys.readouterr().out


@pytest.mark.usefixtures("_compiler_forgets")
def test_results_are_written(bench: Bench, tmp_path: Path) -> None:
    out = tmp_path / "new" / "results"
    suites = ("--suite", "growth", "stream", "train", "forward")
    code, printed, err = bench("--quick", *suites, "--cell", "lstm", "--repeats", 2, "--out", out, "--json")
    assert code == 0, err
    result = json.loads(printed)
    assert result["command"] == (
        "streamdrnn bench --suite growth stream train forward --cell lstm --repeats 2 --quick --out FOLDER --json"
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
    plots = sorted(path.name for path in out.glob("*.png"))
    assert plots == ["forward.png", "growth.png", "stream.png", "train.png"]
    assert all(f"]({name})" in page for name in plots)
    assert all((out / name).read_bytes().startswith(b"\x89PNG") for name in plots)
    for text in (page, printed):
        assert str(tmp_path) not in text
        assert str(Path(__file__).parents[2]) not in text
        assert not any(word.startswith("/") and len(word) > 1 for word in text.split())


def test_tables_are_printed(bench: Bench) -> None:
    code, printed, err = bench("--quick", "--suite", "growth", "--repeats", 1)
    assert code == 0, err
    for words in ("backend", "Cost against size", "exponent", "live streams"):
        assert words in printed
    assert "growth: batch 1" in err


def test_what_cannot_work_is_one_line(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(Work, "input", lambda self: torch.full((self.steps, self.batch, self.inputs), torch.nan))
    quick = ("--quick", "--suite", "forward")
    wrong: list[tuple[tuple[object, ...], str]] = [
        ((*quick, "--repeats", 0), "repeats: got 0"),
        ((*quick, "--out", tmp_path / "file"), "File exists"),
        ((*quick, "--json"), "differs from ours by nan"),
    ]
    for arguments, problem in wrong:
        code, printed, err = bench(*arguments)
        assert code == 1
        assert not printed
        assert problem in err
    assert bench("--suite", "juggling")[0] == 2
    for package, arguments in {"matplotlib": ("--out", tmp_path), "rich": ()}.items():
        monkeypatch.setitem(sys.modules, package, None)
        code, _, err = bench(*quick, *arguments)
        assert code == 1
        assert err.startswith("streamdrnn: ")
        assert f"need {package}: pip install 'streamdrnn[bench]'" in err


@needs_memory
def test_memory_is_measured_and_drawn(tmp_path: Path) -> None:
    work = Work("some", batch=8, steps=1000, inputs=4, hidden=16, layers=3)
    (table,) = memory.measure([work], ["gru"], lambda _: None)
    (row,) = table.rows
    one_output = 8 * 1000 * 16 * 4 / 2**20
    assert float(str(row["ours_mib"])) > one_output
    assert float(str(row["reshape_mib"])) > 3 * one_output
    assert draw([table], tmp_path) == ["memory.png"]


@needs_memory
def test_a_probe_that_fails_says_why() -> None:
    with pytest.raises(ValueError, match="memory of ours for none, gru: ValueError: dilations"):
        memory.probe(Work("none", 1, 1, 1, 1, layers=0), "gru", "ours")


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
