"""Suite ``cycles``: every plan of every kernel is there, and what was predicted does not get worse."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamdrnn.apps.bench import predictions
from streamdrnn.apps.bench.session import Session
from streamdrnn.apps.bench.target import TARGETS
from streamdrnn.apps.bench.workloads import QUICK_SIZES, SIZES
from streamdrnn.kernels import gpu
from streamdrnn.kernels.gpu.plans import NEWTON_SWITCH, candidates
from tests.apps.bench.conftest import Outcome
from tests.kernels.cases import needs_triton
from tests.strategies import CELLS

pytestmark = needs_triton


def session(quick: bool) -> Session:
    sizes = (QUICK_SIZES if quick else SIZES)["model"]
    return Session(TARGETS["model"](), sizes, (), (), 1, quick, lambda _: None)


@pytest.mark.skipif(not gpu.interpreted(), reason="kernels that are not interpreted would be compiled")
@pytest.mark.parametrize("cell", CELLS)
def test_every_plan_of_every_kernel_is_there(cell: str) -> None:
    found = list(predictions.launches(session(False), cell))  # type: ignore[arg-type]
    assert {one.kernel for one in found} == {"scan", "step", "skewed"}
    for direction in ("forward", "backward"):
        seen = {(one.precision, one.plan) for one in found if (one.kernel, one.direction) == ("scan", direction)}
        for units in session(False).sizes.axes["hidden units"]:
            for precision in ("ieee", "tf32"):
                for plan in candidates(cell, units, precision != "ieee", predictions.ROWS):
                    assert plan.spread or (precision if plan.dot else "ieee", predictions.named(plan)) in seen
    assert [one.precision for one in found if one.kernel == "step"] == ["ieee", "tf32"] * 2
    (nine,) = {one.plan for one in found if (one.kernel, one.units, one.layers) == ("skewed", 20, 9)}
    assert nine == "256 columns, 1 threads"


@pytest.mark.skipif(not gpu.interpreted(), reason="kernels that are not interpreted would be compiled")
def test_newtons_method_has_no_kernel_to_predict(monkeypatch: pytest.MonkeyPatch) -> None:
    without = [one.plan for one in predictions.launches(session(False), "gru")]
    monkeypatch.setenv(NEWTON_SWITCH, "1")
    assert [one.plan for one in predictions.launches(session(False), "gru")] == without


@pytest.mark.skipif(not gpu.interpreted(), reason="kernels that are not interpreted would be compiled")
def test_the_interpreter_is_refused_in_one_line(bench: Callable[..., Outcome]) -> None:
    code, printed, err = bench("--device", "model", "--quick", "--json")
    assert (code, printed) == (1, "")
    assert err == "streamdrnn: --device model compiles the kernels, which TRITON_INTERPRET=1 forbids: unset it\n"


def compiled(*options: str) -> list[dict[str, Any]]:
    """The rows of the table, in a process without the interpreter."""
    command = [sys.executable, "-m", "streamdrnn.apps.cli", "bench", "--device", "model", *options, "--json"]
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    root = Path(__file__).parents[3]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)["tables"]["cycles"]["rows"]
    return rows


@pytest.mark.full
def test_nine_layers_of_20_are_predicted_as_they_were() -> None:
    """More would be a loss that nobody asked for; fewer are welcome, and become the new bound."""
    rows = compiled("--cell", "gru", "--precision", "ieee")
    for what, most in (("inference", 580), ("training, forward", 625), ("backward", 650)):
        (found,) = (row for row in rows if (row["kernel"], row["pass"], row["units"]) == ("skewed", what, 20))
        assert (found["spilled"], found["shared_bytes"]) == (0, 0)
        assert found["near_cycles"] <= most
    assert not any(row["spilled"] for row in rows)
