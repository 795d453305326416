"""All steps at once by Newton's method: against float64, and what happens where it does not converge."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamdrnn import Classifier, load_model
from streamdrnn.kernels import gpu
from streamdrnn.kernels.gpu import newton, plans
from streamdrnn.kernels.gpu.plans import MOST_UNITS_OF_NEWTON, NEWTON, NEWTON_SWITCH, candidates
from tests.agreement import assert_all_close, assert_close, assert_states_close
from tests.kernels.cases import DEVICE, Case, few_wide_cases, needs_triton
from tests.kernels.test_gpu_scan import agrees
from tests.strategies import CELLS, Network, examples, randn

pytestmark = needs_triton
every_cell = pytest.mark.parametrize("cell", CELLS)


@pytest.fixture(autouse=True, scope="module")
def _asked_for() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(NEWTON_SWITCH, "1")
        yield


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """What ``newton.forward`` and ``newton.backward`` found, call by call."""
    seen: dict[str, list[Any]] = {"forward": [], "backward": []}
    for name, results in seen.items():
        monkeypatch.setattr(newton, name, partial(_seen, getattr(newton, name), results))
    return seen


def _seen(compute: Callable[..., Any], results: list[Any], *given: Any) -> Any:
    results.append(compute(*given))
    return results[-1]


AWKWARD = [
    Case("rnn", T=40, H=7, d=1, cursor=(3,)),
    Case("gru", T=11, H=32, d=5, cursor=(0, 5, 2**55)),
    Case("lstm", T=37, H=5, d=2, cursor=(3,)),
    Case("lstm", T=3, H=20, d=7, cursor=(1, 2)),  # some phases make no step
    Case("gru", T=30, H=6, d=4, cursor=(3, 9, 0), lengths=(30, 0, 17), bias=False),
    Case("lstm", T=30, H=6, d=4, cursor=(3, 9, 0), lengths=(30, 2, 17)),
    Case("rnn", T=2, H=1, d=4, cursor=(3, 9, 0), lengths=(2, 0, 1)),
]


@pytest.mark.parametrize("case", AWKWARD, ids=lambda c: f"{c.cell} T={c.T} B={len(c.cursor)} H={c.H} d={c.d}")
@pytest.mark.parametrize("windows", ["one window", "a window for each step"])
def test_awkward_sizes(case: Case, windows: str, found: dict[str, list[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    if windows != "one window":
        monkeypatch.setattr(newton, "MOST_NUMBERS", 1)
    agrees(case)
    assert len(found["forward"]) == 2, "once for results, once for gradients"
    assert all(found["forward"])
    assert found["backward"] == [True]


@examples(20)
@given(case=few_wide_cases, data=st.data())
def test_any_size(case: Case, data: st.DataObject) -> None:
    outputs, few = data.draw(st.sampled_from(["yhc", "y", "h"])), data.draw(st.booleans())
    with pytest.MonkeyPatch.context() as patch:
        if few:
            patch.setattr(newton, "MOST_NUMBERS", 5000)
        agrees(replace(case, H=min(case.H, MOST_UNITS_OF_NEWTON)), outputs)


@every_cell
def test_a_network_and_its_streams(cell: str, found: dict[str, list[Any]]) -> None:
    """With a fusion; chunks of it continue one another."""
    network = Network(3, (5, 6), (2, 3), cell, dtype=torch.float32)
    model, reference = (network.build(name).to(DEVICE) for name in ("triton", "reference"))
    x = network.x(17, 2).to(DEVICE)
    with torch.no_grad():
        want, end = reference(x)
        first, state = model(x[:6])
        second, state = model(x[6:], state)
    assert_close(torch.cat([first, second]), want)
    assert_states_close(state, end)
    assert len(found["forward"]) == 4


ONE_CHAIN = Case(T=9, H=4, d=1, cursor=(3,), dtype=torch.float32)


@pytest.mark.parametrize(("cell", "why"), [*((cell, "weights") for cell in CELLS), ("gru", "a NaN")])
def test_what_does_not_converge_is_computed_step_by_step(
    cell: str, why: str, found: dict[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the same bits, as it is the same kernel. Large weights make chaos of a recurrence."""
    case = replace(ONE_CHAIN, cell=cell)
    arguments = case.arguments()
    if why == "weights":
        monkeypatch.setattr(newton, "MOST_ITERATIONS", 5)
        arguments = arguments._replace(w_hh=30 * arguments.w_hh)
    else:
        arguments.x[5] = torch.nan
    got = case.run(arguments, "triton")
    assert found["forward"] == [0]
    monkeypatch.delenv(NEWTON_SWITCH)
    for g, w in zip(got, case.run(arguments, "triton"), strict=True):
        assert (g is None and w is None) or torch.allclose(g, w, rtol=0, atol=0, equal_nan=True)  # type: ignore[arg-type]


