"""The native CPU kernels give the same bits for the same stream: in any chunks, beside any others, on any threads."""

from collections.abc import Callable, Iterator
from typing import Optional

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from streamdrnn import DilatedRNN, DRNNState, ModelState, StreamingDRNN
from streamdrnn.audio import LogMel, RawWaveform
from streamdrnn.heads import Classifier, SpeakerEmbedder, Tagger
from streamdrnn.kernels import Weights, cpu
from streamdrnn.kernels.cpu.stack import stack
from tests.agreement import assert_same_bits
from tests.kernels.cases import Case, needs_native
from tests.properties.models import KINDS, Model, build
from tests.strategies import CELLS, Network, chunkings, examples, lengths, masks, networks, randn, random_state, seeds

pytestmark = needs_native
every_kind = pytest.mark.parametrize("kind", KINDS)
LEVELS = ["portable"] if cpu.why_not() else cpu.levels()
State = DRNNState | ModelState


@pytest.fixture
def use_threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def assert_same(got: Tensor, want: Tensor, what: str = "y") -> None:
    assert got.shape == want.shape
    assert torch.equal(got, want), f"{what} differs by {float((got - want).abs().max()):.3g}"


def in_chunks(model: Model, x: Tensor, chunks: list[int]) -> tuple[Tensor, State]:
    state: State = model.zero_state(x.shape[1])
    outputs = []
    for part in x.split(chunks):
        y, state = model(part, state)
        outputs.append(y)
    return torch.cat(outputs), state


def by_steps(model: Model, x: Tensor) -> tuple[Tensor, State]:
    state: State = model.zero_state(x.shape[1])
    outputs = [model(x[:0])[0]]
    for x_t in x:
        y_t, state = model.step(x_t, state)  # type: ignore[arg-type]
        outputs.append(y_t[None])
    return torch.cat(outputs), state


@examples(60)
@given(network=networks(torch.float32), B=st.integers(1, 4), T=st.integers(1, 20), data=st.data(), seed=seeds)
def test_the_last_outputs_alone(network: Network, B: int, T: int, data: st.DataObject, seed: int) -> None:
    """And the gradients of what was read, as where the outputs before were computed and not read."""
    model, x = network.build("cpu"), randn(T, B, network.input_size, seed=seed, dtype=torch.float32)
    times = st.lists(st.integers(0, 30), min_size=B, max_size=B)
    state = data.draw(st.one_of(st.none(), times.map(lambda cursor: random_state(model, cursor, seed))))
    own = data.draw(st.one_of(st.none(), st.lists(st.integers(1, T), min_size=B, max_size=B).map(torch.tensor)))
    y, after = model(x, state, own)
    want = y[-1] if own is None else y[own - 1, torch.arange(B)]
    got, got_after = model.last(x, state, own)
    assert_same(got, want)
    for name, tensor in after.tensors().items():
        assert_same(got_after.tensors()[name], tensor, name)
    parameters = list(model.parameters())
    gradients = zip(*(torch.autograd.grad(last.square().sum(), parameters) for last in (got, want)), strict=True)
    for one, other in gradients:
        torch.testing.assert_close(one, other)


@every_kind
@examples(30)
@given(network=networks(torch.float32), B=st.integers(1, 12), T=st.integers(0, 20), data=st.data(), seed=seeds)
def test_chunks_single_steps_and_live_streams_are_the_whole(
    kind: str, network: Network, B: int, T: int, data: st.DataObject, seed: int
) -> None:
    model = build(kind, network, "cpu").eval()
    x = network.x(T, B, seed)
    with torch.no_grad():
        want, end = model(x)
        chunked = in_chunks(model, x, data.draw(chunkings(T)))
        stepped = by_steps(model, x)
    for y, state in (chunked, stepped):
        assert_same(y, want)
        assert_same_bits(state, end)
    live = StreamingDRNN(model, B)
    pushed = torch.cat([live.push(part) for part in x.split(data.draw(chunkings(T)))])
    assert_same(pushed, want)
    assert_same_bits(live.state, end)
    live.reset()
    for t, x_t in enumerate(x):
        assert_same(live.step(x_t), want[t])
    assert_same_bits(live.state, end)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("inputs", "hidden"), [(301, 20), (5, 203), (180, 190)])
