"""Live streams: fixed memory, refused inputs, snapshots. What they compute is in ``tests/properties``."""

from typing import Any

import pytest
import torch
from torch import Tensor

from streamdrnn import Classifier, DilatedRNN, DRNNState, ModelState, StreamingDRNN, Tagger
from streamdrnn.audio import RawWaveform
from streamdrnn.baselines import SkipRNN
from streamdrnn.heads import Head
from streamdrnn.kernels.pytorch import step
from streamdrnn.kernels.pytorch.backend import TORCH
from tests.agreement import assert_close, assert_same_bits, assert_states_close
from tests.kernels.cases import NATIVE
from tests.properties.models import KINDS, build
from tests.strategies import Network, randn

NETWORK = Network(dilations=(2, 3), cell="lstm", dtype=torch.float32)
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(params=["torch", NATIVE])
def backend(request: pytest.FixtureRequest) -> str:
    """What computes: with ``"cpu"`` a step is one call of native code, which writes the state."""
    name: str = request.param
    return name


def heard(backend: str, kind: str = "network", batch_size: int = 2) -> StreamingDRNN:
    """Streams that have heard something."""
    live = StreamingDRNN(build(kind, NETWORK, backend), batch_size)
    live.push(NETWORK.x(5, batch_size))
    return live


def held_bytes(state: DRNNState | ModelState) -> int:
    """What the storages hold, which a view of something larger would keep alive."""
    return sum(
        {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in state.tensors().values()}.values()
    )


@every_kind
def test_memory_does_not_grow_with_time(backend: str, kind: str) -> None:
    live = StreamingDRNN(build(kind, NETWORK, backend), 2)
    x = NETWORK.x(1, 2)
    live.step(x[0])
    before = held_bytes(live.state)
    steps = 300
    for _ in range(steps):
        live.step(x[0])
    assert held_bytes(live.state) == before
    assert live.cursor.tolist() == [steps + 1] * 2
    for _ in range(20):
        live.push(x.expand(50, 2, 3))
    assert held_bytes(live.state) == before
    assert not any(t.requires_grad for t in live.state.tensors().values())


def test_steps_write_the_same_memory(backend: str) -> None:
    live = heard(backend)
    places = [t.data_ptr() for t in live.state.tensors().values()]
    live.step(NETWORK.x(1, 2)[0])
    assert [t.data_ptr() for t in live.state.tensors().values()] == places


@every_kind
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_an_input_that_is_not_finite_is_refused_and_changes_nothing(backend: str, kind: str, value: float) -> None:
    live = heard(backend, kind)
    before = live.snapshot()
    x = NETWORK.x(3, 2)
    x[2, 1, 0] = value
    with pytest.raises(ValueError, match=r"^chunk: expected finite values, got NaN or infinity$"):
        live.push(x)
    with pytest.raises(ValueError, match=r"^x_t: expected finite values"):
        live.step(x[2])
    with pytest.raises(ValueError, match=r"^x_t: expected finite values"):
        live.step(x[2], torch.tensor([False, True]))
    assert_same_bits(live.state, before)


@every_kind
def test_an_input_of_an_inactive_stream_may_be_anything(backend: str, kind: str) -> None:
    live, other = heard(backend, kind), heard(backend, kind)
    x = NETWORK.x(3, 2)
    dirty = x.clone()
    dirty[:, 1] = torch.nan
    active = torch.tensor([True, False])
    assert torch.equal(live.push(dirty, active), other.push(x, active))
    assert torch.equal(live.step(dirty[0], active), other.step(x[0], active))
    assert_same_bits(live.state, other.state)


@every_kind
def test_a_refused_shape_changes_nothing(backend: str, kind: str) -> None:
    live = heard(backend, kind)
    before = live.snapshot()
    calls: list[tuple[Any, Any]] = [
        (live.push, torch.zeros(5, 3, 3)),
        (live.push, torch.zeros(5, 2, 3, dtype=torch.float64)),
        (live.step, torch.zeros(1, 3)),
        (live.step, torch.zeros(2, 4)),
        (live.step, torch.zeros(2, 3, dtype=torch.float64)),
        (live.step, torch.zeros(2, 3, dtype=torch.int32)),
        (live.step, torch.zeros(2, 3, device="meta")),
        (live.step, [[0.0] * 3] * 2),
        (live.step, None),
        (live.push, None),
        (live.reset, 2),
    ]
    for call, argument in calls:
        with pytest.raises((ValueError, TypeError)):
            call(argument)
    assert_same_bits(live.state, before)