def test_products_of_jacobians_that_overflow_are_not_taken(found: dict[str, list[Any]]) -> None:
    """All states are zero, so that a Jacobian is a large weight, of which the first output's gradient meets none."""
    case = replace(ONE_CHAIN, cell="rnn", T=20, bias=False)
    arguments = case.arguments()
    arguments = arguments._replace(
        x=0 * arguments.x, w_hh=1e6 * arguments.w_hh, h_ring=0 * arguments.h_ring
    ).differentiable()
    y = case.run(arguments, "triton")[0]
    (got,) = torch.autograd.grad(y[0].sum(), [arguments.x])
    assert found == {"forward": [1], "backward": [False]}
    want = torch.zeros_like(got)
    want[0] = arguments.w_ih.sum(0)
    assert_close(got, want)


@every_cell
def test_it_takes_no_more_iterations_than_there_are_steps(cell: str, found: dict[str, list[Any]]) -> None:
    """Each makes one more of them exact at least; one more sees that nothing is left to do."""
    case = replace(ONE_CHAIN, cell=cell)
    arguments = case.arguments()
    case.run(arguments._replace(w_hh=30 * arguments.w_hh), "triton")
    assert 5 < found["forward"][0] <= case.T + 1


@pytest.mark.parametrize("N", [*range(1, 10), 31, 32, 33])
def test_a_linear_recurrence(N: int) -> None:
    a, b = randn(N - 1, 2, 3, 3, seed=N), randn(N, 2, 3, seed=N + 1)
    x = [b[0]]
    for i in range(N - 1):
        x.append(torch.einsum("rij,rj->ri", a[i], x[-1]) + b[i + 1])
    assert_all_close([newton.solve_linear(a, b)], [torch.stack(x)])


def test_it_is_a_candidate_where_it_is_asked_for_and_can_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    most = MOST_UNITS_OF_NEWTON
    for cell in CELLS:
        plan, *others = candidates(cell, most, False, 100)
        assert plan == NEWTON
        assert NEWTON not in [*others, *candidates(cell, most + 1, False, 100), *candidates(cell, most, True, 100)]
        with monkeypatch.context() as patch:
            patch.setattr(plans, "_capturing", lambda: True)  # the host would have to read something
            assert candidates(cell, most, False, 100) == others
        with monkeypatch.context() as patch:
            patch.delenv(NEWTON_SWITCH)
            assert candidates(cell, most, False, 100) == others
    monkeypatch.setattr(plans, "interpreted", lambda: False)
    # Also where torch knows no GPU, as when kernels are compiled without one.
    assert candidates("gru", most, False, 100)[0] == NEWTON


@pytest.mark.full
@pytest.mark.skipif(not gpu.interpreted(), reason="it is a matter of numbers, not of the machine")
def test_a_trained_network_takes_few_iterations(data_dir: Path, found: dict[str, list[Any]]) -> None:
    """Those of docs/performance.md, for a model that learned raw speech with dilations from 32 to 1024."""
    import soundfile

    model = load_model("docs/results/fsdd-raw/model.safetensors")
    assert isinstance(model, Classifier)
    model.rnn.backend = "triton"
    for file in sorted((data_dir / "fsdd").glob("*.wav"))[:300:100]:
        samples = torch.from_numpy(soundfile.read(file, dtype="float32")[0])
        with torch.no_grad():
            model.rnn(samples[:, None, None])
    assert len(found["forward"]) == 3 * 6
    assert max(found["forward"]) <= 7
