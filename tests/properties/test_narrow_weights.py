"""Live streams on rounded weights: what is rounded and how, the same bits in any chunks, and how far they are off."""

import copy
import pickle
from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from streamdrnn import DilatedRNN, StreamingDRNN
from streamdrnn.kernels import cpu
from streamdrnn.kernels.cpu.library import INT8_INPUTS
from tests.agreement import assert_same_bits
from tests.kernels.cases import needs_native
from tests.properties.models import KINDS, build
from tests.strategies import CELLS, Network, chunkings, examples, masks, networks, randn, random_state, seeds

pytestmark = needs_native
LEVELS = ["portable"] if cpu.why_not() else cpu.levels()
every_level = pytest.mark.parametrize("level", LEVELS)
rounded = pytest.mark.parametrize("held", ["bf16", "int8"])

SIZES = [
    Network(5, 20, (1, 6, 2), "gru", dtype=torch.float32),
    Network(17, (33, 70), (3, 9), "lstm", dtype=torch.float32),
    Network(64, 64, (1, 2), "gru", bias=False, dtype=torch.float32),
    Network(1, 17, (2, 4), "rnn", fuse=True, dtype=torch.float32),
    Network(130, (16, 131), (1, 1), "lstm", dtype=torch.float32),
]


def rows_as_bytes(x: Tensor) -> Tensor:
    """Each row of ``(N, K)`` in multiples of its largest magnitude / 127, ties to even."""
    scale = x.abs().amax(1, keepdim=True) / 127
    return torch.where(scale > 0, torch.round(x / scale) * scale, 0.0)


ROUNDED: dict[str, Callable[[Tensor], Tensor]] = {"bf16": lambda w: w.bfloat16().float(), "int8": rows_as_bytes}


def on_rounded_layers(model: DilatedRNN, held: str) -> DilatedRNN:
    """The same network with its layers' weights rounded, which torch does."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for name, weight in other.named_parameters():
            if name.startswith("weight_"):
                weight.copy_(ROUNDED[held](weight))
    return other


@every_level
@pytest.mark.parametrize("network", SIZES, ids=str)
def test_bf16_is_float32_on_weights_that_were_rounded_before(network: Network, level: str) -> None:
    """To the last bit."""
    with cpu.use_level(level):
        model, x = network.build("cpu"), network.x(30, 5)
        with torch.no_grad():  # ties to both sides, a carry into the exponent, and one that float32 nearly cannot hold
            model.get_parameter("weight_hh_l0").view(-1)[:4] = torch.tensor([1.00390625, 1.01171875, -1.99999, 3e-39])
        narrow, wide = StreamingDRNN(model, 5, "bf16"), StreamingDRNN(on_rounded_layers(model, "bf16"), 5)
        assert torch.equal(narrow.push(x), wide.push(x))
        assert_same_bits(narrow.state, wide.state)


def near_bytes(*shape: int, off: float, seed: int) -> Tensor:
    """Rows of int8's numbers, times a power of two; all but the largest up to ``off`` units beside them."""
    numbers = (150 * randn(*shape, seed=seed)).clamp(-126, 126).round()
    numbers += off * (2 * torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1)
    numbers[..., 0] = -127
    return (numbers / 256).float()


@every_level
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("I", "H"), [(5, 20), (17, 33), (64, 64), (1, 17), (130, 131)])
def test_int8_is_float32_on_numbers_that_were_rounded_before(cell: str, I: int, H: int, level: str) -> None:  # noqa: E741
    """A step of a layer: but for the rounding of float32 sums; and inputs and states are rounded to nearest."""
    B = 5
    with cpu.use_level(level):
        model = Network(I, H, (1,), cell, dtype=torch.float32).build("cpu")
        state = random_state(model, range(B), seed=3)
        results = []
        for network, held, off in (
            (model, "int8", 0.0),
            (on_rounded_layers(model, "int8"), "float32", 0.0),
            (model, "int8", 0.45),
        ):
            stream = StreamingDRNN(network, B, held)
            stream.restore(state._replace(h=[near_bytes(1, B, H, off=off, seed=1)]))
            results.append(stream.push(near_bytes(1, B, I, off=off, seed=2)))
        torch.testing.assert_close(results[0], results[1], rtol=0, atol=2e-6)
        if cell != "gru":  # whose formula takes its state as it is, too
            assert torch.equal(results[2], results[0])
        torch.testing.assert_close(results[2], results[0], rtol=0, atol=0.45 / 256)


@every_level
def test_the_largest_sums_of_int8_do_not_overflow(level: str) -> None:
    with cpu.use_level(level):
        model = Network(INT8_INPUTS, 1, (1,), "rnn", bias=False, dtype=torch.float32).build("cpu")
        for sign in (1.0, -1.0):
            torch.nn.init.constant_(model.weight_ih_l0, sign / INT8_INPUTS)
            y = StreamingDRNN(model, 2, "int8").push(torch.tensor([1.0, -1.0])[None, :, None].expand(1, 2, INT8_INPUTS))
            torch.testing.assert_close(y[0, :, 0], sign * torch.tensor([1.0, -1.0]).tanh(), rtol=1e-6, atol=0)


