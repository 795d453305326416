"""What the benchmark says: its tables, laws and floors, and the machine that it ran on."""

import json
from types import SimpleNamespace

import pytest
import torch

from streamdrnn import kernels
from streamdrnn.apps.bench import ceilings, columns, growth, machine, sequences, target
from streamdrnn.apps.bench.ceilings import (
    Ceilings,
    Floors,
    dependent_steps,
    sequence_bytes,
    sequence_floors,
    step_bytes,
)
from streamdrnn.apps.bench.choices import CELLS, Cell, Precision
from streamdrnn.apps.bench.comparison import Comparison, Outcome
from streamdrnn.apps.bench.precision import float32_products, switches
from streamdrnn.apps.bench.report import print_tables, to_json, to_markdown
from streamdrnn.apps.bench.tables import Row, Table
from streamdrnn.apps.bench.timing import Times
from streamdrnn.apps.bench.workloads import Case, Workload
from tests.apps.bench.stand_in import WORKLOAD, on_cpu


def comparison(hidden: int, cell: Cell, precision: Precision, **ns: int) -> Comparison:
    workload = WORKLOAD._replace(name=f"H={hidden}", hidden=hidden)
    outcomes = {name: Outcome(Times((taken,)) if taken else None) for name, taken in ns.items()}
    return Comparison(Case(workload, cell, train=True), precision, outcomes)


def test_ratios_are_of_the_same_comparison() -> None:
    found = [
        comparison(4, "gru", "tf32", ours=10, reshape=40),
        comparison(4, "gru", "ieee", ours=20, reshape=30),
        comparison(4, "lstm", "tf32", ours=0, reshape=30),
        comparison(6, "gru", "tf32", ours=10, reshape=0),
    ]
    assert columns.pivot(found, "work cell contender", "precision") == [
        {"work": "H=4", "cell": "gru", "contender": "ours", "tf32": pytest.approx(4), "ieee": pytest.approx(1.5)},
        {"work": "H=4", "cell": "lstm", "contender": "ours", "tf32": None},
        {"work": "H=6", "cell": "gru", "contender": "ours", "tf32": None},
    ]
    assert columns.pivot(found, "hidden precision", "cell") == [
        {"hidden": 4, "precision": "tf32", "gru": pytest.approx(4), "lstm": None},
        {"hidden": 4, "precision": "ieee", "gru": pytest.approx(1.5)},
        {"hidden": 6, "precision": "tf32", "gru": None},
    ]
    rows = columns.rows(found, "contender times_ours turns")
    assert [row["times_ours"] for row in rows][:6] == [1, 4, 1, 1.5, None, None]
    assert [row["turns"] for row in rows][:6] == [1, 1, 1, 1, 0, 1]
    assert [row["contender"] for row in columns.rows(found, "contender", "reshape")] == ["reshape"] * 4


def test_the_ratio_over_the_cells_is_a_geometric_mean() -> None:
    found = [
        comparison(4, "gru", "ieee", ours=10, reshape=20),
        comparison(4, "lstm", "ieee", ours=10, reshape=80),
        comparison(4, "rnn", "ieee", ours=10, reshape=0),
        comparison(6, "gru", "ieee", ours=10, reshape=0),
    ]
    assert sequences.means(found) == [
        {"work": "H=4", "geometric_mean_ratio": pytest.approx(4)},
        {"work": "H=6", "geometric_mean_ratio": None},
    ]


def test_operations_are_those_counted_by_hand() -> None:
    workload = Workload("two layers", batch=3, steps=5, inputs=2, hidden=4, layers=2)
    # 15 rows; each gate of 4 units takes products of 2 + 4, and above of 4 + 4 numbers, two operations each
    by_gate = 15 * 2 * 4 * ((2 + 4) + (4 + 4))
    assert {cell: workload.flops(cell) for cell in CELLS} == {"rnn": by_gate, "gru": 3 * by_gate, "lstm": 4 * by_gate}
    assert Case(workload, "gru", train=True).flops == 9 * by_gate


