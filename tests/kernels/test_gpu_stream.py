"""Live streams on the Triton kernels: one launch per step. Without a GPU, Triton's interpreter runs them."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from streamdrnn import DRNNState, StreamingDRNN
from streamdrnn.kernels import gpu
from streamdrnn.kernels.gpu import stream as gpu_stream
from streamdrnn.live import LiveParts
from tests.agreement import assert_close, assert_states_close
from tests.properties.models import KINDS, build
from tests.strategies import CELLS, Network, randn

pytestmark = pytest.mark.skipif(bool(gpu.why_not()), reason=f"the Triton kernels cannot be used: {gpu.why_not()}")
DEVICE = "cpu" if gpu.interpreted() else "cuda"
every_cell = pytest.mark.parametrize("cell", CELLS)


@pytest.fixture(params=["few", "many"])
def _both_tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles for few streams and for many, whatever their number."""
    monkeypatch.setattr(gpu_stream, "MANY_STREAMS", 1 if request.param == "many" else 2**31)


def pair(network: Network, B: int, dtype: torch.dtype = torch.float32) -> tuple[StreamingDRNN, StreamingDRNN]:
    """Streams on the Triton kernels and on the reference, of the same weights."""
    ours = StreamingDRNN(network.build("triton").to(DEVICE, dtype), B)
    assert isinstance(ours._live, LiveParts)
    assert isinstance(ours._live._stream, gpu.TritonStream)
    return ours, StreamingDRNN(network.build("reference").to(DEVICE, dtype), B)


def active_of(t: int, B: int) -> Tensor:
    return randn(B, seed=1000 + t).to(DEVICE) > 0


SIZES = [
    ((5, 40, 17), (3, 1, 2), 3, 3, True),
    ((70,), (2,), 20, 17, False),  # several tiles of units and of inputs, a fusion, two programs
    ((1, 65), (1, 2), 1, 1, True),
]


@pytest.mark.usefixtures("_both_tiles")
@pytest.mark.parametrize(
    ("cell", "sizes", "dilations", "inputs", "B", "bias"),
    [
        # The LSTM in all sizes, the others in the first.
        pytest.param(cell, *sizes, marks=[] if cell == CELLS[-1] or sizes is SIZES[0] else pytest.mark.full)
        for sizes in SIZES
        for cell in CELLS
    ],
)
def test_steps_under_masks_are_the_references(
    cell: str, sizes: tuple[int, ...], dilations: tuple[int, ...], inputs: int, B: int, bias: bool
) -> None:
    """Streams that make no step keep their state, whatever their input holds; the rings go round twice."""
    network = Network(inputs, sizes, dilations, cell, bias=bias, dtype=torch.float32)
    ours, reference = pair(network, B)
    x = network.x(2 * max(dilations) + 1, B).to(DEVICE)
    for t, x_t in enumerate(x):
        active = None if t % 3 == 0 else active_of(t, B)
        heard = x_t if active is None else torch.where(active[:, None], x_t, torch.nan)
        # The reference refuses NaN on the CPU only where it is heard.
        assert_close(ours.step(heard, active), reference.step(heard, active), f"y at {t}")
    assert isinstance(ours.state, DRNNState)
    assert_states_close(ours.state, reference.state)


@every_cell
def test_steps_are_the_batch(cell: str) -> None:
    network = Network(3, (20, 33), (2, 4), cell, dtype=torch.float32)
    ours, _ = pair(network, 2)
    x = network.x(11, 2).to(DEVICE)
    with torch.inference_mode():
        want, state = ours.model(x)
    assert_close(torch.stack([ours.step(x_t) for x_t in x]), want)
    assert_states_close(ours.state, state)


def test_chunks_and_steps_take_turns() -> None:
    network = Network(3, (20, 5), (3, 2), "lstm", dtype=torch.float32)
    ours, reference = pair(network, 3)
    x = network.x(25, 3).to(DEVICE)
    places = [t.data_ptr() for t in ours.state.tensors().values()]
    for start, stop in pairwise([0, 1, 1, 8, 9, 10, 25]):
        active = None if start % 2 else active_of(start, 3)
        assert_close(ours.push(x[start:stop], active), reference.push(x[start:stop], active))
    assert_states_close(ours.state, reference.state)
    # What a graph was captured for must stay where it is.
    assert [t.data_ptr() for t in ours.state.tensors().values()] == places


def test_reset_and_restore() -> None:
    network = Network(3, (20, 5), (2, 3), "gru", dtype=torch.float32)
    ours, reference = pair(network, 3)
    x = network.x(20, 3).to(DEVICE)
    for live in (ours, reference):
        live.push(x[:7], active_of(0, 3))
    snapshot = ours.snapshot()
    for live in (ours, reference):
        live.step(x[7])
        live.reset(1)
        assert isinstance(live.step(x[8]), Tensor)
    assert_states_close(ours.state, reference.state)
    for live in (ours, reference):
        live.restore(snapshot.select([2, 0, 1]))
    for x_t in x[9:]:
        assert_close(ours.step(x_t), reference.step(x_t))
    assert_states_close(ours.state, reference.state)


