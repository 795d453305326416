"""What a GPU would not forgive and the interpreter can show: races, addresses beyond 31 bits, and other devices.

A layer's kernels run in every form of product; ``test_gpu_skewed.py`` has the same for skewed scans.
"""

import math
import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Optional, Union

import pytest
import torch
from torch import Tensor

from streamdrnn.kernels import gpu
from streamdrnn.kernels.gpu import plans
from streamdrnn.kernels.gpu.backend import TRITON
from streamdrnn.kernels.gpu.plans import Plan
from tests.kernels.cases import Case, needs_triton
from tests.strategies import CELLS, Network, randn

pytestmark = [needs_triton, pytest.mark.skipif(not gpu.interpreted(), reason="the interpreter alone can be watched")]

if not gpu.why_not():  # else Triton may not be installed
    import triton
    from triton import language as tl
    from triton.runtime import interpreter

    from streamdrnn.kernels.gpu import resident, scan, skewed, skewed_scan, stream, tiled

    def more_than_squares(x: Any, y: Any) -> None:
        number = tl.load(x)
        tl.store(y, number * number + number)


RESIDENT, CORES = Plan(1, 64, 4), Plan(16, 64, 8, dot=True)
TILED, WIDE = Plan(16, 32, 8, stages=2, dot=True, inputs=16), Plan(64, 16, 8, stages=2, dot=True, inputs=16)
SPREAD = TILED._replace(spread=True)
mostly_full = pytest.mark.parametrize(
    "cell", ["lstm", *(pytest.param(cell, marks=pytest.mark.full) for cell in CELLS if cell != "lstm")]
)
"""By default the cell that writes and reads the most."""

PLANS = [RESIDENT, TILED, *(pytest.param(plan, marks=pytest.mark.full) for plan in (CORES, WIDE, SPREAD))]


@pytest.mark.usefixtures("_watched_positions")
@pytest.mark.parametrize("plan", PLANS, ids=str)
@mostly_full
def test_threads_of_a_layers_scan_meet_at_barriers_only(cell: str, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "choose", lambda key, plans, run: plan)
    Case(cell, T=3, H=40, d=2, cursor=(0, 5), lengths=(3, 2), dtype=torch.float32).gradients("triton")


@pytest.mark.usefixtures("_watched_positions")
@mostly_full
def test_threads_of_a_step_meet_at_barriers_only(cell: str) -> None:
    """Of three layers, so that the memory between layers is used again; with a fusion; of units for two tiles."""
    network = Network(3, (5, 66, 5), (2, 1, 3), cell, dtype=torch.float32)
    model = network.build("triton")
    live = model.stream(3)
    live.bind(model.zero_state(3))
    for x_t in network.x(2, 3):
        live.run(x_t[None], torch.tensor([1, 0, 1]))


FEW, MANY = 16, 2**27
"""Streams: as many as a program takes, and so many that their numbers' places have more than 31 bits."""

T, D, H = 4, 2, 20
GRU = {"CELL": "gru"}
DOT = {"ROWS": 16, "UNITS": 32, "PRECISION": "ieee"}

Kernel = Any
Launch = tuple[Kernel, list[Any], dict[str, Any], int]
"""A kernel, its arguments, its options, and how many programs it has along the first axis."""


def numbers(*shape: int) -> Tensor:
    """Small ones, the same for the same shape."""
    return randn(*shape, seed=sum(shape), dtype=torch.float32) / 8


def of_resident(B: int, new: Callable[..., Tensor]) -> Iterator[Launch]:
    w, none, clock = numbers(3 * H, H), torch.zeros(0), new(B, dtype=torch.int64)
    h, gates, ring, tile = new(D + T, B, H), new(T, B, 4 * H), new(D, B, H), {**GRU, **DOT, "DOT": True}
    sizes = [T, B, D, H]
    programs = B * D // 16
    yield (
        resident.forward,
        [new(T, B, 3 * H), w, numbers(H), ring, none, clock, None, h, gates, none, new(D, B, H), none, *sizes],
        {**tile, "SAVE": True},
        programs,
    )
    gradients = [new(T, B, H), new(D, B, H), none, new(T, B, 4 * H), new(D, B, H), none]
    yield resident.backward, [w, clock, None, h, gates, none, none, *gradients, *sizes], tile, programs