@every_kind
@pytest.mark.parametrize("failing_layer", [0, 1])
def test_an_error_in_the_middle_of_a_call_changes_nothing(
    kind: str, failing_layer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = heard("torch", kind)
    before, x = live.snapshot(), NETWORK.x(3, 2)
    for module, name, call in ((step, "step", lambda: live.step(x[0])), (TORCH, "layer", lambda: live.push(x))):
        compute, calls = getattr(module, name), iter(range(10))

        def fails(*arguments: Any, compute: Any = compute, calls: Any = calls) -> Any:
            if next(calls) == failing_layer:
                raise MemoryError("out of memory")
            return compute(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(module, name, fails)
            with pytest.raises(MemoryError):
                call()
        assert_same_bits(live.state, before)
    live.step(x[0])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "network"])
def test_an_error_in_the_head_changes_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the torch backend: the native kernels have written the network's state by then, for the price of no copy."""
    live = heard("torch", kind)
    before, x = live.snapshot(), NETWORK.x(3, 2)

    def fails(*_: Any) -> None:
        raise MemoryError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(live.model, "read_out", fails)
        for call in (lambda: live.push(x), lambda: live.step(x[0])):
            with pytest.raises(MemoryError):
                call()
            assert_same_bits(live.state, before)
    live.step(x[0])


@every_kind
def test_an_output_stays_as_it_was_given(backend: str, kind: str) -> None:
    live = heard(backend, kind)
    outputs = [live.step(x_t) for x_t in NETWORK.x(3, 2)]
    outputs += [live.push(NETWORK.x(4, 2))]
    copies = [y.clone() for y in outputs]
    for x_t in NETWORK.x(9, 2, seed=7):
        live.step(x_t)
    live.reset()
    assert all(torch.equal(y, copy) for y, copy in zip(outputs, copies, strict=True))


@every_kind
def test_a_snapshot_stays_as_it_was_taken(backend: str, kind: str) -> None:
    live = heard(backend, kind)
    snapshot = live.snapshot()
    copy = snapshot.clone()
    first = [live.step(x_t) for x_t in NETWORK.x(9, 2, seed=7)]
    live.restore(snapshot)
    again = [live.step(x_t) for x_t in NETWORK.x(9, 2, seed=7)]
    live.reset()
    assert_same_bits(snapshot, copy)
    assert all(torch.equal(y, z) for y, z in zip(first, again, strict=True))


def test_a_snapshot_that_does_not_fit_is_refused_and_changes_nothing(backend: str) -> None:
    live = heard(backend)
    before = live.snapshot()
    assert isinstance(before, DRNNState)
    shorter = Network(dilations=(2, 2), cell="lstm", dtype=torch.float32).build().zero_state(2)
    gru = Network(dilations=(2, 3), dtype=torch.float32).build().zero_state(2)
    bad: list[tuple[Any, type[Exception], str]] = [
        (None, TypeError, "expected a DRNNState, got NoneType"),
        (tuple(before), TypeError, "expected a DRNNState, got tuple"),
        (heard(backend, "tagger").snapshot(), TypeError, "expected a DRNNState, got ModelState"),
        (before._replace(h=[before.h[0] * torch.nan, *before.h[1:]]), ValueError, "expected finite values"),
        (shorter, ValueError, r"snapshot\.h\[1\]: expected shape .*\(3, 2, 4\), got \(2, 2, 4\)"),
        (gru, ValueError, r"^snapshot\.c: expected 2 tensors, got 0"),
        (before.to(dtype=torch.float64), TypeError, "float64"),
        (before.to("meta"), ValueError, "meta"),
        (before.select([0]), ValueError, "holds 1 streams, expected 2"),
        (before._replace(cursor=torch.tensor([1, -1])), ValueError, "cursor"),
        (before._replace(cursor=torch.tensor([1, 2**63 - 2])), ValueError, "cursor"),
        (before._replace(cursor=torch.tensor([1, 2, 3])), ValueError, "."),
        (before._replace(h=[before.h[0][:, :1], before.h[1]]), ValueError, "."),
    ]
    for snapshot, kind, message in bad:
        with pytest.raises(kind, match=message):
            live.restore(snapshot)
        assert_same_bits(live.state, before)