def test_wide_layers_are_the_same_in_batch_and_by_steps(cell: str, inputs: int, hidden: int) -> None:
    """A batch takes their weights in pieces, which the sums of rows outlast; a step takes them in one."""
    torch.manual_seed(0)
    model = DilatedRNN(inputs, hidden, dilations=[1, 2], cell=cell, backend="cpu")
    x = torch.randn(9, 11, inputs)
    want = model(x)[0]
    with torch.no_grad():
        assert_same(by_steps(model, x)[0], want)
    for weights in ("float32", "bf16"):
        together, alone = (StreamingDRNN(model, B, weights=weights) for B in (11, 1))
        assert_same(together.push(x)[:, 4:5], torch.cat([alone.push(x_t[None, 4:5]) for x_t in x]))
    twin = DilatedRNN(inputs, hidden, dilations=[1, 2], cell=cell, backend="reference")
    twin.load_state_dict(model.state_dict())
    want.square().sum().backward()
    twin(x)[0].square().sum().backward()
    for got, expected in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(got.grad, expected.grad, rtol=1e-4, atol=1e-4)


@every_kind
@examples(20)
@given(network=networks(torch.float32), B=st.integers(1, 12), T=st.integers(1, 20), data=st.data(), seed=seeds)
def test_a_stream_is_the_same_alone_and_beside_others(
    kind: str, network: Network, B: int, T: int, data: st.DataObject, seed: int
) -> None:
    """With gradients asked for too, where native code saves what it computes."""
    model = build(kind, network, "cpu").eval()
    x, b = network.x(T, B, seed), data.draw(st.integers(0, B - 1))
    own = data.draw(st.one_of(st.none(), lengths(T, B)))
    padded = x.clone()
    for i in range(B if own is not None else 0):
        assert own is not None
        padded[int(own[i]) :, i] = torch.nan
    n = T if own is None else int(own[b])
    together, end = model(padded, None, own)
    alone, alone_end = model(x[:n, b : b + 1])
    assert_same(together[:n, b], alone[:, 0])
    assert_same_bits(end.select(b).detach(), alone_end.detach())
    with torch.no_grad():
        without, without_end = model(padded, None, own)
    assert_same(together, without)
    assert_same_bits(end.detach(), without_end)


@every_kind
@examples(20)
@given(network=networks(torch.float32), B=st.integers(1, 6), data=st.data(), seed=seeds)
def test_masked_streams_are_as_if_alone(kind: str, network: Network, B: int, data: st.DataObject, seed: int) -> None:
    """Steps and pushes in turn, each for some streams only; then every stream's own inputs once more, whole."""
    model = build(kind, network, "cpu").eval()
    live = StreamingDRNN(model, B)
    inputs: list[list[Tensor]] = [[] for _ in range(B)]
    outputs: list[list[Tensor]] = [[] for _ in range(B)]
    for i in range(8):
        active: Optional[Tensor] = data.draw(masks(B))
        T = data.draw(st.integers(0, 4))
        x = network.x(max(T, 1), B, seed + i)
        if active is not None:
            x[:, ~active] = torch.nan
        y = live.push(x[:T], active) if T else live.step(x[0], active)[None]
        for b in range(B):
            if active is None or active[b]:
                inputs[b] += x[:, b].unbind()
                outputs[b] += y[:, b].unbind()
    for b in range(B):
        x = torch.stack(inputs[b])[:, None] if inputs[b] else network.x(0, 1)
        with torch.no_grad():
            want, end = model(x)
        if outputs[b]:
            assert_same(torch.stack(outputs[b]), want[:, 0])
        assert_same_bits(live.snapshot().select(b), end)


