"""The Triton kernels on a real GPU, at the sizes of the paper's models; without one, the same code at tiny sizes."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from streamdrnn.kernels import dilated_layer, gpu
from tests.agreement import rms
from tests.kernels.cases import DEVICE, Arguments, Case, needs_triton
from tests.strategies import CELLS

pytestmark = needs_triton

cuda = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available() or gpu.interpreted(), reason="there is no GPU to run on"),
]
TINY = Case(T=5, I=3, H=5, d=2, cursor=(0, 9), dtype=torch.float32)
REAL = [
    Case(T=784, I=1, H=20, d=1, cursor=(0,) * 128, dtype=torch.float32),
    Case(T=784, I=50, H=50, d=256, cursor=tuple(range(128)), dtype=torch.float32),
    Case(T=784, I=64, H=64, d=16, cursor=(2**55,) * 128, dtype=torch.float32),
    Case(T=300, I=128, H=128, d=4, cursor=tuple(range(128)), dtype=torch.float32),
    Case(T=200, I=64, H=256, d=2, cursor=tuple(range(128)), lengths=tuple(range(1, 129)), dtype=torch.float32),
    Case(T=20, I=20, H=1000, d=3, cursor=(0, 1), dtype=torch.float32),
]
everywhere = pytest.mark.parametrize(
    "case", [TINY, *(pytest.param(case, marks=cuda) for case in REAL)], ids=lambda c: f"T={c.T} H={c.H} d={c.d}"
)
every_cell = pytest.mark.parametrize("cell", CELLS)

BOUNDS = {"ieee": 1e-4, "tf32": 2 * 2**-10, "bfloat16": 2 * 2**-7, "float16": 2 * 2**-10}
"""The relative RMS error allowed: by the contract for float32, else twice the spacing of the operands' numbers."""


@pytest.fixture(params=[pytest.param(False, marks=cuda, id="timed"), pytest.param(True, id="deterministic")])
def _plans(request: pytest.FixtureRequest) -> Iterator[None]:
    """Plans that were timed, or those of deterministic algorithms, which the other tests take."""
    torch.use_deterministic_algorithms(request.param)
    yield
    torch.use_deterministic_algorithms(True)


@pytest.fixture
def precision(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "tf32":
        torch.set_float32_matmul_precision("high")
    yield request.param
    torch.set_float32_matmul_precision("highest")


def results(case: Case, arguments: Arguments, backend: str) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs and rings, and the gradients of all of them."""
    there = arguments.to(DEVICE).differentiable()
    cursor = torch.tensor(case.cursor, device=DEVICE)
    lengths = None if case.lengths is None else torch.tensor(case.lengths, device=DEVICE)
    y, h, c, _ = dilated_layer(
        case.cell, there.x, there.weights, there.h_ring, there.c_ring, cursor, lengths, backend=backend
    )
    outputs = [t for t in (y, h, c) if t is not None]
    weighted = [torch.cos(torch.arange(t.numel(), device=DEVICE).view(t.shape)).to(t.dtype) for t in outputs]
    return [t.detach() for t in outputs], list(torch.autograd.grad(outputs, there.given(), weighted))


@pytest.mark.usefixtures("_plans")
@everywhere
@every_cell
@pytest.mark.parametrize("precision", BOUNDS, indirect=True)
def test_results_and_gradients_are_those_of_float64(cell: str, case: Case, precision: str) -> None:
    case = replace(case, cell=cell)
    arguments = case.arguments()
    if precision in ("bfloat16", "float16"):
        kind = getattr(torch, precision)
        weights = {n: t.to(kind) for n, t in arguments._asdict().items() if t is not None and n[0] in "wb"}
        arguments = arguments._replace(**weights)
    outputs, gradients = results(case, arguments, "triton")
    exact, wanted = results(case, case.arguments().double(), "torch")
    for got, want in zip(outputs, exact, strict=True):
        assert got.dtype == torch.float32
        assert rms(got.double() - want) <= BOUNDS[precision] * rms(want)
    whole = rms(torch.cat([w.flatten() for w in wanted]))
    for got, want in zip(gradients, wanted, strict=True):
        assert got.isfinite().all()
        assert rms(got.double() - want) <= BOUNDS[precision] * max(whole, rms(want))


@pytest.mark.usefixtures("_plans")
@everywhere
@every_cell
def test_the_same_call_gives_the_same_bits(cell: str, case: Case) -> None:
    case = replace(case, cell=cell)
    first, second = (results(case, case.arguments(), "triton") for _ in range(2))
    for one, other in zip([*first[0], *first[1]], [*second[0], *second[1]], strict=True):
        assert torch.equal(one, other)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available() or gpu.interpreted(), reason="there is no GPU to run on")
@every_cell
@pytest.mark.parametrize("H", [5, 64, 200])
def test_other_sizes_compile_nothing_anew(cell: str, H: int) -> None:
    from streamdrnn.kernels.gpu import resident, tiled

    kernels = [resident.forward, resident.backward, tiled.forward, tiled.backward]

    def compiled() -> int:
        return sum(len(caches[0]) for kernel in kernels for caches in kernel.device_caches.values())

    case = Case(cell, T=9, H=H, d=3, cursor=(0, 1), dtype=torch.float32)
    results(case, case.arguments(), "triton")
    before = compiled()
    for T, d, B in ((1, 1, 1), (16, 16, 16), (17, 5, 3), (3, 40, 2)):
        other = replace(case, T=T, d=d, cursor=(0,) * B)
        results(other, other.arguments(), "triton")
    assert compiled() == before