def test_clocks_far_from_their_beginning() -> None:
    network = Network(3, 5, (7, 3), "lstm", dtype=torch.float32)
    ours, reference = pair(network, 2)
    x = network.x(20, 2).to(DEVICE)
    for live in (ours, reference):
        live.push(x[:9])
    snapshot = ours.snapshot()
    assert isinstance(snapshot, DRNNState)
    snapshot.cursor.add_(torch.tensor([0, 21 * 2**55], device=DEVICE))
    for live in (ours, reference):
        live.restore(snapshot)
    for x_t in x[9:]:
        assert_close(ours.step(x_t), reference.step(x_t))
    assert torch.equal(ours.cursor, reference.cursor)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_weights_and_wide_states(dtype: torch.dtype) -> None:
    """Operands are rounded, sums and states are not."""
    network = Network(3, (20, 33), (1, 2), "gru", dtype=torch.float32)
    ours, reference = pair(network, 2, dtype)
    for t, x_t in enumerate(network.x(9, 2).to(DEVICE, dtype)):
        got, want = ours.step(x_t), reference.step(x_t)
        assert got.dtype == dtype
        assert float((got - want).abs().max()) < (0.02 if dtype == torch.bfloat16 else 0.003), t
    assert isinstance(ours.state, DRNNState)
    assert ours.state.h[0].dtype == torch.float32
    assert not torch.equal(ours.state.h[0], ours.state.h[0].to(dtype).float())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_streams(kind: str) -> None:
    """With their front-ends and heads, in chunks and single steps."""
    network = Network(3, (20, 5), (1, 3), "gru", dtype=torch.float32)
    ours, reference = (StreamingDRNN(build(kind, network, name).to(DEVICE), 2) for name in ("triton", "reference"))
    assert isinstance(ours._live, LiveParts)
    assert isinstance(ours._live._stream, gpu.TritonStream)
    x = network.x(9, 2).to(DEVICE)
    if ours._frontend is not None:
        x = randn(9 * ours._frontend.hop_length, 2, seed=0, dtype=torch.float32).to(DEVICE)
        steps = list(x.view(9, -1, 2).transpose(1, 2))
    else:
        steps = list(x)
    for x_t in steps[:4]:
        assert_close(ours.step(x_t), reference.step(x_t))
    assert_close(ours.push(x), reference.push(x))
    assert_states_close(ours.state, reference.state)


def test_a_step_is_one_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many layers; no other kernel of ours, none per layer."""
    if DEVICE == "cuda":
        pytest.skip("the launches of a replayed graph are not seen from Python; the graph holds what is counted here")
    from streamdrnn.kernels.gpu import resident, step, tiled

    network = Network(3, 5, (1, 2, 4, 8), "gru", dtype=torch.float32)
    ours, _ = pair(network, 2)
    launched: list[str] = []

    class Counted:
        def __init__(self, name: str, kernel: Any) -> None:
            self.name, self.kernel = name, kernel

        def __getitem__(self, grid: Any) -> Any:
            launched.append(self.name)
            return self.kernel[grid]

    for module in (resident, tiled):
        monkeypatch.setattr(module, "forward", Counted("layer", module.forward))
    monkeypatch.setattr(step, "step", Counted("step", step.step))
    x = network.x(6, 2)
    ours.step(x[0])
    ours.step(x[1], torch.tensor([True, False]))
    ours.push(x[2:3])
    assert launched == ["step"] * 3
    ours.push(x)
    assert launched == ["step"] * 3 + ["layer"] * 4


@pytest.mark.parametrize("by_step", [True, False])
def test_changed_weights_are_noticed(by_step: bool) -> None:
    """The state goes on; the weights are copied anew."""
    network = Network(3, 5, (2, 1), "gru", dtype=torch.float32)
    ours, reference = pair(network, 2)
    x = network.x(6, 2).to(DEVICE)
    for live in (ours, reference):
        live.push(x[:4])
        with torch.no_grad():
            for weight in live.model.parameters():
                weight.mul_(2)
    for chunk in x[4:].split(1 if by_step else 2):
        assert_close(ours.push(chunk), reference.push(chunk))
    assert_states_close(ours.state, reference.state)


def test_one_stream_serves_one_state_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is launched stays the same, down to its arguments, so that one graph does for all of them."""
    from streamdrnn.kernels.gpu import step

    network = Network(3, (5, 4), (2, 3), "lstm", dtype=torch.float32)
    model, reference = network.build("triton").to(DEVICE), network.build("reference").to(DEVICE)
    x = network.x(6, 2).to(DEVICE)
    launched: list[list[Any]] = []
    launch = step.step

    class Recorded:
        def __getitem__(self, grid: Any) -> Any:
            def run(*arguments: Any, **options: Any) -> None:
                launched.append([a.data_ptr() if isinstance(a, Tensor) else a for a in arguments])
                launch[grid](*arguments, **options)

            return run

    monkeypatch.setattr(step, "step", Recorded())
    live = model.stream(2)
    states = [model.zero_state(2) for _ in range(2)]
    ends = [reference(x[number::2])[1] for number in range(2)]
    for t, x_t in enumerate(x):
        live.bind(states[t % 2])
        live.run(x_t[None], None)
    for state, end in zip(states, ends, strict=True):
        assert_states_close(state, end)
    # On a GPU: a launch that compiles it, and one that is captured.
    assert len(launched) == (2 if "cuda" in DEVICE else 6)
    assert all(arguments == launched[0] for arguments in launched)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@every_cell
@pytest.mark.parametrize("B", [1, 100, 10_000])
def test_a_graph_replays_the_step(cell: str, B: int) -> None:
    """At real sizes, against the torch backend; memory does not grow, and any of the device's streams will do."""
    network = Network(64, 64, tuple(2**layer for layer in range(9)), cell, dtype=torch.float32)
    ours = StreamingDRNN(network.build("triton").cuda(), B)
    peer = StreamingDRNN(network.build("torch").cuda(), B)
    x = network.x(20, B).cuda()
    for t, x_t in enumerate(x):
        active = None if t % 3 == 0 else active_of(t, B).cuda()
        assert_close(ours.step(x_t, active), peer.step(x_t, active))
    assert_states_close(ours.state, peer.state)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    with torch.cuda.stream(torch.cuda.Stream()):
        for _ in range(300):
            ours.step(x[0])
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() <= before
