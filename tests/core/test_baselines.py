"""The networks that dilated ones are compared with, against naive loops over time."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Optional, Union

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from streamdrnn import DilatedRNN, StreamingDRNN
from streamdrnn.baselines import LRU, DilatedCNN, MinGRU, SkipRNN, stacked_rnn
from streamdrnn.kernels import Weights, cell_named, reference
from streamdrnn.state import StreamState
from tests.agreement import assert_all_close, assert_close, assert_same_bits
from tests.kernels.cases import needs_native
from tests.strategies import CELLS, cells, chunkings, examples, lengths, randn, seeds

Baseline = Union[SkipRNN, DilatedCNN, MinGRU, LRU]


def skip_rnn(cell: str = "gru", skips: tuple[int, ...] = (3, 2), bias: bool = True, seed: int = 0) -> SkipRNN:
    torch.manual_seed(seed)
    return SkipRNN(3, 4, skips=skips, cell=cell, bias=bias).double()


def dilated_cnn(dilations: tuple[int, ...] = (1, 3), seed: int = 0, channels: int = 4, **options: Any) -> DilatedCNN:
    torch.manual_seed(seed)
    model = DilatedCNN(3, channels, dilations=dilations, **options).double()
    for name, parameter in model.named_parameters():
        if name.startswith("bias"):
            nn.init.normal_(parameter)
    return model


def min_gru(num_layers: int = 2, bias: bool = True, seed: int = 0) -> MinGRU:
    torch.manual_seed(seed)
    return MinGRU(3, 4, num_layers, bias).double()


def lru(num_layers: int = 2, seed: int = 0) -> LRU:
    torch.manual_seed(seed)
    model = LRU(3, 4, num_layers).double()
    nn.init.normal_(model.bias_in)
    return model


BASELINES: dict[str, Callable[[], Baseline]] = {
    **{f"skip {cell}": partial(skip_rnn, cell) for cell in CELLS},
    "skip without bias": partial(skip_rnn, bias=False),
    "cnn": dilated_cnn,
    "gated cnn": lambda: dilated_cnn(gated=True),
    "residual cnn": lambda: dilated_cnn(gated=True, residual=True, kernel_size=3),
    "min-gru": min_gru,
    "min-gru without bias": partial(min_gru, bias=False),
    "lru": lru,
}
every_baseline = pytest.mark.parametrize("build", BASELINES.values(), ids=BASELINES.keys())


@st.composite
def models(draw: st.DrawFn) -> Baseline:
    delays = tuple(draw(st.lists(st.integers(1, 7), min_size=1, max_size=3)))
    kind = draw(st.sampled_from(["skip", "cnn", "min-gru", "lru"]))
    if kind == "skip":
        return skip_rnn(draw(cells), delays, draw(st.booleans()), draw(seeds))
    if kind == "min-gru":
        return min_gru(len(delays), draw(st.booleans()), draw(seeds))
    if kind == "lru":
        return lru(len(delays), draw(seeds))
    return dilated_cnn(
        delays,
        draw(seeds),
        kernel_size=draw(st.integers(2, 4)),
        gated=draw(st.booleans()),
        residual=draw(st.booleans()),
        bias=draw(st.booleans()),
    )


def naive_skip_rnn(model: SkipRNN, x: Tensor) -> Tensor:
    """Equation 2 step by step, with the specification's cell."""
    own = dict(model.named_parameters())
    for k, skip in enumerate(model.skips):
        biases = own.get(f"bias_ih_l{k}"), own.get(f"bias_hh_l{k}")
        weights = Weights(own[f"weight_ih_l{k}"], own[f"weight_hh_l{k}"], *biases)
        nothing = x.new_zeros(x.shape[1], model.hidden_size)
        h: list[Tensor] = []
        c: Optional[Tensor] = nothing if cell_named(model.cell).has_c else None
        for t in range(x.shape[0]):
            one_ago = h[t - 1] if t >= 1 else nothing
            skipped = h[t - skip] if t >= skip else nothing
            new, c = reference.step(model.cell, torch.cat([x[t], skipped], dim=1), weights, one_ago, c)
            h.append(new)
        x = torch.stack(h)
    return x