LARGE = [
    Network(5, 20, (1, 64, 2), "gru", dtype=torch.float32),
    Network(17, (33, 70), (3, 70), "lstm", dtype=torch.float32),
    Network(5, (65, 17, 64), (70, 1, 5), "gru", bias=False, dtype=torch.float32),
    Network(1, 17, (2, 4), "rnn", fuse=False, dtype=torch.float32),
    Network(3, (16, 5), (9, 1), "lstm", bias=False, dtype=torch.float32),
]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("network", LARGE, ids=lambda n: f"{n.cell} {n.hidden_size} {n.dilations}")
def test_sizes_that_cross_the_blocks(network: Network, level: str) -> None:
    """Many streams in few chunks go by rows, one stream by units: the same bits at every level of instructions."""
    B, T = 40, 150
    with cpu.use_level(level), torch.no_grad():
        model = network.build("cpu").eval()
        x = network.x(T, B)
        want, end = model(x)
        for chunks in ([1, 7, 8, 9, 64, 61], [149, 1]):
            y, state = in_chunks(model, x, chunks)
            assert_same(y, want)
            assert_same_bits(state, end)
        for some in ([3], [39, 0], list(range(8)), list(range(1, 18)), list(range(39, -1, -1))):
            y, state = model(x[:, some])
            assert_same(y, want[:, some])
            assert_same_bits(state, end.select(some))
        own = torch.tensor([(b * 37) % (T + 1) for b in range(B)])
        y, state = model(x, None, own)
        for b in range(0, B, 5):
            n = int(own[b])
            alone, alone_end = model(x[:n, b : b + 1])
            assert_same(y[:n, b], alone[:, 0])
            assert_same_bits(state.select(b), alone_end)
        live = StreamingDRNN(model, B)
        for t in range(20):
            assert_same(live.step(x[t]), want[t])
        assert_same(live.push(x[20:]), want[20:])
        assert_same_bits(live.state, end)
        one = StreamingDRNN(model)
        assert_same(torch.stack([one.step(x_t) for x_t in x[:, 7:8]]), want[:, 7:8])


@every_kind
def test_a_long_sequence_in_chunks_through_every_head(kind: str) -> None:
    network = Network(5, (20, 33), (3, 16), "gru", dtype=torch.float32)
    model = build(kind, network, "cpu").eval()
    x = network.x(300, 24)
    with torch.no_grad():
        want, end = model(x)
        for some in ([5], list(range(9, 20))):
            assert_same(model(x[:, some])[0], want[:, some])
    live = StreamingDRNN(model, 24)
    parts = [live.push(part) for part in x[:290].split([1, 30, 2, 200, 57])] + [live.step(x_t)[None] for x_t in x[290:]]
    assert_same(torch.cat(parts), want)
    assert_same_bits(live.state, end)


@pytest.mark.parametrize("front", ["samples", "mel"])
@pytest.mark.parametrize("kind", ["tagger", "last", "mean", "embedder"])
def test_from_the_features_on_audio_streams_to_the_same_bits(kind: str, front: str) -> None:
    """A front-end cuts audio into the same frames whatever the chunks; what is made of equal frames is equal."""
    frontend = RawWaveform(4) if front == "samples" else LogMel(n_fft=64, win_length=50, hop_length=20, n_mels=8)
    rnn = Network(frontend.num_features, (9, 17), (2, 3), "lstm", dtype=torch.float32).build("cpu")
    model: Tagger | Classifier | SpeakerEmbedder
    if kind == "tagger":
        model = Tagger(rnn, 2, frontend).eval()
    elif kind == "embedder":
        model = SpeakerEmbedder(rnn, 3, frontend).eval()
    else:
        model = Classifier(rnn, 2, kind, frontend).eval()
    audio = randn(403, 3, seed=1, dtype=torch.float32)
    live = StreamingDRNN(model, 3)
    got = torch.cat([live.push(part) for part in audio.split([1, 150, 0, 3, 249])])
    frames, _, _ = model.features(audio, None, None)
    assert isinstance(model.frontend, RawWaveform | LogMel)
    features = build_like(model)
    with torch.no_grad():
        want, end = features(frames)
    assert got.shape == want.shape
    if front == "samples":
        assert_same(got, want)
        assert_same_bits(live.snapshot().rnn, end.rnn)  # type: ignore[union-attr]
    else:  # a spectrum is torch's, in float32
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def build_like(model: Tagger | Classifier | SpeakerEmbedder) -> Tagger | Classifier | SpeakerEmbedder:
    """The same head with the same weights, but taking features."""
    again: Tagger | Classifier | SpeakerEmbedder
    if isinstance(model, Tagger):
        again = Tagger(model.rnn, model.num_outputs)
    elif isinstance(model, Classifier):
        again = Classifier(model.rnn, model.num_classes, model.pool)
    else:
        again = SpeakerEmbedder(model.rnn, model.embedding_size)
    again.load_state_dict(model.state_dict(), strict=False)
    return again.eval()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("way", ["by units", "by rows"])
