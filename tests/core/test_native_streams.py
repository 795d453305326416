"""Live streams on the native CPU kernels: memory, threads, processes. What they compute is in ``tests/properties``."""

import copy
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from streamdrnn import DilatedRNN, DRNNState, StreamingDRNN, load_model, save_model
from streamdrnn.heads import Head
from streamdrnn.live import LiveParts
from tests.agreement import assert_close, assert_same_bits
from tests.kernels.cases import NATIVE, needs_native
from tests.properties.models import KINDS, build
from tests.strategies import CELLS, Network
from tests.waiting import PATIENCE

pytestmark = needs_native
NETWORK = Network(dilations=(2, 3), hidden_size=(5, 17), cell="lstm", dtype=torch.float32)
LARGE = Network(16, 96, (1, 2, 4), "gru", dtype=torch.float32)
"""A chunk of 100 steps is worth several threads, and no tensor of it is so large that torch would use its own."""

every_kind = pytest.mark.parametrize("kind", KINDS)
every_cell = pytest.mark.parametrize("cell", CELLS)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def heard(kind: str = "network", batch_size: int = 2) -> StreamingDRNN:
    live = StreamingDRNN(build(kind, NETWORK, "cpu"), batch_size)
    live.push(NETWORK.x(5, batch_size))
    return live


def rnn_state(live: StreamingDRNN) -> DRNNState:
    state = live.state
    return state if isinstance(state, DRNNState) else state.rnn


@every_kind
def test_the_networks_state_stays_where_it_is(kind: str) -> None:
    live = heard(kind)
    places = [t.data_ptr() for t in rnn_state(live).tensors().values()]
    active = torch.tensor([True, False])
    x = NETWORK.x(9, 2)
    live.step(x[0])
    live.step(x[0], active)
    live.push(x)
    live.push(x[:0])
    live.push(x, active)
    live.reset(0)
    live.step(x[1])
    assert [t.data_ptr() for t in rnn_state(live).tensors().values()] == places
    assert live.cursor.tolist() == [1, 16]


@every_kind
def test_after_a_restore_the_streams_go_on_from_the_snapshot(kind: str) -> None:
    x = NETWORK.x(12, 2)
    live, other = heard(kind), heard(kind)
    snapshot = live.snapshot()
    copied = snapshot.clone()
    held = live.state
    want = [other.step(x_t) for x_t in x]
    live.restore(snapshot)
    got = [live.step(x_t) for x_t in x]
    assert all(torch.equal(g, w) for g, w in zip(got, want, strict=True))
    assert_same_bits(live.state, other.state)
    assert_same_bits(snapshot, copied)
    assert_same_bits(held, live.state)
    # Of another StreamingDRNN, with its streams the other way round.
    turned = StreamingDRNN(build(kind, NETWORK, "cpu"), 2)
    turned.restore(snapshot.select([1, 0]))
    for x_t, w in zip(x, want, strict=True):
        assert torch.equal(turned.step(x_t.flip(0)), w.flip(0))
    turned.reset([1])
    fresh = StreamingDRNN(build(kind, NETWORK, "cpu"), 2)
    assert torch.equal(turned.push(x)[:, 1], fresh.push(x)[:, 1])