def naive_cnn(model: DilatedCNN, x: Tensor) -> Tensor:
    """The sums of a convolution, one output and one tap at a time."""
    for layer, d in enumerate(model.dilations):
        weight, bias = getattr(model, f"weight_l{layer}"), getattr(model, f"bias_l{layer}")
        outputs = []
        for t in range(x.shape[0]):
            z = x.new_zeros(x.shape[1], weight.shape[0])
            for tap in range(model.kernel_size):
                then = t - (model.kernel_size - 1 - tap) * d
                if then >= 0:
                    z = z + x[then] @ weight[:, :, tap].T
            z = z if bias is None else z + bias
            H = model.hidden_size
            y = torch.tanh(z[:, :H]) * torch.sigmoid(z[:, H:]) if model.gated else z.clamp(min=0)
            outputs.append(y + x[t] if model.residual and layer else y)
        x = torch.stack(outputs)
    return x


def naive_min_gru(model: MinGRU, x: Tensor) -> Tensor:
    """The paper's equations, one step at a time."""
    own, H = dict(model.named_parameters()), model.hidden_size
    for k in range(model.num_layers):
        weight, bias = own[f"weight_l{k}"], own.get(f"bias_l{k}", x.new_zeros(2 * H))
        h, outputs = x.new_zeros(x.shape[1], H), []
        for x_t in x:
            z = torch.sigmoid(x_t @ weight[:H].T + bias[:H])
            h = (1 - z) * h + z * (x_t @ weight[H:].T + bias[H:])
            outputs.append(h + x_t if k else h)
        x = torch.stack(outputs)
    return x


def naive_lru(model: LRU, x: Tensor) -> Tensor:
    """The paper's equations in complex numbers, one step at a time."""
    own, H = dict(model.named_parameters()), model.hidden_size
    x = x @ own["weight_in"].T + own["bias_in"]
    for k in range(model.num_layers):
        nu, theta, b, c, d, glu = (own[f"{name}_l{k}"] for name in ("nu", "theta", "b", "c", "d", "glu"))
        eigenvalues = torch.exp(torch.complex(-torch.exp(nu), torch.exp(theta)))
        into, out = torch.complex(b[:H], b[H:]), torch.complex(c[:, :H], -c[:, H:])
        h, outputs = torch.zeros(x.shape[1], H, dtype=eigenvalues.dtype), []
        for x_t in x:
            u = functional.layer_norm(x_t, (H,))
            h = eigenvalues * h + torch.sqrt(1 - eigenvalues.abs() ** 2) * (u.to(h.dtype) @ into.T)
            v = (h @ out.T).real + d * u
            outputs.append(x_t + v @ glu[:H].T * torch.sigmoid(v @ glu[H:].T))
        x = torch.stack(outputs)
    return x


def naive(model: Baseline, x: Tensor) -> Tensor:
    if isinstance(model, MinGRU):
        return naive_min_gru(model, x)
    if isinstance(model, LRU):
        return naive_lru(model, x)
    return naive_skip_rnn(model, x) if isinstance(model, SkipRNN) else naive_cnn(model, x)


@examples(40)
@given(models(), st.integers(1, 12), st.integers(1, 3), seeds)
def test_it_computes_what_its_definition_says(model: Baseline, T: int, B: int, seed: int) -> None:
    x = randn(T, B, 3, seed=seed)
    assert_close(model(x)[0], naive(model, x))