def test_floors_are_those_counted_by_hand() -> None:
    workload = Workload("two layers", batch=3, steps=5, inputs=2, hidden=4, layers=2)
    gru, lstm = Case(workload, "gru"), Case(workload, "lstm")
    weights = 4 * (3 * 4 * (2 + 4 + 2) + 3 * 4 * (4 + 4 + 2))
    assert 4 * workload.weights("gru") == weights
    x, y = 4 * 5 * 3 * 2, 4 * 5 * 3 * 4
    assert sequence_bytes(gru, "tf32") == x + weights + y
    training = gru._replace(train=True)
    assert sequence_bytes(training, "tf32") == 2 * (x + weights + 2 * y) + y + weights
    assert sequence_bytes(training, "bf16") == 2 * (x + weights + y) + y + weights
    of_lstm = weights * 4 // 3
    assert 4 * workload.weights("lstm") == of_lstm
    assert sequence_bytes(lstm._replace(train=True), "ieee") == 2 * (x + of_lstm + 4 * y) + y + of_lstm
    assert step_bytes(gru) == weights + 4 * (3 * (2 + 4) + 2 * 3 * 4 * 2)
    assert dependent_steps(workload) == 5 + 3
    assert dependent_steps(workload._replace(dilation=4)) == 2 + 1
    measured = Ceilings(bytes_per_s=1e3, flop_per_s={"tf32": 1e4}, launch_s=1e-6)
    floors = sequence_floors(gru, "tf32", measured, step_s=0.5)
    assert floors == Floors((x + weights + y) / 1e3, workload.flops("gru") / 1e4, 4.0)
    assert floors.highest == 4.0
    assert sequence_floors(gru, "tf32", measured, None).highest == floors.bytes


def test_the_exponent_is_that_of_the_law() -> None:
    assert growth.exponent([1, 2, 4, 8], [5, 20, 80, 320]) == pytest.approx(2)
    rows: list[Row] = [
        {"axis": "n", "size": n, "runner": "ours", "ms": 1.0 if n < 4 else float(n)} for n in (1, 2, 4, 8)
    ]
    rows.append({"axis": "n", "size": 16, "runner": "ours", "ms": None})
    (law,) = growth.laws(rows)
    assert law["exponent_at_the_end"] == pytest.approx(1)
    assert law["exponent"] == pytest.approx(1.1)  # of the points (0, 0), (1, 0), (2, 2), (3, 3): 5.5 / 5


def test_without_native_kernels_the_peak_is_called_a_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    without = kernels.available() | {"cpu": kernels.Availability(False, "not compiled")}
    monkeypatch.setattr(kernels, "available", lambda: without)
    peak = ceilings.measured_peak(on_cpu().target, 0.01)
    assert peak.gflops > 0
    assert "a stand-in" in peak.source
    assert machine.cpu_facts()["backend"] == "torch"


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


def test_a_gpu_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(name="A GPU", multi_processor_count=7, total_memory=2**34, L2_cache_size=2**25)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    here = kernels.available() | {"triton": kernels.Availability(True)}
    monkeypatch.setattr(kernels, "available", lambda: here)
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


def test_without_triton_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    without = kernels.available() | {"triton": kernels.Availability(False, "no driver")}
    monkeypatch.setattr(kernels, "available", lambda: without)
    with pytest.raises(ValueError, match="--device cuda needs the backend triton: no driver"):
        target.gpu()


def test_precisions_set_torchs_switches_and_put_them_back() -> None:
    def cudnn_rnn() -> str:
        return str(torch.backends.cudnn.rnn.fp32_precision)  # type: ignore[attr-defined]

    before = switches()
    with float32_products("ieee"):
        assert switches() == (False, False)
        assert cudnn_rnn() != "tf32"
        with float32_products("tf32"):
            assert switches() == (True, True)
            assert cudnn_rnn() == "tf32"
        assert switches() == (False, False)
    assert switches() == before