class Doubled(Tagger):
    def forward(self, x: Tensor, state: Any = None, lengths: Any = None) -> Any:
        y, state = super().forward(x, state, lengths)
        return 2 * y, state


def test_weights_that_cannot_be_rounded_are_refused_in_one_line() -> None:
    network = NETWORK.build("cpu")
    hooked = NETWORK.build("cpu")
    hooked.register_forward_hook(lambda module, inputs, output: None)
    cases: list[tuple[Any, str, str]] = [
        (network, "int4", "weights: got 'int4', expected one of float32, bf16, int8"),
        (NETWORK.build("torch"), "int8", "expected 'float32': the backend 'torch' cannot round them"),
        (network.double(), "bf16", "weights: got 'bf16', expected 'float32': the backend 'torch' cannot"),
        (SkipRNN(3, 4, num_layers=2), "int8", "expected 'float32': SkipRNN, which is called as it is, cannot"),
        (Tagger(hooked, 2), "int8", "expected 'float32': DilatedRNN, which is called as it is, cannot"),
        (Doubled(NETWORK.build("cpu"), 2), "int8", "expected 'float32': Doubled, which is called as it is, cannot"),
    ]
    for model, weights, problem in cases:
        with pytest.raises(ValueError, match=problem) as refused:
            StreamingDRNN(model, weights=weights)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("backend", [NATIVE])
def test_a_network_that_has_to_be_called_is_refused_while_its_weights_are_rounded(backend: str) -> None:
    live = StreamingDRNN(NETWORK.build(backend), 2, weights="int8")
    x = NETWORK.x(5, 2)
    live.push(x)
    before = live.snapshot()
    hook = live.model.register_forward_hook(lambda module, inputs, output: None)
    with pytest.raises(ValueError, match="DilatedRNN, which is called as it is, cannot round them"):
        live.push(x)
    assert_same_bits(live.state, before)
    hook.remove()
    live.push(x)


@every_kind
def test_a_view_that_negates_is_read_as_what_it_shows(backend: str, kind: str) -> None:
    """torch gives one as the imaginary part of a conjugate."""
    one, two = heard(backend, kind), heard(backend, kind)
    x = NETWORK.x(3, 2)
    assert torch.equal(one.step(-x[0]), two.step(torch._neg_view(x[0])))
    assert torch.equal(one.push(-x), two.push(torch._neg_view(x)))


@every_kind
def test_layout_in_memory_does_not_matter(backend: str, kind: str) -> None:
    """Of inputs, masks and snapshots."""
    one, two = heard(backend, kind), heard(backend, kind)
    x, active = NETWORK.x(7, 2), torch.tensor([True, False])
    strange = x.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    assert not strange.is_contiguous()
    assert torch.equal(one.push(x), two.push(strange))
    assert torch.equal(one.step(x[0]), two.step(strange[0]))
    assert torch.equal(one.step(x[0], active), two.step(strange[0], active.repeat_interleave(2)[::2]))
    snapshot = one.snapshot()
    two.restore(snapshot.map(lambda t: t[None].transpose(0, -1).contiguous().transpose(0, -1)[0]))
    two.restore(snapshot.map(lambda t: t.transpose(0, -1).contiguous().transpose(0, -1)))
    assert torch.equal(one.push(x), two.push(x))
    assert_same_bits(one.state, two.state)


def test_a_models_snapshot_that_does_not_fit_is_refused(backend: str) -> None:
    live = heard(backend, "classifier of the mean")
    with pytest.raises(ValueError, match=r"^snapshot\.pooled: expected shape .*\(1, 2, 4\), got \(0, 2, 4\)"):
        live.restore(heard(backend, "tagger").snapshot())
    with pytest.raises(TypeError, match="expected a ModelState, got DRNNState"):
        live.restore(heard(backend).snapshot())


def test_the_model_is_switched_to_eval_and_outputs_have_no_graph(backend: str) -> None:
    model = NETWORK.build(backend, dropout=0.5).train()
    live = StreamingDRNN(model)
    y = live.push(NETWORK.x(5, 1))
    assert not model.training
    assert not y.requires_grad
    assert torch.equal(y, model(NETWORK.x(5, 1))[0])


def test_the_cursor_counts_each_streams_steps(backend: str) -> None:
    live = StreamingDRNN(NETWORK.build(backend), 2)
    live.push(NETWORK.x(5, 2))
    live.push(NETWORK.x(2, 2), torch.tensor([False, True]))
    live.reset([0])
    live.step(NETWORK.x(1, 2)[0])
    cursor = live.cursor
    assert cursor.tolist() == [1, 8]
    cursor.zero_()
    assert live.cursor.tolist() == [1, 8]