@examples(40)
@given(models(), st.data(), seeds)
def test_chunks_equal_the_whole(model: Baseline, data: st.DataObject, seed: int) -> None:
    x = randn(14, 2, 3, seed=seed)
    whole, end = model(x)
    state, parts = None, []
    for chunk in x.split(data.draw(chunkings(14))):
        y, state = model(chunk, state)
        parts.append(y)
    assert state is not None
    assert_close(torch.cat(parts), whole)
    assert_all_close(list(state.tensors().values()), list(end.tensors().values()))


@every_baseline
def test_steps_equal_the_whole(build: Callable[[], Baseline]) -> None:
    model, x = build(), randn(9, 2, 3, seed=1)
    state: Any = model.zero_state(2)
    steps = []
    for x_t in x:
        y_t, state = model.step(x_t, state)
        steps.append(y_t)
    assert_close(torch.stack(steps), model(x)[0])


@examples(40)
@given(models(), st.data(), seeds)
def test_streams_of_other_lengths_are_as_if_alone(model: Baseline, data: st.DataObject, seed: int) -> None:
    """What is not a step is NaN here: it reaches neither outputs, state nor gradients."""
    T, B = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 3))
    own, before = data.draw(lengths(T, B)), model(randn(5, B, 3, seed=seed))[1].detach()
    x = randn(T, B, 3, seed=seed + 1)
    for b, n in enumerate(own.tolist()):
        x[n:, b] = torch.nan
    y, after = model(x.requires_grad_(), before, own)
    for b, n in enumerate(own.tolist()):
        alone, alone_after = model(x[:n, b : b + 1], before.select(b))
        assert_close(y[:n, b], alone[:, 0])
        assert not y[n:, b].any()
        assert_all_close(list(after.select(b).tensors().values()), list(alone_after.tensors().values()))
    assert after.cursor.tolist() == (own + 5).tolist()
    y.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)


@every_baseline
def test_a_masked_stream_makes_no_step(build: Callable[[], Baseline]) -> None:
    model, x = build(), randn(9, 2, 3, seed=1)
    before: Any = model(x)[1]
    x_t = torch.stack([torch.full((3,), torch.nan, dtype=torch.float64), x[0, 1]])
    y, after = model.step(x_t, before, torch.tensor([False, True]))
    assert not y[0].any()
    assert_same_bits(after.select(0), before.select(0))
    assert_close(y[1:], model.step(x_t[1:], before.select(1))[0])


@needs_native
@examples(30)
@given(models(), st.integers(1, 20), st.integers(1, 3), st.data(), seeds)
def test_on_the_native_kernels_every_way_has_the_same_bits(
    model: Baseline, T: int, B: int, data: st.DataObject, seed: int
) -> None:
    assert_every_way_has_the_same_bits(model, T, B, data.draw(chunkings(T)), seed)


@needs_native
def test_a_gated_cnn_has_the_same_bits_every_way_where_threads_share_a_row() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert_every_way_has_the_same_bits(dilated_cnn(channels=37, gated=True), 901, 1, [901], 0)
    finally:
        torch.set_num_threads(before)


def assert_every_way_has_the_same_bits(model: Baseline, T: int, B: int, chunks: list[int], seed: int) -> None:
    model = model.float().eval()
    model.backend = "cpu"
    x = randn(T, B, 3, seed=seed, dtype=torch.float32)
    with torch.no_grad():
        whole, end = model(x)
        alone = model(x[:, :1])[0]
    live = StreamingDRNN(model, B)
    pushed = torch.cat([live.push(chunk) for chunk in x.split(chunks)])
    assert torch.equal(pushed, whole)
    assert_same_bits(live.state, end)
    live.reset()
    assert torch.equal(torch.stack([live.step(x_t) for x_t in x]), whole)
    assert_same_bits(live.state, end)
    assert torch.equal(alone, whole[:, :1])


@every_baseline
def test_gradients_are_those_of_its_definition(build: Callable[[], Baseline]) -> None:
    model, x = build(), randn(8, 2, 3, seed=1).requires_grad_()
    inputs = [x, *model.parameters()]
    got = torch.autograd.grad(model(x)[0].square().sum(), inputs)
    want = torch.autograd.grad(naive(model, x).square().sum(), inputs)
    assert_all_close(got, want)


