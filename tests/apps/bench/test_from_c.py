"""Steps from C++: what `streamdrnn bench --rtneural` compiles, checks and refuses; with a stand-in for RTNeural."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from streamdrnn.apps.bench.stream import steps_from_c
from streamdrnn.apps.bench.tables import Row
from streamdrnn.apps.bench.workloads import QUICK_CPU, Workload
from tests.apps.bench.conftest import Outcome
from tests.apps.bench.stand_in import on_cpu
from tests.compiling import needs_compiler
from tests.kernels.cases import needs_native

pytestmark = [*needs_compiler, needs_native]
Bench = Callable[..., Outcome]
HEADER = Path("RTNeural", "RTNeural.h")
WORK = (
    Workload("a layer", batch=1, steps=20, inputs=3, hidden=8, layers=1),
    Workload("two layers", batch=1, steps=20, inputs=3, hidden=8, layers=2),
)


@pytest.fixture
def rtneural(tmp_path: Path) -> Path:
    return Path(shutil.copytree(Path(__file__).parent / "rtneural", tmp_path / "RTNeural"))


def measured(rtneural: Path) -> tuple[list[Row], list[str]]:
    """The table's rows, and what was wrong."""
    session = on_cpu()
    session.sizes = QUICK_CPU._replace(stream=QUICK_CPU.stream._replace(from_c=WORK))
    return steps_from_c(session, rtneural).rows, session.problems


def change(rtneural: Path, old: str, new: str) -> None:
    text = (rtneural / HEADER).read_text("utf-8")
    assert old in text
    (rtneural / HEADER).write_text(text.replace(old, new), "utf-8")


def test_steps_are_those_of_float64_and_are_timed(rtneural: Path) -> None:
    rows, problems = measured(rtneural)
    assert not problems
    assert [(row["work"], row["cell"], row["contender"]) for row in rows] == [
        *(
            ("a layer", cell, contender)
            for cell in ("gru", "lstm")
            for contender in ("ours", "RTNeural Eigen", "RTNeural xsimd", "RTNeural STL")
        ),
        ("two layers", "gru", "ours"),
        ("two layers", "lstm", "ours"),
    ]
    for row in rows:
        if row["contender"] in ("ours", "RTNeural STL"):
            assert float(str(row["ns_per_step"])) > 0
            assert float(str(row["output_error"])) < 1e-6
        else:
            assert "is not in RTNeural's folder: git submodule update --init" in str(row["why_not"])


def test_wrong_steps_have_no_time(rtneural: Path) -> None:
    change(rtneural, "(1 - z) * n", "(1.1f - z) * n")
    rows, problems = measured(rtneural)
    assert len(problems) == 1
    assert "stream: from C++, gru, a layer, I=3, ieee, RTNeural STL: wrong: outputs" in problems[0]
    times = {row["cell"]: row["ns_per_step"] for row in rows if row["contender"] == "RTNeural STL"}
    assert times["gru"] is None
    assert times["lstm"] is not None


def test_what_does_not_compile_is_said(rtneural: Path, capfd: pytest.CaptureFixture[str]) -> None:
    change(rtneural, "void setUVals", "void setOtherVals")
    rows, problems = measured(rtneural)
    assert not problems
    assert {row["why_not"] for row in rows if row["contender"] == "RTNeural STL"} == {"it does not compile here"}
    assert "setUVals" in capfd.readouterr().err


def test_what_cannot_be_measured_is_one_line(bench: Bench, rtneural: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: list[tuple[tuple[object, ...], str]] = [
        (("--suite", "stream", "--rtneural", rtneural / "RTNeural"), "expected a copy of RTNeural's repository"),
        (("--suite", "forward", "--rtneural", rtneural), "--rtneural: only on the CPU, with --suite stream"),
    ]
    for arguments, problem in wrong:
        code, printed, err = bench("--quick", *arguments)
        assert (code, printed) == (1, "")
        assert problem in err
        assert len(err.splitlines()) == 1
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    code, _, err = bench("--quick", "--suite", "stream", "--rtneural", rtneural)
    assert (code, err) == (1, "streamdrnn: --rtneural needs a C++ compiler: g++, clang++ or what CXX names\n")