@every_cell
@pytest.mark.parametrize("B", [1, 3, 40])
def test_a_step_takes_memory_for_its_output_only(cell: str, B: int) -> None:
    network = Network(6, (20, 33), (2, 7), cell, dtype=torch.float32)
    live, x = StreamingDRNN(network.build("cpu"), B), network.x(8, B)
    out = torch.empty(B, 33)
    live.step(x[0])
    # What a fresh tensor is filled with here, so that reading one is seen, takes memory too.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        taken = []
        for given in (None, out):
            with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as seen:
                outputs = [live.step(x_t, out=given) for x_t in x]
            sizes = [e.self_cpu_memory_usage for e in seen.events() if e.self_cpu_memory_usage > 0]
            taken.append(sizes)
            assert all(y.shape == (B, 33) for y in outputs)
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    assert sum(taken[0]) in (len(x) * B * 33 * 4, len(x) * -(-B * 33 * 4 // 64) * 64), taken[0]
    assert len(taken[0]) == len(x)
    assert taken[1] == []


@every_kind
def test_a_step_into_given_memory_is_the_step(kind: str) -> None:
    one, two = heard(kind), heard(kind)
    x, active = NETWORK.x(6, 2), torch.tensor([False, True])
    want = one.step(x[0])
    out = torch.empty_like(want)
    assert two.step(x[0], out=out) is out
    assert torch.equal(out, want)
    assert torch.equal(two.step(x[1], active, out=out), one.step(x[1], active))
    strided = torch.empty(*want.shape, 2)[..., 0]
    assert two.step(x[2], out=strided) is strided
    assert torch.equal(strided, one.step(x[2]))
    assert_same_bits(two.state, one.state)


@every_kind
def test_a_refused_step_writes_neither_the_state_nor_the_given_memory(kind: str) -> None:
    live = heard(kind)
    before, x = live.snapshot(), NETWORK.x(1, 2)[0]
    good = torch.full_like(live.step(x), 7.0)
    live.restore(before)
    bad: list[tuple[Any, Any]] = [
        (x * torch.nan, good),
        (x[:1], good),
        (x.double(), good),
        (x, good[:1]),
        (x, good[:, :1].expand(2, good.shape[1] + 1)),
        (x, good.double()),
        (x, torch.zeros(3)),
        (x, [0.0]),
        (x, torch.empty_like(good, device="meta")),
    ]
    for given, out in bad:
        with pytest.raises((ValueError, TypeError)):
            live.step(given, out=out)
        assert_same_bits(live.state, before)
        assert bool((good == 7).all())


@pytest.mark.parametrize("position", [0, 1, 15, 16, 17, 33, 50])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_single_bad_number_anywhere_is_refused(value: float, position: int) -> None:
    """The look for one goes by vectors, and then what is left over."""
    network = Network(17, 4, (1,), "gru", dtype=torch.float32)
    live = StreamingDRNN(network.build("cpu"), 3)
    before = live.snapshot()
    x = network.x(1, 3)
    x.view(-1)[position] = value
    with pytest.raises(ValueError, match="expected finite values"):
        live.step(x[0])
    with pytest.raises(ValueError, match="expected finite values"):
        live.push(x)
    with pytest.raises(ValueError, match="expected finite values"):
        live.push(x, torch.tensor([True] * 3))
    assert_same_bits(live.state, before)
    x.view(-1)[position] = 3e38  # large, but a number
    assert live.step(x[0]).isfinite().all()


def test_no_memory_in_a_chunk_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    live = heard()
    before, x = live.snapshot(), NETWORK.x(5, 2)
    assert isinstance(live._live, LiveParts)
    with monkeypatch.context() as patch:
        patch.setattr(live._live._stream, "_run", lambda *_: 2)
        with pytest.raises(MemoryError, match="not enough memory"):
            live.push(x)
    assert_same_bits(live.state, before)
    live.push(x)


@every_cell
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_network_in_16_bits_streams_as_its_rounded_weights_do(cell: str, dtype: torch.dtype) -> None:
    """Its outputs are rounded, its states are those of the same network in float32, bit for bit."""
    network = Network(6, (20, 17), (2, 5), cell, dtype=torch.float32)
    half = network.build("cpu").to(dtype)
    wide = copy.deepcopy(half).float()
    x = network.x(30, 3).to(dtype)
    one, two = StreamingDRNN(half, 3), StreamingDRNN(wide, 3)
    for part in (x[:20], x[20:21]):
        assert torch.equal(one.push(part), two.push(part.float()).to(dtype))
    for x_t in x[21:]:
        y = one.step(x_t)
        assert y.dtype == dtype
        assert torch.equal(y, two.step(x_t.float()).to(dtype))
    assert_same_bits(one.state, two.state)


def answers(model: DilatedRNN, seed: int) -> list[Tensor]:
    """Of a network that learns, and streams."""
    x = LARGE.x(100, 1, seed)
    y, _ = model(x)
    gradients = torch.autograd.grad(y, list(model.parameters()), torch.ones_like(y))
    live = StreamingDRNN(model)
    outputs = [live.push(x[:70]), *[live.step(x_t) for x_t in x[70:]]]
    return [y.detach(), *gradients, *outputs, *live.snapshot().tensors().values()]


def test_streams_in_several_threads_do_not_disturb_one_another(two_threads: None) -> None:
    models = [LARGE.build("cpu") for _ in range(8)]
    want = [answers(models[0], seed) for seed in range(2)]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda i: answers(models[i], i % 2), range(8)))
    for i, result in enumerate(got):
        assert all(torch.equal(g, w) for g, w in zip(result, want[i % 2], strict=True))


def test_streams_of_one_model_in_several_threads_do_not_disturb_one_another(two_threads: None) -> None:
    model = LARGE.build("cpu").eval()
    x = LARGE.x(200, 1)
    with torch.no_grad():
        want = model(x)[0]

    def stream(_: int) -> Tensor:
        live = StreamingDRNN(model)
        outputs = [live.push(x[:100]), *[live.step(x_t)[None] for x_t in x[100:150]], live.push(x[150:])]
        return torch.cat(outputs)

    with ThreadPoolExecutor(4) as pool:
        assert all(torch.equal(got, want) for got in pool.map(stream, range(6)))