def numbers(state: StreamState) -> list[Tensor]:
    """What of a state has gradients."""
    return [tensor for tensor in state.tensors().values() if tensor.is_floating_point() and tensor.numel()]


@every_baseline
def test_gradients_pass_gradcheck_also_into_the_state(build: Callable[[], Baseline]) -> None:
    model = build()
    zero = model.zero_state(1)
    start = [randn(*tensor.shape, seed=seed).requires_grad_() for seed, tensor in enumerate(numbers(zero))]

    def run(x: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        given = iter(tensors)
        y, state = model(x, zero.map(lambda t: next(given) if t.is_floating_point() and t.numel() else t))
        results = y, *numbers(state)
        assert all(result.requires_grad for result in results)
        return results

    assert torch.autograd.gradcheck(run, (randn(4, 1, 3, seed=9).requires_grad_(), *start))


@every_baseline
def test_it_is_causal(build: Callable[[], Baseline]) -> None:
    model, x = build(), randn(12, 2, 3, seed=1)
    later = x.clone()
    later[7:] = torch.nan
    got, want = model(later)[0], model(x)[0]
    assert torch.equal(got[:7], want[:7])
    assert got[7:].isnan().all()


@every_baseline
def test_a_given_state_is_not_written(build: Callable[[], Baseline]) -> None:
    model = build()
    state = model(randn(5, 2, 3, seed=1))[1]
    before = state.clone()
    model(randn(9, 2, 3, seed=2), state)
    assert all(map(torch.equal, state.tensors().values(), before.tensors().values()))


@every_baseline
def test_states_can_be_joined_selected_and_saved(build: Callable[[], Baseline], tmp_path: Path) -> None:
    model, x = build(), randn(9, 2, 3, seed=1)
    ahead: Any = model(x)[1]
    behind: Any = model(x[:2])[1]
    ahead.save(tmp_path / "state")
    joined = type(ahead).stack([behind.select(1), type(ahead).load(tmp_path / "state")])
    y = model(x[:3, [0, 1, 0]], joined)[0]
    assert_close(y[:, 1:], model(x[:3, [1, 0]], ahead.select([0, 1]))[0])
    assert_close(y[:, :1], model(x[:3, :1], behind.select(1))[0])


@every_baseline
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_states_are_wide_and_chunks_round_nothing(build: Callable[[], Baseline], dtype: torch.dtype) -> None:
    model = build().to(dtype)
    x = randn(9, 2, 3, seed=1, dtype=dtype)
    whole, _ = model(x)
    y, state = model(x[:4])
    assert whole.dtype == dtype
    assert {t.dtype for t in numbers(state)} == {torch.float32}
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    assert torch.allclose(torch.cat([y, model(x[4:], state)[0]]).float(), whole.float(), atol=tolerance)


@every_baseline
def test_no_steps_leave_the_state_as_it_is(build: Callable[[], Baseline]) -> None:
    model = build()
    state = model(randn(5, 2, 3, seed=1))[1]
    y, after = model(randn(0, 2, 3, seed=1), state)
    assert y.shape == (0, 2, 4)
    assert all(map(torch.equal, after.tensors().values(), state.tensors().values()))


@every_baseline
def test_config_builds_the_same_network(build: Callable[[], Baseline]) -> None:
    model, x = build(), randn(9, 2, 3, seed=1)
    again = type(model)(**model.config()).double()  # type: ignore[arg-type]
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(x)[0], model(x)[0])