def test_int8_refuses_layers_whose_sums_could_overflow() -> None:
    model = DilatedRNN(INT8_INPUTS + 1, 1, num_layers=1, cell="rnn")
    StreamingDRNN(model, weights="bf16")
    with pytest.raises(ValueError, match=f"layer 0: expected at most {INT8_INPUTS} inputs and units"):
        StreamingDRNN(model, weights="int8")


MOST_ERROR = {"bf16": 0.004, "int8": 0.015}
"""Relative RMS of the outputs, of networks with their first weights."""


@rounded
@every_level
@pytest.mark.parametrize("network", SIZES, ids=str)
def test_outputs_are_near_those_of_float32(network: Network, level: str, held: str) -> None:
    with cpu.use_level(level):
        model, x = network.build("cpu"), network.x(100, 7)
        want, got = StreamingDRNN(model, 7).push(x), StreamingDRNN(model, 7, held).push(x)
        error = float((got - want).norm() / want.norm())
        assert 0 < error < MOST_ERROR[held]


@pytest.mark.parametrize("kind", KINDS)
@rounded
@examples(15)
@given(network=networks(torch.float32), B=st.integers(1, 8), T=st.integers(1, 20), data=st.data(), seed=seeds)
def test_chunks_steps_and_streams_are_the_same_bits(
    held: str, kind: str, network: Network, B: int, T: int, data: st.DataObject, seed: int
) -> None:
    """Whole, in chunks, step by step, alone, from a snapshot."""
    model, x = build(kind, network, "cpu").eval(), network.x(T, B, seed)
    live = StreamingDRNN(model, B, held)
    want, end = live.push(x), live.snapshot()
    live.reset()
    parts = [live.push(part) for part in x.split(data.draw(chunkings(T)))]
    assert torch.equal(torch.cat(parts), want)
    assert_same_bits(live.state, end)
    live.reset()
    cut = data.draw(st.integers(0, T))
    stepped = [live.step(x_t) for x_t in x[:cut]]
    other = StreamingDRNN(model, B, held)
    other.restore(live.snapshot())
    stepped += [other.step(x_t) for x_t in x[cut:]]
    assert torch.equal(torch.stack(stepped), want)
    assert_same_bits(other.state, end)
    b = data.draw(st.integers(0, B - 1))
    alone = StreamingDRNN(model, 1, held)
    assert torch.equal(alone.push(x[:, b : b + 1])[:, 0], want[:, b])
    assert_same_bits(alone.state, end.select(b))


@pytest.mark.parametrize("kind", ["network", "tagger"])
@rounded
@examples(15)
@given(network=networks(torch.float32), B=st.integers(1, 6), data=st.data(), seed=seeds)
def test_masked_streams_are_as_if_alone(
    held: str, kind: str, network: Network, B: int, data: st.DataObject, seed: int
) -> None:
    model = build(kind, network, "cpu").eval()
    live, alone = StreamingDRNN(model, B, held), [StreamingDRNN(model, 1, held) for _ in range(B)]
    for i in range(6):
        active, T = data.draw(masks(B)), data.draw(st.integers(1, 4))
        x = network.x(T, B, seed + i)
        if active is not None:
            x[:, ~active] = torch.nan
        y = live.push(x, active)
        for b in range(B):
            if active is None or active[b]:
                assert torch.equal(y[:, b], alone[b].push(x[:, b : b + 1])[:, 0])
    for b in range(B):
        assert_same_bits(live.snapshot().select(b), alone[b].state)


@pytest.fixture
def use_threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@rounded
@every_level
@pytest.mark.parametrize("network", SIZES, ids=str)
def test_threads_and_large_chunks_change_no_bit(
    network: Network, level: str, held: str, use_threads: Callable[[int], None]
) -> None:
    """Against single steps, of a chunk that is worth three threads."""
    with cpu.use_level(level):
        B, model = 40, network.build("cpu")
        work = sum(w.numel() for w in model.parameters() if w.dim() == 2)
        T = 20 + 3 * 2_000_000 // (B * work)  # see useful_threads in schedule.cpp
        x, live = network.x(T, B), StreamingDRNN(model, B, held)
        want = torch.stack([live.step(x_t) for x_t in x])
        end = live.snapshot()
        for threads in (1, 3):
            use_threads(threads)
            live.reset()
            assert torch.equal(live.push(x), want)
            assert_same_bits(live.state, end)


@rounded
def test_weights_that_change_are_rounded_anew(held: str) -> None:
    network = SIZES[0]
    model, x = network.build("cpu"), network.x(4, 2)
    live = StreamingDRNN(model, 2, held)
    live.push(x)
    with torch.no_grad():
        model.get_parameter("weight_hh_l1").mul_(1.5)
    again = StreamingDRNN(model, 2, held)
    again.restore(live.snapshot())
    assert torch.equal(live.push(x), again.push(x))


@rounded
@pytest.mark.parametrize("kind", ["network", "embedder"])
def test_copies_and_pickles_hold_them_alike(held: str, kind: str) -> None:
    network = SIZES[0]
    live, x = StreamingDRNN(build(kind, network, "cpu"), 2, held), network.x(4, 2)
    live.push(x)
    others = [copy.deepcopy(live), pickle.loads(pickle.dumps(live))]
    want = live.push(x)
    for other in others:
        assert other.weights == held
        assert torch.equal(other.push(x), want)
