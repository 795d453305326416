"""Which way of cutting a recurrence into programs is taken, and when the ways are timed."""

from collections.abc import Callable
from typing import Optional

import pytest
import torch

from streamdrnn.kernels.gpu import plans
from streamdrnn.kernels.gpu.plans import ON_CHIP, Plan, candidates, choose
from tests.kernels.cases import needs_triton
from tests.kernels.offered import ROWS, SIZES
from tests.strategies import CELLS

A, B, C = Plan(1, 16, 1), Plan(1, 32, 4), Plan(16, 32, 4, dot=True)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("tensor_cores", [False, True])
def test_candidates_are_few_and_can_compute_what_they_are_for(cell: str, tensor_cores: bool) -> None:
    for H in SIZES:
        for rows in ROWS:
            found = candidates(cell, H, tensor_cores, rows)
            assert 1 <= len(found) <= 3
            assert len(set(found)) == len(found)
            for plan in found:
                assert plan.inputs or plan.units >= H
                assert plan.inputs or H <= ON_CHIP
                assert tensor_cores or plan.inputs or not plan.dot  # else products are rounded
                assert plan.inputs or not plan.spread
                assert plan.registers * plan.warps * 32 <= 65536
                if plan.dot:  # the least that tensor cores take
                    assert plan.rows >= 16
                    assert plan.units >= 16
                    assert plan.inputs in (0, 16, 32)


@pytest.mark.parametrize("cell", CELLS)
def test_of_plans_for_one_row_the_one_with_fewer_warps_is_first_however_many_rows_there_are(cell: str) -> None:
    for H in SIZES:
        for rows in ROWS:
            warps = [plan.warps for plan in candidates(cell, H, True, rows) if plan.rows == 1]
            assert warps == sorted(warps)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """The plans that were timed; on a GPU of which B is the fastest plan, and nothing forbids to time."""
    seen: list[Plan] = []

    def do_bench(run: Callable[[], object], **_: object) -> float:
        plan = run()
        assert isinstance(plan, Plan)
        seen.append(plan)
        return {A: 3.0, B: 1.0, C: 2.0}[plan]

    import triton.testing

    monkeypatch.setattr(triton.testing, "do_bench", do_bench)
    monkeypatch.setattr(plans, "_chosen", {})
    monkeypatch.setattr(plans, "interpreted", lambda: False)
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    return seen


def pick(key: str, given: Optional[list[Plan]] = None) -> Plan:
    return choose(key, [A, B, C] if given is None else given, lambda plan: plan)


@needs_triton
def test_the_fastest_is_taken_and_timed_once_per_kind_of_call(timed: list[Plan]) -> None:
    assert pick("one") == B
    assert timed == [A, B, C]
    assert pick("one") == B
    assert len(timed) == 3
    assert pick("another", [A, C]) == C
    assert timed[3:] == [A, C]


@needs_triton
def test_a_single_candidate_is_not_timed(timed: list[Plan]) -> None:
    assert pick("one", [C]) == C
    assert not timed


@needs_triton
@pytest.mark.parametrize("where", ["interpreter", "deterministic", "capture"])
def test_where_timing_is_wrong_the_first_is_taken_and_nothing_remembered(
    where: str, timed: list[Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plans' sums differ in their last bits, so which is taken must not depend on the clock where bits matter."""
    with monkeypatch.context() as patch:
        if where == "interpreter":
            patch.setattr(plans, "interpreted", lambda: True)
        elif where == "deterministic":
            patch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
        else:
            patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        assert pick("one") == A
        assert not timed
    assert pick("one") == B


@needs_triton
def test_deterministic_algorithms_do_not_depend_on_what_was_timed_before(
    timed: list[Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pick("one") == B
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    assert pick("one") == A