@every_baseline
def test_autocast_takes_inputs_of_any_kind(build: Callable[[], Baseline]) -> None:
    model, x = build().float(), randn(6, 2, 3, seed=1, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y, state = model(x)
        y, state = model(x.bfloat16(), state)
    assert y.isfinite().all()
    assert {t.dtype for t in numbers(state)} == {torch.float32}


@every_baseline
def test_float32_is_the_definition_too(build: Callable[[], Baseline]) -> None:
    """On the native kernels, where they are."""
    model, x = build().float(), randn(20, 3, 3, seed=1, dtype=torch.float32)
    assert_close(model(x)[0], naive(model, x))


@pytest.mark.parametrize("cell", CELLS)
def test_a_skip_without_weight_is_torchs_layer(cell: str) -> None:
    model = skip_rnn(cell, (3,))
    theirs = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[cell](3, 4).double()
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        parameters["weight_ih_l0"][:, 3:] = 0
        for name, parameter in theirs.named_parameters():
            parameter.copy_(parameters[name][:, :3] if name == "weight_ih_l0" else parameters[name])
    x = randn(10, 2, 3, seed=1)
    assert_close(model(x)[0], theirs(x)[0])


@pytest.mark.parametrize("T", [1, 5, 30])
def test_the_cnn_is_torchs_convolution_padded_on_the_left(T: int) -> None:
    model, x = dilated_cnn((2, 5), kernel_size=3), randn(T, 2, 3, seed=1)
    z = x.permute(1, 2, 0)
    for layer, d in enumerate(model.dilations):
        weight, bias = getattr(model, f"weight_l{layer}"), getattr(model, f"bias_l{layer}")
        z = functional.conv1d(functional.pad(z, (2 * d, 0)), weight, bias, dilation=d).relu()
    assert_close(model(x)[0], z.permute(2, 0, 1))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bias", [True, False])
def test_skips_cost_one_recurrent_matrix_per_gate(cell: str, bias: bool) -> None:
    I, H, L = 3, 5, 4  # noqa: E741
    model = SkipRNN(I, H, L, cell=cell, bias=bias)
    regular = stacked_rnn(I, H, L, cell, bias=bias)
    assert model.skips == [1, 2, 4, 8]
    assert count(model) == cell_named(cell).gates * H * (I + 2 * H + (L - 1) * 3 * H + 2 * bias * L)
    assert count(model) - count(regular) == L * cell_named(cell).gates * H * H


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("kernel_size", [2, 3])
def test_parameters_of_a_cnn(kernel_size: int, gated: bool) -> None:
    I, H, L = 3, 5, 4  # noqa: E741
    model = DilatedCNN(I, H, L, kernel_size=kernel_size, gated=gated)
    assert model.dilations == [1, 2, 4, 8]
    assert count(model) == (2 if gated else 1) * H * (kernel_size * (I + (L - 1) * H) + L)


def test_a_cnn_has_a_dilated_rnns_parameters_but_for_a_bias() -> None:
    """Where the inputs are as wide as the layers, so that the first layer is as all others."""
    assert count(DilatedCNN(5, 5, 4)) + 4 * 5 == count(DilatedRNN(5, 5, 4, cell="rnn"))


@pytest.mark.parametrize("gated", [True, False])
def test_signals_neither_vanish_nor_explode_through_a_new_cnn(gated: bool) -> None:
    torch.manual_seed(0)
    y = DilatedCNN(16, 64, 9, gated=gated, residual=gated)(torch.randn(600, 2, 16))[0]
    assert 0.05 < float(y.detach().std()) < 20


def test_a_new_lru_forgets_slowly_and_keeps_the_size_of_what_it_reads() -> None:
    torch.manual_seed(0)
    model = LRU(16, 64, 6)
    for name, parameter in model.named_parameters():
        if name.startswith("nu"):
            size = torch.exp(-torch.exp(parameter))
            assert ((size >= 0.899) & (size <= 0.9991)).all()
    y = model(torch.randn(600, 2, 16))[0].detach()
    assert 0.2 < float(y[300:].std()) < 20


def test_parameters_of_todays_networks() -> None:
    I, H, L = 3, 5, 4  # noqa: E741
    assert count(MinGRU(I, H, L)) == 2 * H * (I + (L - 1) * H) + L * 2 * H
    assert count(LRU(I, H, L)) == H * (I + 1) + L * (6 * H * H + 3 * H)


@pytest.mark.parametrize("cell", CELLS)
def test_a_stacked_rnn_is_torchs(cell: str) -> None:
    model = stacked_rnn(3, 4, 2, cell, bias=False)
    theirs = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[cell](3, 4, 2, bias=False)
    theirs.load_state_dict(model.state_dict())
    x = randn(7, 2, 3, seed=1, dtype=torch.float32)
    assert_close(model(x)[0], theirs(x)[0])


@pytest.mark.parametrize(
    ("build", "kind", "message"),
    [
        (lambda: SkipRNN(3, 4), ValueError, "skips: give a list"),
        (lambda: SkipRNN(3, 4, skips=[]), ValueError, "skips: expected one or more"),
        (lambda: SkipRNN(3, 4, 3, skips=[1, 2]), ValueError, "num_layers: got 3 with 2 skips; give one of them"),
        (lambda: SkipRNN(3, 4, skips=[0]), ValueError, r"skips\[0\]: expected 1 or more, got 0"),
        (lambda: SkipRNN(3, 4, skips=5), TypeError, "skips: expected a list of ints, got 5"),  # type: ignore[arg-type]
        (lambda: SkipRNN(3, 4, 2, cell="lru"), ValueError, "cell: got 'lru'"),
        (lambda: SkipRNN(0, 4, 2), ValueError, "input_size"),
        (lambda: SkipRNN(3, 0, 2), ValueError, "hidden_size"),
        (lambda: DilatedCNN(3, 4, 0), ValueError, "num_layers"),
        (lambda: DilatedCNN(3, 0, 2), ValueError, "channels"),
        (lambda: DilatedCNN(3, 4, dilations=[2, -1]), ValueError, r"dilations\[1\]"),
        (lambda: DilatedCNN(3, 4, 2, kernel_size=1), ValueError, "kernel_size: expected 2 or more"),
        (lambda: stacked_rnn(3, 4, 0), ValueError, "num_layers"),
        (lambda: MinGRU(3, 4, 0), ValueError, "num_layers: expected 1 or more"),
        (lambda: MinGRU(0, 4, 1), ValueError, "input_size"),
        (lambda: LRU(3, 0, 1), ValueError, "hidden_size"),
        (lambda: LRU(3, 4, 1, backend="fast"), ValueError, "backend: got 'fast'"),
    ],
)
def test_bad_arguments_are_named(build: Callable[[], object], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        build()


@every_baseline
def test_bad_inputs_and_states_are_named(build: Callable[[], Baseline]) -> None:
    model, x = build(), randn(4, 2, 3, seed=0)
    call: Any = model
    with pytest.raises(ValueError, match=r"x: expected shape \(T, B, I\)"):
        call(x[0])
    with pytest.raises(TypeError, match="x: expected the parameters' dtype"):
        call(x.float())
    with pytest.raises(ValueError, match=r"x_t: expected shape \(B, I\)"):
        model.step(x, call(x)[1])
    with pytest.raises(ValueError, match=r"state\.\S+: expected shape .* = \(., 2, .\), got \(., 3, .\)"):
        call(x, model.zero_state(3))
    with pytest.raises(TypeError, match=r"state: expected a \w+, got \w+"):
        call(x, dilated_cnn((1,)).zero_state(2) if isinstance(model, SkipRNN) else skip_rnn().zero_state(2))
    with pytest.raises(TypeError, match="state: expected a "):
        call(x, 3)
    with pytest.raises(ValueError, match="lengths: expected values from 0 to 4"):
        call(x, None, torch.tensor([1, 5]))
    with pytest.raises(TypeError, match=r"state\.\S+: expected dtype torch.float64, got torch.float32"):
        call(x, model.zero_state(2, dtype=torch.float32))


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
