"""The engine of the benchmark: what is right is timed in turns, and nothing else is."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import pytest
import torch
from torch import Tensor, nn

from streamdrnn.apps.bench import contenders, growth, jobs, sequences, stream, suites
from streamdrnn.apps.bench.agreement import Errors, check_same, max_with_nan
from streamdrnn.apps.bench.choices import Precision, SuiteName
from streamdrnn.apps.bench.comparison import Comparison, compare
from streamdrnn.apps.bench.contenders import Network, of_model
from streamdrnn.apps.bench.jobs import MOST_INPUTS, Passes, Steps, input_sets
from streamdrnn.apps.bench.plots import draw
from streamdrnn.apps.bench.session import Session
from streamdrnn.apps.bench.suites import Suite
from streamdrnn.apps.bench.tables import Table
from streamdrnn.apps.bench.target import clock_after
from streamdrnn.apps.bench.timing import Times, Turns, interleaved
from streamdrnn.apps.bench.workloads import Case
from tests.apps.bench.stand_in import STAND_IN, WORKLOAD, on_cpu, session


def outcomes(found: Comparison) -> list[tuple[str, bool, str]]:
    return [(name, outcome.times is not None, outcome.why_not) for name, outcome in found.outcomes.items()]


def broken(*_: Any) -> Any:
    raise RuntimeError("/a/path/of/this/machine")


def test_a_failure_of_ours_is_told_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(contenders.SEQUENCES, "ours", broken)
    monkeypatch.setitem(contenders.SEQUENCES, "torch", broken)
    run = session()
    case = Case(WORKLOAD, "rnn")
    (found,) = compare(run, "here", case, Passes, {"ieee": ("ours", "reshape", "torch")})
    assert outcomes(found) == [
        ("ours", False, "failed with RuntimeError"),
        ("reshape", True, ""),
        ("torch", False, "failed with RuntimeError"),
    ]
    assert run.problems == ["here, ieee, ours failed with RuntimeError"]
    assert "/a/path/of/this/machine" in capsys.readouterr().err


def test_a_failure_of_the_reference_fails_its_comparison_only() -> None:
    run = session()
    found = compare(run, "here", Case(WORKLOAD, "gru"), broken, {"tf32": ("ours", "reshape"), "bf16": ("ours",)})
    failure = (False, "failed with RuntimeError")
    assert [outcomes(one) for one in found] == [[("ours", *failure), ("reshape", *failure)], [("ours", *failure)]]
    assert run.problems == ["here failed with RuntimeError"]


@pytest.mark.parametrize(
    ("measure", "make"),
    [
        (lambda run: sequences.on_gpu(run, train=True), session),
        (growth.on_gpu, session),
        (stream.on_gpu, session),
        (lambda run: sequences.on_cpu(run, train=False), on_cpu),
    ],
)
def test_when_the_time_is_over_nothing_begins(
    measure: Callable[[Session], list[Table]], make: Callable[[], Session], tmp_path: Path
) -> None:
    run = make()
    run.until = 0.0
    tables = measure(run)
    told = [row["why_not"] for table in tables for row in table.rows if "why_not" in row]
    assert set(told) <= {"not measured: the suite's time was over"}
    assert not any(isinstance(row.get("ms"), float) for table in tables for row in table.rows)
    assert draw(tables, tmp_path) == []


def test_suites_share_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    seen: list[tuple[float, bool]] = []

    def takes(seconds: float) -> Callable[[Session], list[Table]]:
        def measure(run: Session) -> list[Table]:
            nonlocal now
            now += seconds
            seen.append((run.until, run.over))
            return []

        return measure

    of_device: dict[SuiteName, Suite] = {
        "forward": Suite(takes(10), share=1),  # leaves 8 seconds
        "train": Suite(takes(70), share=2),  # a comparison that had begun took long
        "growth": Suite(takes(1), share=2),
        "stream": Suite(takes(1), share=100),
    }
    monkeypatch.setitem(suites.SUITES, "cuda", of_device)
    measured = suites.measure(session(STAND_IN._replace(total_seconds=90)), ("growth", "train", "forward"))
    assert [name for name, _ in measured] == ["forward", "train", "growth"]
    assert [round(until) for until, _ in seen] == [118, 150, 190]
    assert [over for _, over in seen] == [False, True, False]
    seen.clear()
    asked: tuple[SuiteName, ...] = ("forward",)
    list(suites.measure(session(), asked))
    assert seen == [(math.inf, False)]


def test_runs_take_turns_and_are_timed_one_by_one() -> None:
    now, order = 0, []

    def run(name: str, *nanoseconds: int) -> Callable[[], None]:
        left = iter(nanoseconds)

        def call() -> None:
            nonlocal now
            order.append(name)
            now += next(left)

        return call

    runs = {"a": run("a", 50, 1, 50, 7, 50, 4), "b": run("b", 50, 2, 50, 2, 50, 9)}
    times = interleaved(runs, Turns(3), clock=lambda: now)
    assert "".join(order) == "aabb" * 3
    assert times == {"a": Times((1, 7, 4)), "b": Times((2, 2, 9))}
    assert times["a"].ms == pytest.approx(4e-6)
    assert times["a"].quartiles_ms == pytest.approx((2.5e-6, 5.5e-6))

    order.clear()
    interleaved({"a": run("a", *[1] * 6), "b": run("b", *[1] * 6)}, Turns(2, block=2), clock=lambda: now)
    assert "".join(order) == "aaabbb" * 2


@pytest.mark.parametrize(("milliseconds", "turns"), [(1, 21), (10, 15), (100, 3), (5000, 3), (0, 21)])
def test_turns_fit_their_time(milliseconds: int, turns: int) -> None:
    now = 0

    def run() -> None:
        nonlocal now
        now += milliseconds * 10**6

    times = interleaved({"a": run}, Turns(21, seconds=0.3, fewest=3), clock=lambda: now)
    assert len(times["a"].nanoseconds) == turns


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
def test_errors_have_limits(errors: Errors, precision: Precision, excess: str) -> None:
    assert errors.excess(precision) == excess


def test_one_nan_is_enough() -> None:
    assert math.isnan(max_with_nan([1.0, float("nan"), 2.0]))
    assert max_with_nan([1.0, 3.0, 2.0]) == 3.0


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
def test_agreement(got: Tensor, problem: Optional[str]) -> None:
    expected = torch.tensor([1.0, 2.0])
    if problem is None:
        check_same("peer", "output", got, expected)
    else:
        with pytest.raises(ValueError, match=f"peer: output {problem}"):
            check_same("peer", "output", got, expected)


@pytest.mark.parametrize("train", [False, True])
def test_a_check_finds_what_is_wrong(train: bool) -> None:
    passes = Passes(STAND_IN, Case(WORKLOAD, "lstm", train))
    right = of_model(passes.model)
    errors = passes.errors(right, "ieee")
    assert errors.outputs < 1e-6
    assert (errors.gradients is None) == (not train)
    if train:  # the right outputs, and no gradient through time
        cut = Network(lambda x: right.forward(x.detach() + 0 * x), right.weights)
        assert passes.errors(cut, "ieee").outputs < 1e-6
        assert passes.errors(cut, "ieee").excess("bf16").startswith("wrong: gradients")
    else:
        with pytest.raises(ValueError, match=r"results of shapes .*\(12, 3, 5\)"):
            passes.errors(Network(lambda x: right.forward(x)[1:], right.weights), "ieee")


@pytest.mark.parametrize(
    ("limit", "value", "shape"), [("CHECKED_STATES", 2 * 13 * 5 * 3, (13, 2)), ("CHECKED_STEPS", 7, (7, 3))]
)
def test_a_large_batch_is_checked_in_part(
    limit: str, value: int, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, limit, value)
    passes = Passes(STAND_IN, Case(WORKLOAD, "gru"))
    seen: list[tuple[int, ...]] = []

    def forward(x: Tensor) -> Tensor:
        seen.append(tuple(x.shape[:2]))
        return of_model(passes.model).forward(x)

    assert passes.errors(Network(forward, []), "ieee").outputs < 1e-6
    assert seen == [shape]


def test_each_of_many_streams_steps_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong only when a ring is full is found, as is one wrong stream."""
    right = contenders.STEPS["torch"]

    def wrong_in_the_end(model: nn.Module, streams: int) -> Callable[[Tensor], Tensor]:
        step, at = right(model, streams), 0  # type: ignore[arg-type]

        def call(x_t: Tensor) -> Tensor:
            nonlocal at
            at += 1
            y_t = step(x_t).clone()
            y_t[-1] *= 1.1 if at > 2**WORKLOAD.layers else 1.0
            return y_t

        return call

    monkeypatch.setitem(contenders.STEPS, "torch", wrong_in_the_end)
    run = session()
    (found,) = compare(run, "here", Case(WORKLOAD, "gru"), Steps, {"ieee": ("ours", "torch")}, Turns(2, 3))
    assert [timed for _, timed, _ in outcomes(found)] == [True, False]
    assert found.outcomes["torch"].why_not.startswith("wrong: outputs")
    times = found.outcomes["ours"].times
    assert times is not None
    assert len(times.nanoseconds) == 6


@pytest.mark.parametrize(("cache_bytes", "sets"), [(0, 1), (4 * 13 * 3 * 2, 2), (10**9, MOST_INPUTS)])
def test_inputs_are_more_than_the_cache_holds(cache_bytes: int, sets: int) -> None:
    xs = input_sets(STAND_IN._replace(cache_bytes=cache_bytes), WORKLOAD)
    assert len(xs) == sets
    assert len({float(x.sum()) for x in xs}) == sets


def test_the_clock_waits_for_the_device() -> None:
    read: list[int] = []
    clock = clock_after(lambda: read.append(time.perf_counter_ns()))
    now = clock()
    assert len(read) == 1
    assert now >= read[0]


def test_what_would_take_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "TOO_LONG", 1e-9)
    run = on_cpu()
    rows = growth.series(run, "batch", (1, 2))
    assert [row["ms"] is None for row in rows] == [False, False, True, True]
    assert not run.problems