def test_threads_change_no_bit(cell: str, way: str, use_threads: Callable[[int], None]) -> None:
    """In outputs, states and gradients; of a chunk large enough for eight threads."""
    hidden, B, T = (48, 5, 120) if way == "by units" else (20, 40, 70)
    network = Network(17, hidden, (1, 3, 70, 2), cell, fuse=True, dtype=torch.float32)
    # What a thread is made for, see useful_threads in schedule.cpp.
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[cell]
    repeats = -(-8 * 2_000_000 // (T * B * gates * hidden * (17 + 7 * hidden)))
    T *= repeats
    own = torch.tensor([T - (b % 3) * (T // 4) for b in range(B)])
    results = []
    for threads in (1, 2, 8):
        use_threads(threads)
        model = network.build("cpu")
        x = network.x(T, B).requires_grad_()
        before = random_state(model, range(B), seed=5)
        rings = [t.requires_grad_() for t in before.tensors().values() if t.is_floating_point()]
        y, after = model(x, before, own)
        loss = (y * randn(*y.shape, seed=3, dtype=y.dtype)).sum()
        for ring in (t for t in after.tensors().values() if t.is_floating_point()):
            loss = loss + ring.square().sum()
        gradients = torch.autograd.grad(loss, [x, *model.parameters(), *rings])
        live = StreamingDRNN(model, B)
        pushed = live.push(x.detach())
        results.append([y, *after.tensors().values(), *gradients, pushed, *live.snapshot().tensors().values()])
    names = ["y", *after.tensors(), "x", *dict(model.named_parameters()), *before.tensors()]
    for threads, result in zip((2, 8), results[1:], strict=True):
        for i, (got, want) in enumerate(zip(result, results[0], strict=True)):
            name = names[i] if i < len(names) else "live"
            assert torch.equal(got, want), f"{name} with {threads} threads"


def test_threads_change_no_bit_of_a_linear_map(use_threads: Callable[[int], None]) -> None:
    """Beside any other rows, too."""
    x, w, b = (randn(*shape, seed=i, dtype=torch.float32) for i, shape in enumerate([(2600, 70), (65, 70), (65,)]))
    results = []
    for threads in (1, 2, 8):
        use_threads(threads)
        leaves = [t.clone().requires_grad_() for t in (x, w, b)]
        y = cpu.linear(*leaves)
        results.append([y, *torch.autograd.grad((y * randn(*y.shape, seed=3, dtype=y.dtype)).sum(), leaves)])
    for result in results[1:]:
        assert all(torch.equal(got, want) for got, want in zip(result, results[0], strict=True))
    for rows in (slice(0, 1), slice(7, 20), slice(255, 258), slice(2599, 2600)):
        assert_same(cpu.linear(x[rows], w, b), results[0][0][rows])


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("H", [5, 17, 20, 33, 50, 65])
@pytest.mark.parametrize("cell", CELLS)
def test_by_rows_and_by_units_are_the_same_bits(cell: str, H: int, level: str) -> None:
    """The stack that a chunk of few steps or few streams takes is laid out by units, that of many by rows."""
    T, B, d = 16, 32, 5
    case = Case(cell, T, 7, H, d, tuple(range(B)), tuple(b % (T + 1) for b in range(B)), dtype=torch.float32)
    with cpu.use_level(level):
        arguments = case.arguments()
        y, h, c, _ = case.run(arguments, "cpu")
        weights: list[Weights] = [arguments.weights]
        for b in range(0, B, 3):
            own = slice(b, b + 1)
            c_rings = None if arguments.c_ring is None else [arguments.c_ring[:, own]]
            n, clock = b % (T + 1), torch.tensor([b])
            y_b, h_b, c_b, _ = stack(
                cell, arguments.x[:n, own], weights, [d], [arguments.h_ring[:, own]], c_rings, clock
            )
            assert_same(y[:n, own], y_b)
            assert_same(h[:, own], h_b[0], "h")
            if c is not None:
                assert_same(c[:, own], c_b[0], "c")
