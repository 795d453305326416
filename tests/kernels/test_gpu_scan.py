"""The recurrence's Triton kernels against float64, however it is cut into programs and whatever the sizes.

Without a GPU, Triton's interpreter runs them.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Optional

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
    from streamdrnn.kernels.gpu.weights import precision_of, rounded

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
    Case("gru", T=11, H=20, d=5, cursor=(0, 5, 2**55)),
    Case("lstm", T=7, H=50, d=1, cursor=(3,)),
    Case("rnn", T=4, H=65, d=7, cursor=(1, 2)),  # some phases make no step
    Case("gru", T=2, H=65, d=5, cursor=(1,), lengths=(2,)),
    Case("lstm", T=2, H=130, d=3, cursor=(0, 7**20, 2), lengths=(2, 0, 1)),
    Case("gru", T=3, H=200, d=2, cursor=(1,), bias=False),
    Case("rnn", T=3, I=1, H=1, d=1, cursor=(0,)),
    Case("lstm", T=1, H=16, d=20, cursor=(19,), bias=False),
    Case("gru", T=1, H=128, d=1, cursor=(2**62,)),
    Case("lstm", T=4, H=1, d=2, cursor=(2, 9), lengths=(0, 0)),
]


TF32 = [plan for cell, plan in PLANS if cell == "rnn" and plan.dot]


@pytest.fixture
def _tf32() -> Iterator[None]:
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    yield
    torch.backends.cuda.matmul.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")


@pytest.mark.usefixtures("_tf32")
@pytest.mark.parametrize("plan", TF32, ids=str)
def test_operands_of_tensor_cores_are_rounded_to_the_nearest(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the kernels, as the interpreter's product cuts nothing off. To cut would be wrong by twice as much."""
    H = min(plan.units, 40)
    random = torch.Generator().manual_seed(1)
    w, h, gi = (torch.randn(shape, generator=random) for shape in ((H, H), (1, 1, H), (1, 1, H)))
    monkeypatch.setattr(scan, "choose", lambda *_: plan)
    none, zero = torch.zeros(0), torch.zeros(1, dtype=torch.int64)
    history, _, _ = scan.forward("rnn", gi, w, None, h, none, zero, None, False)
    nearest = torch.tanh(gi[0, 0] + to_tf32(h[0, 0]) @ to_tf32(w).T)
    torch.testing.assert_close(history.h[1, 0], nearest, rtol=0, atol=1e-6)


def to_tf32(x: Tensor) -> Tensor:
    """With a significand of 11 bits."""
    significand, exponent = np.frexp(x.double().numpy())
    away = np.copysign(np.floor(np.abs(significand) * 2**11 + 0.5), significand)
    return torch.from_numpy(np.ldexp(away / 2**11, exponent).astype(np.float32))


@pytest.mark.usefixtures("_tf32")
def test_weights_are_rounded_as_operands_are_and_no_nan_becomes_a_number() -> None:
    x = torch.cat([torch.randn(1000), torch.tensor([1 + 2**-11, -1 - 2**-11, 1 + 2**-11 - 2**-20, 0.0, 3e38])])
    assert torch.equal(rounded(x), to_tf32(x))
    odd = torch.tensor([float("nan"), float("inf"), -float("inf")])
    largest = torch.tensor([0x7FFFFFFF], dtype=torch.int32).view(torch.float32)  # the NaN of GPUs
    assert torch.equal(rounded(odd)[1:], odd[1:])
    assert rounded(torch.cat([odd[:1], largest])).isnan().all()


def test_every_switch_of_torch_is_understood() -> None:
    matmul = torch.backends.cuda.matmul
    try:
        for precision, want in (("high", "tf32"), ("medium", "tf32"), ("highest", "ieee")):
            torch.set_float32_matmul_precision(precision)
            assert precision_of(torch.float32) == want
            assert precision_of(torch.bfloat16) == "ieee"
        for precision in ("tf32", "ieee"):
            matmul.fp32_precision = precision
            assert precision_of(torch.float32) == precision
        matmul.fp32_precision = "none"
        torch.backends.fp32_precision = "tf32"  # type: ignore[attr-defined]
        assert precision_of(torch.float32) == "tf32"
    finally:
        torch.backends.fp32_precision = "none"  # type: ignore[attr-defined]
        torch.set_float32_matmul_precision("highest")
    assert precision_of(torch.float32) == "ieee"


@pytest.mark.parametrize("case", AWKWARD, ids=lambda c: f"{c.cell} T={c.T} B={len(c.cursor)} H={c.H} d={c.d}")
def test_awkward_sizes(case: Case) -> None:
    agrees(case)


@pytest.fixture
def _with_plan(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "choose", lambda key, plans, run: request.param)


@pytest.mark.parametrize(
    ("cell", "_with_plan"),
    # The LSTM has every argument that there is; with it plans of one cell stand for those of all.
    [pytest.param(*one, marks=pytest.mark.full if one[0] != CELLS[-1] else []) for one in PLANS],
    indirect=["_with_plan"],
    ids=str,
)
@pytest.mark.usefixtures("_with_plan")
def test_every_plan_agrees(cell: str, request: pytest.FixtureRequest) -> None:
    """With a last program that is not full, tiles that are cut, streams that end early and phases that never begin."""
    plan: Plan = request.node.callspec.params["_with_plan"]
    H = 3 * plan.units // 2 + 3 if plan.inputs else plan.units // 2 + 3
    sizes = {1: (3, 2, (7, 2**40 + 1)), 16: (9, 6, (1, 2, 2**40)), 64: (7, 23, (1, 2, 2**40))}
    T, d, cursor = sizes[plan.rows]
    agrees(Case(cell, T, I=2, H=H, d=d, cursor=cursor, lengths=(T, T // 2, 1)[: len(cursor)]))


@examples(5)
@given(case=few_wide_cases, data=st.data())
def test_any_plan_in_any_size(case: Case, data: st.DataObject) -> None:
    plan = data.draw(st.sampled_from([plan for plan in offered(case.cell) if plan.inputs or plan.units >= case.H]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "choose", lambda key, plans, run: plan)
        agrees(case, data.draw(st.sampled_from(["yhc", "y", "h"])))


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
