"""The recurrence's Triton kernels against float64, however it is cut into programs and whatever the sizes.

Without a GPU, Triton's interpreter runs them.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Optional

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from streamdrnn.kernels import gpu
from streamdrnn.kernels.gpu.plans import Plan
from tests.agreement import assert_all_close, assert_gradients_close
from tests.kernels.cases import Case, few_wide_cases, needs_triton
from tests.kernels.offered import offered
from tests.strategies import CELLS, examples

pytestmark = needs_triton
every_cell = pytest.mark.parametrize("cell", CELLS)

if not gpu.why_not():  # else Triton may not be installed
    from streamdrnn.kernels.gpu import scan

PLANS = [(cell, plan) for cell in CELLS for plan in offered(cell)]


def agrees(case: Case, outputs: str = "yhc") -> None:
    """Results and all gradients are those of the reference in float64."""
    case = replace(case, dtype=torch.float32)
    exact = case.run(case.arguments().double(), "reference")
    want = [t.float() if t is not None and t.is_floating_point() else t for t in exact]
    assert_all_close(case.run(case.arguments(), "triton"), want, "result")
    gradients = case.gradients("reference", outputs, case.arguments().double())
    assert_gradients_close(case.gradients("triton", outputs), [g.float() for g in gradients])


AWKWARD = [
    Case("gru", T=31, H=20, d=9, cursor=(0, 5, 2**55)),
    Case("lstm", T=7, H=50, d=1, cursor=(3,)),
    Case("rnn", T=4, H=65, d=7, cursor=(1, 2)),  # some phases make no step
    Case("gru", T=2, H=65, d=5, cursor=(1,), lengths=(2,)),
    Case("lstm", T=2, H=130, d=3, cursor=(0, 7**20, 2), lengths=(2, 0, 1)),
    Case("gru", T=3, H=200, d=2, cursor=(0, 1, 4), bias=False),
    Case("rnn", T=3, I=1, H=1, d=1, cursor=(0,)),
    Case("lstm", T=1, H=16, d=40, cursor=(39,), bias=False),
    Case("gru", T=1, H=128, d=1, cursor=(2**62,)),
    Case("lstm", T=4, H=1, d=2, cursor=(2, 9), lengths=(0, 0)),
]


@pytest.mark.parametrize("case", AWKWARD, ids=lambda c: f"{c.cell} T={c.T} B={len(c.cursor)} H={c.H} d={c.d}")
def test_awkward_sizes(case: Case) -> None:
    agrees(case)


@pytest.fixture
def _with_plan(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "choose", lambda key, plans, run: request.param)


@pytest.mark.parametrize(("cell", "_with_plan"), PLANS, indirect=["_with_plan"], ids=str)
@pytest.mark.usefixtures("_with_plan")
def test_every_plan_agrees(cell: str, request: pytest.FixtureRequest) -> None:
    """With a last program that is not full, tiles that are cut, streams that end early and phases that never begin."""
    plan: Plan = request.node.callspec.params["_with_plan"]
    H = 3 * plan.units // 2 + 3 if plan.inputs else plan.units // 2 + 3
    sizes = {1: (3, 2, (7, 2**40 + 1)), 16: (9, 6, (1, 2, 2**40)), 64: (7, 23, (1, 2, 2**40))}
    T, d, cursor = sizes[plan.rows]
    agrees(Case(cell, T, I=2, H=H, d=d, cursor=cursor, lengths=(T, T // 2, 1)[: len(cursor)]))


@examples(8)
@given(case=few_wide_cases, data=st.data())
def test_any_plan_in_any_size(case: Case, data: st.DataObject) -> None:
    plan = data.draw(st.sampled_from([plan for plan in offered(case.cell) if plan.inputs or plan.units >= case.H]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "choose", lambda key, plans, run: plan)
        agrees(case, data.draw(st.sampled_from(["yhc", "y", "h"])))


@pytest.fixture
def _watched_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In the interpreter, every address that a kernel reads or writes lies in one of its arguments.

    On a GPU such an access may hit a page that is not there, or another tensor, or pass unseen.
    """
    from triton.runtime import interpreter

    inside: list[tuple[int, int]] = []
    accesses = []
    launch = interpreter.GridExecutor.__call__

    def watched(self: Any, *arguments: Any, **options: Any) -> None:
        tensors = [t for t in (*arguments, *options.values()) if isinstance(t, Tensor) and t.numel()]
        assert all(t.is_contiguous() for t in tensors)
        inside[:] = [(t.data_ptr(), t.data_ptr() + t.numel() * t.element_size()) for t in tensors]
        launch(self, *arguments, **options)

    def check(pointers: Any, mask: Any) -> None:
        addresses = pointers.data[mask.data.astype(bool)]
        accesses.append(addresses.size)
        found = np.zeros(addresses.shape, dtype=bool)
        for start, end in inside:
            found |= (addresses >= start) & (addresses < end)
        assert found.all(), "an access outside of all arguments"

    load, store = interpreter.InterpreterBuilder.create_masked_load, interpreter.InterpreterBuilder.create_masked_store

    def checked_load(self: Any, pointers: Any, mask: Any, *more: Any) -> Any:
        check(pointers, mask)
        return load(self, pointers, mask, *more)

    def checked_store(self: Any, pointers: Any, value: Any, mask: Any, *more: Any) -> Any:
        check(pointers, mask)
        return store(self, pointers, value, mask, *more)

    monkeypatch.setattr(interpreter.GridExecutor, "__call__", watched)
    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_masked_load", checked_load)
    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_masked_store", checked_store)
    yield
    assert sum(accesses) > 0


@pytest.mark.skipif(not gpu.interpreted(), reason="the interpreter alone can be watched")
@pytest.mark.parametrize("rows", [1, 16, 64])
@every_cell
@pytest.mark.parametrize("lengths", [None, (2, 0, 1)])
@pytest.mark.usefixtures("_watched_memory")
def test_no_access_outside_the_arguments(
    cell: str, rows: int, lengths: Optional[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer steps than phases, streams and units that fill no tile."""
    plan = next(plan for plan in offered(cell) if plan.rows == rows)
    monkeypatch.setattr(scan, "choose", lambda key, plans, run: plan)
    H = 35 if plan.inputs else 5
    agrees(Case(cell, T=2, I=2, H=H, d=4, cursor=(0, 3, 2**40), lengths=lengths))