def in_a_fork(model: DilatedRNN, answer: Any) -> None:
    answer.put([t.numpy() for t in answers(model, 0)])


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # Python's own, of a process with threads
def test_a_forked_process_computes_with_threads(two_threads: None) -> None:
    """Also after its parent has used several: none of them is waited for. (torch's own threads would be, so what torch
    does here is small.)"""
    model = LARGE.build("cpu")
    want = answers(model, 0)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=in_a_fork, args=(model, queue))
    child.start()
    try:
        got = queue.get(timeout=PATIENCE)
        child.join(timeout=PATIENCE)
        assert child.exitcode == 0
    finally:
        child.kill()
        child.join()
    assert all(torch.equal(torch.from_numpy(g), w) for g, w in zip(got, want, strict=True))


@pytest.mark.parametrize("backend", ["torch", "auto", NATIVE])
@every_kind
def test_models_and_states_can_be_copied_saved_and_loaded(kind: str, backend: str, tmp_path: Path) -> None:
    model = build(kind, NETWORK, backend).eval()
    x = NETWORK.x(9, 2)
    with torch.no_grad():
        want, end = model(x)
    live = StreamingDRNN(model, 2)
    live.push(x[:4])
    twin: DilatedRNN | Head = copy.deepcopy(model)
    save_model(model, tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    live.snapshot().save(tmp_path / "state.safetensors")
    state = type(live.state).load(tmp_path / "state.safetensors")
    for other in (twin, again):
        with torch.no_grad():
            assert_close(other(x)[0], want)
        stream = StreamingDRNN(other, 2)
        for kept in (state, copy.deepcopy(live.snapshot())):
            stream.restore(kept)
            assert_close(stream.push(x[4:]), want[4:])
    assert_same_bits(copy.deepcopy(end), end)
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
        assert torch.equal(model(x)[0], want)


@pytest.mark.parametrize("by_step", [False, True])
def test_a_stream_goes_on_with_new_weights(by_step: bool) -> None:
    model, other = NETWORK.build("cpu"), NETWORK.build("cpu")
    x = NETWORK.x(9, 2)
    live = StreamingDRNN(model, 2)
    live.push(x[:4])
    _, state = model(x[:4])
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(-1)
    model.load_state_dict(other.state_dict())
    got = torch.stack([live.step(x_t) for x_t in x[4:]]) if by_step else live.push(x[4:])
    want, end = model(x[4:], state)
    assert torch.equal(got, want)
    assert_same_bits(live.state, end.detach())
    assert live.cursor.tolist() == [9, 9]


def test_one_new_weight_is_noticed_by_a_chunk_at_once_and_by_steps_in_turn() -> None:
    model = NETWORK.build("cpu")
    x = NETWORK.x(1, 2)
    chunks, steps = StreamingDRNN(model, 2), StreamingDRNN(model, 2)
    with torch.no_grad():
        dict(model.named_parameters())["bias_hh_l1"].add_(1)
    want = model(x)[0]
    assert torch.equal(chunks.push(x), want)
    for _ in range(len(list(model.parameters()))):
        steps.step(x[0])
    steps.reset()
    assert torch.equal(steps.step(x[0]), want[0])


def test_the_library_frees_what_it_takes() -> None:
    """A thousand networks of 1.6 MB made and dropped do not add up."""
    network = Network(64, 128, (1, 2, 4), "lstm", dtype=torch.float32)
    model, x = network.build("cpu"), network.x(2, 1)

    def use(times: int) -> int:
        for _ in range(times):
            StreamingDRNN(model).push(x)
            y, _ = model(x)
            y.sum().backward()
        return resident()

    before = use(20)
    assert use(100) < before + 40_000_000


def resident() -> int:
    """Bytes in memory."""
    status = Path("/proc/self/statm")
    if not status.exists():
        pytest.skip("the system has no /proc to read the memory in use from")
    return int(status.read_text().split()[1]) * 4096


@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0:RuntimeWarning")  # torch says so
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # from torch's tracing
@pytest.mark.parametrize("by_step", [False, True])
def test_a_network_compiles(by_step: bool) -> None:
    """Eager comes without a compiler."""
    network = Network(dilations=(2, 3), dtype=torch.float32)
    model, x = network.build("auto"), network.x(6, 2)

    def forward(x: Tensor) -> Tensor:
        y: Tensor = model.step(x[0], model.zero_state(2))[0] if by_step else model(x)[0]
        return y

    want = forward(x)
    got = torch.compile(forward, backend="aot_eager")(x)
    assert_close(got, want)
    got.square().sum().backward()
    compiled_gradients = [p.grad for p in model.parameters()]
    model.zero_grad()
    forward(x).square().sum().backward()
    for got_gradient, p in zip(compiled_gradients, model.parameters(), strict=True):
        if p.grad is None:
            assert got_gradient is None
        else:
            assert got_gradient is not None
            assert_close(got_gradient, p.grad)