def test_one_model_may_serve_several_streams_and_training(backend: str) -> None:
    model = NETWORK.build(backend)
    one, two = StreamingDRNN(model), StreamingDRNN(model, 3)
    one.push(NETWORK.x(5, 1))
    two.push(NETWORK.x(2, 3))
    assert one.cursor.tolist() == [5]
    y, _ = model(NETWORK.x(4, 2))
    y.square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_batch_first_network_takes_and_gives_batch_first_chunks(backend: str) -> None:
    x = NETWORK.x(6, 2)
    want = StreamingDRNN(NETWORK.build(backend), 2).push(x)
    live = StreamingDRNN(NETWORK.build(backend, batch_first=True), 2)
    assert_close(live.push(x.transpose(0, 1)), want.transpose(0, 1))
    active = torch.tensor([True, False])
    assert live.push(x.transpose(0, 1), active).shape == (2, 6, 4)
    assert live.cursor.tolist() == [12, 6]


def samples_model(backend: str, kind: str) -> DilatedRNN | Head:
    """A head that takes samples, three of them a step."""
    rnn = NETWORK.build(backend)
    torch.manual_seed(1)
    front = RawWaveform(3)
    return Tagger(rnn, 2, front) if kind == "tagger" else Classifier(rnn, 2, kind, front)


@pytest.mark.parametrize("kind", ["tagger", "last", "mean"])
@pytest.mark.parametrize("sizes", [[1] * 17, [5, 0, 12], [2, 15], [16, 1]])
def test_samples_in_any_chunks_give_what_they_give_whole(backend: str, kind: str, sizes: list[int]) -> None:
    model = samples_model(backend, kind)
    audio = randn(17, 2, seed=3, dtype=torch.float32)
    want, end = model.eval()(audio)
    assert want.shape[0] == 5
    live = StreamingDRNN(model, 2)
    assert_close(torch.cat([live.push(part) for part in audio.split(sizes)]), want)
    assert_states_close(live.snapshot(), end.detach())


@pytest.mark.parametrize("kind", ["tagger", "last", "mean"])
def test_a_step_of_samples_is_one_hop(backend: str, kind: str) -> None:
    model = samples_model(backend, kind)
    audio = randn(15, 2, seed=3, dtype=torch.float32)
    want = model.eval()(audio)[0]
    live = StreamingDRNN(model, 2)
    with pytest.raises(ValueError, match=r"^x_t: expected shape"):
        live.step(audio[:4].T)
    assert_close(torch.stack([live.step(hop.T) for hop in audio.split(3)]), want)


def step_of_samples(live: StreamingDRNN, audio: Tensor, active: list[bool]) -> Tensor:
    return live.step(audio.T, torch.tensor(active))


@pytest.mark.parametrize("kind", ["tagger", "last", "mean"])
def test_a_masked_step_of_samples_leaves_the_other_streams_alone(backend: str, kind: str) -> None:
    audio = randn(3, 2, seed=3, dtype=torch.float32)
    dirty = audio.clone()
    dirty[:, 1] = torch.nan
    live = StreamingDRNN(samples_model(backend, kind), 2)
    live.push(randn(4, 2, seed=4, dtype=torch.float32))
    before = live.snapshot()
    step_of_samples(live, dirty, [True, False])
    assert_same_bits(live.snapshot().select(1), before.select(1))
    alone = StreamingDRNN(samples_model(backend, kind), 2)
    alone.restore(before)
    both = alone.step(audio.T)
    assert_states_close(alone.snapshot().select(0), live.snapshot().select(0))
    live.restore(before)
    assert_close(step_of_samples(live, audio, [True, False])[0], both[0])