def of_tiled(B: int, new: Callable[..., Tensor]) -> Iterator[Launch]:
    w, none, programs, tile = numbers(3 * H, H), torch.zeros(0), B * D // 16, {**GRU, **DOT, "INPUTS": 16}
    h, gates = new(D + T, B, H), new(T, B, 4 * H)
    given = [new(T, B, 3 * H), w, numbers(H), None, h, gates, none, T, B, D, H, 0, T // D]
    yield tiled.forward, given, {**tile, "SAVE": True}, programs
    given = [w, None, h, gates, none, new(T, B, H), new(T, B, 4 * H), new(D, B, H), none, T, B, D, H, -1, T // D]
    yield tiled.backward, given, tile, programs


def of_skewed(B: int, new: Callable[..., Tensor]) -> Iterator[Launch]:
    L, width, none, clock = 2, 20, torch.zeros(0), new(B, dtype=torch.int64)
    tile = {**GRU, "LAYERS": L, "H": H, "COLUMNS": 64, "PIECE": 4}
    table = skewed_scan._table(T, B, H, [1, D], True, torch.device("cpu"))
    w_ih, w_hh = numbers(L - 1, 3 * H, width), numbers(L, 3 * H, width)
    rings, h, gates = new(1 + D, B, H), new(1 + D + L * T, B, H), new(L, T, B, 4 * H)
    given = [w_ih, w_hh, numbers(L, 3 * H), numbers(L, H), clock, None, table, rings, none, new(B, 1, 2, 2, L, width)]
    flags = {"SAVE": True, "FED": False, "UNROLLED": 1}
    yield skewed.forward, [new(T, B, 3 * H), *given, h, gates, none, T, B, 1], {**tile, **flags}, B
    given = [w_ih, w_hh, clock, None, table, rings, none, new(B, 1, 5, L, width), h, gates, none, new(T, B, H)]
    yield skewed.backward, [*given, new(L, T, B, 4 * H), T, B, 1], tile, B


def of_linear(B: int, new: Callable[..., Tensor]) -> Iterator[Launch]:
    given = [new(B, H), numbers(3 * H, H), numbers(3 * H), new(B, 3 * H), B, H, 3 * H]
    yield skewed.linear, given, {"ROWS": 16, "UNITS": 128}, B // 16


@pytest.fixture
def last_program(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets a launch of one program be that of the last of so many; nothing is copied to a device and back."""
    programs = [1]
    monkeypatch.setattr(
        interpreter.InterpreterBuilder,
        "set_grid_idx",
        lambda self, x, y, z: setattr(self, "grid_idx", (programs[0] - 1, y, z)),
    )
    monkeypatch.setattr(interpreter.GridExecutor, "_init_args_hst", lambda self, args, named: (args, named))
    monkeypatch.setattr(interpreter.GridExecutor, "_restore_args_dev", lambda *_: None)

    def last_of(number: int) -> None:
        programs[0] = number

    return last_of


def axis_of(t: object) -> Optional[int]:
    """The axis of streams."""
    return t.shape.index(FEW) if isinstance(t, Tensor) and FEW in t.shape else None


def far_copy(t: Tensor, axis: int) -> Tensor:
    """The same numbers as the last streams of many, in memory that is taken where it is written."""
    shape = [MANY if n == axis else size for n, size in enumerate(t.shape)]
    pages = mmap.mmap(-1, math.prod(shape) * t.element_size(), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)
    far = torch.frombuffer(pages, dtype=t.dtype).view(shape)
    far.narrow(axis, MANY - FEW, FEW).copy_(t)
    return far


def test_integers_that_overflow_are_noticed() -> None:
    kernel, result = triton.jit(more_than_squares), torch.zeros(1, dtype=torch.int32)
    kernel[1,](torch.tensor([46_340], dtype=torch.int32), result)
    assert result.item() == 46_340 * 46_341
    for number in (46_341, -70_000):
        with pytest.raises(interpreter.InterpreterError, match="mul of int32 overflows"):
            kernel[1,](torch.tensor([number], dtype=torch.int32), result)


@pytest.mark.skipif(not hasattr(mmap, "MAP_ANONYMOUS"), reason="needs memory that is only taken where it is written")
@pytest.mark.usefixtures("_watched_memory")
@pytest.mark.parametrize("launches", [of_resident, of_tiled, of_skewed, of_linear])
def test_addresses_have_more_than_31_bits(
    launches: Callable[..., Iterator[Launch]], last_program: Callable[[int], None]
) -> None:
    """The last of very many streams become what they become among few."""

    def new(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return numbers(*shape).to(dtype)

    beyond = []
    for few, many in zip(launches(FEW, new), launches(MANY, lambda *shape, dtype=None: torch.empty(0)), strict=True):
        kernel, given, options, programs = few
        far = [
            other if axis is None else far_copy(t, axis)
            for t, other, axis in zip(given, many[1], map(axis_of, given), strict=True)
        ]
        beyond += [t.numel() for t in far if isinstance(t, Tensor)]
        before = [t.clone() if isinstance(t, Tensor) else t for t in given]
        for arguments, number in ((given, programs), (far, many[3])):
            last_program(number)
            kernel[(1, 1)](*arguments, **options)
        changed = 0
        for old, near, there in zip(before, given, far, strict=True):
            axis = axis_of(old)
            if axis is not None:
                assert torch.equal(near, there.narrow(axis, MANY - FEW, FEW))
                changed += not torch.equal(near, old)
        assert changed >= 1
    assert max(beyond) > 2**32


class Guards:
    """In place of torch's guards of the current device: which are entered."""

    def __init__(self) -> None:
        self.entered: list[object] = []
        self.launches = 0

    @contextmanager
    def guard(self, of: Union[Tensor, torch.device]) -> Iterator[None]:
        self.entered.append(of.device if isinstance(of, Tensor) else of)
        yield
        self.entered.pop()


@pytest.fixture
def guards(monkeypatch: pytest.MonkeyPatch) -> Guards:
    """Every launch is within a guard of its tensors' device: Triton launches on the current one."""
    found = Guards()
    launch = interpreter.GridExecutor.__call__

    def checked(self: Any, *arguments: Any, **options: Any) -> None:
        devices = {t.device for t in arguments if isinstance(t, Tensor)}
        assert found.entered[-1:] == list(devices), "a launch on another device than its tensors'"
        found.launches += 1
        launch(self, *arguments, **options)

    monkeypatch.setattr(torch.cuda, "device_of", found.guard)
    monkeypatch.setattr(interpreter.GridExecutor, "__call__", checked)
    return found


@pytest.mark.parametrize("skewed", ["0", "1"])
def test_kernels_are_launched_on_the_device_of_their_tensors(
    skewed: str, guards: Guards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(plans.SWITCH, skewed)
    network = Network(3, 4, (2, 1), "gru", dtype=torch.float32)
    model, x = network.build("triton"), network.x(2, 1)
    y, _ = model(x)
    y.sum().backward()
    live = model.stream(1)
    live.bind(model.zero_state(1))
    with torch.no_grad():
        TRITON.linear(x, *(torch.zeros(shape) for shape in ((4, 3), (4,))))
        live.run(x, None)
    assert guards.launches > 3


def test_a_graph_is_captured_on_the_device_of_its_stream(guards: Guards, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on the current device, nor on torch's own stream for captures, which is that of the first capture."""
    second, captures = torch.device("cuda", 1), []

    class Stream:
        def __init__(self) -> None:
            self.device = guards.entered[-1]

    @contextmanager
    def graph(made: object, stream: Stream, capture_error_mode: str) -> Iterator[None]:
        captures.append(stream.device)
        yield

    for name, value in {"CUDAGraph": object, "device": guards.guard, "synchronize": lambda: None}.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    launched: list[object] = []
    stream.captured(lambda: launched.append(guards.entered[-1]), second)
    assert captures == [second]
    assert launched == [second, second], "one that compiles, and one that is captured"