def test_streams_of_different_lengths_go_through_together(backend: str) -> None:
    model = build("tagger", NETWORK, backend).eval()
    live, x = StreamingDRNN(model, 3), NETWORK.x(5, 3)
    x[2:, 1], x[:, 2] = torch.nan, torch.inf
    y = live.push(x, lengths=torch.tensor([5, 2, 0]))
    for b, n in enumerate([5, 2, 0]):
        assert_close(y[:n, b], StreamingDRNN(model).push(x[:n, b : b + 1])[:, 0])
        assert not y[n:, b].any()
    assert live.cursor.tolist() == [5, 2, 0]
    with pytest.raises(ValueError, match="got both, expected one of them"):
        live.push(x, active=torch.tensor([True] * 3), lengths=torch.tensor([5, 2, 0]))
    with pytest.raises(ValueError, match="lengths: expected values from 0 to 5"):
        live.push(x, lengths=torch.tensor([6, 0, 0]))
    with pytest.raises(ValueError, match="expected finite values"):
        live.push(x, lengths=torch.tensor([5, 3, 0]))
    assert live.cursor.tolist() == [5, 2, 0]


@every_kind
def test_some_streams_are_restored_and_the_others_go_on(backend: str, kind: str) -> None:
    model = build(kind, NETWORK, backend).eval()
    x = NETWORK.x(9, 3)
    live, other = StreamingDRNN(model, 3), StreamingDRNN(model, 2)
    live.push(x[:5])
    other.restore(live.snapshot([2, 0]), [0, 1])
    assert_states_close(other.snapshot(), live.snapshot().select([2, 0]))
    live.push(x[5:], torch.tensor([False, True, False]))
    live.restore(other.snapshot(0), 2)
    assert_close(live.push(x[5:], torch.tensor([True, False, True]))[:, [0, 2]], model(x)[0][5:, [0, 2]].detach())
    assert live.cursor.tolist() == [9, 9, 9]
    before = live.snapshot()
    for streams, problem in [
        ([0], "holds 2 streams, expected 1"),
        ([1, 1], "expected each at most once"),
        ([1, 3], "expected indices from 0 to 2"),
    ]:
        with pytest.raises(ValueError, match=problem):
            live.restore(other.snapshot(), streams)
    assert_same_bits(live.snapshot(), before)


@every_kind
def test_a_chunk_of_some_streams_leaves_the_others_as_they_are(backend: str, kind: str) -> None:
    model = build(kind, NETWORK, backend).eval()
    x = NETWORK.x(9, 4)
    live = StreamingDRNN(model, 4)
    live.push(x[:4])
    before = live.snapshot()
    y = live.push(x[4:, [3, 1]], lengths=torch.tensor([5, 2]), streams=[3, 1])
    assert live.cursor.tolist() == [4, 6, 4, 9]
    assert_same_bits(live.snapshot([0, 2]), before.select([0, 2]))
    whole = model(x)[0].detach()
    assert_close(y[:, 0], whole[4:, 3])
    assert_close(y[:2, 1], whole[4:6, 1])
    # Who goes with whom changes no bit of a native result, and all of them together go on from there.
    alone = StreamingDRNN(model, 4)
    alone.restore(before)
    assert_close(alone.push(x[4:, 3:], streams=3)[:, 0], y[:, 0])
    assert_close(live.push(x[4:], active=torch.tensor([True, False, True, False]))[:, [0, 2]], whole[4:, [0, 2]])
    assert_close(live.push(x[6:, 1:2], active=torch.tensor([True]), streams=1)[:, 0], whole[6:, 1])
    after = live.snapshot()
    for streams, chunk, problem in [
        ([0, 4], x[:, :2], "expected indices from 0 to 3"),
        ([1, 1], x[:, :2], "expected each at most once"),
        ([1, 2], x, "chunk: expected shape"),
        ([1, 2], x[:, :2] * torch.nan, "expected finite values"),
    ]:
        with pytest.raises(ValueError, match=problem):
            live.push(chunk, streams=streams)
    assert_same_bits(live.snapshot(), after)


@pytest.mark.parametrize("kind", ["tagger", "last", "mean"])
def test_samples_of_some_streams_leave_the_others_as_they_are(backend: str, kind: str) -> None:
    model = samples_model(backend, kind).eval()
    audio = randn(17, 3, seed=3, dtype=torch.float32)
    live, alone = StreamingDRNN(model, 3), StreamingDRNN(model, 1)
    got = [live.push(part, streams=[2, 0]) for part in audio[:, [2, 0]].split([4, 0, 13])]
    assert_close(torch.cat(got), model(audio[:, [2, 0]])[0].detach())
    assert live.cursor.tolist() == [5, 0, 5]
    assert live.push(audio[:, :0], streams=[]).shape[1] == 0
    assert_close(live.push(audio[:, 1:2], streams=1), alone.push(audio[:, 1:2]))
