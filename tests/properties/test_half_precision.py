"""Networks in 16 bits: their outputs are, their carried states are not."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamdrnn import StreamingDRNN
from tests.agreement import assert_close, assert_states_close
from tests.properties.models import KINDS, build
from tests.strategies import Network, batch_sizes, chunkings, examples, networks, seeds, times

halves = st.sampled_from([torch.bfloat16, torch.float16])


@examples(30)
@given(network=networks(torch.float32), dtype=halves, B=batch_sizes, T=times, data=st.data(), seed=seeds)
def test_a_chunks_end_adds_no_rounding(
    network: Network, dtype: torch.dtype, B: int, T: int, data: st.DataObject, seed: int
) -> None:
    model = network.build().to(dtype)
    x = network.x(T, B, seed).to(dtype)
    want, want_state = model(x)
    state = model.zero_state(B)
    outputs = []
    for part in x.split(data.draw(chunkings(T))):
        y, state = model(part, state)
        outputs.append(y)
    got = torch.cat(outputs)
    assert got.dtype == want.dtype == dtype
    assert {t.dtype for t in state.tensors().values()} == {torch.float32, torch.int64}
    assert_states_close(state, want_state)
    # What is equal to 1e-5 may still round to the two neighbours in 16 bits.
    torch.testing.assert_close(got, want, rtol=torch.finfo(dtype).eps, atol=1e-5)


@examples(15)
@given(network=networks(torch.float32), dtype=halves, T=times, seed=seeds)
def test_only_weights_inputs_and_outputs_are_rounded(network: Network, dtype: torch.dtype, T: int, seed: int) -> None:
    """The result is that of the rounded weights in float32."""
    model = network.build().to(dtype)
    x = network.x(T, 2, seed).to(dtype)
    y, state = model(x)
    want, want_state = network.build("reference").to(dtype).float()(x.float())
    assert_states_close(state, want_state)
    torch.testing.assert_close(y, want.to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_every_model_streams_in_16_bits(kind: str, dtype: torch.dtype) -> None:
    network = Network(dilations=(2, 3), cell="lstm", dtype=dtype)
    model = build(kind, network).eval()
    x = network.x(9, 2)
    want, want_state = model(x)
    live = StreamingDRNN(model, 2)
    got = torch.cat([live.push(x[:4]), torch.stack([live.step(x_t) for x_t in x[4:]])])
    assert got.dtype == dtype
    assert torch.float16 not in {t.dtype for t in live.state.tensors().values()}
    assert torch.bfloat16 not in {t.dtype for t in live.state.tensors().values()}
    assert_states_close(live.snapshot(), want_state)
    torch.testing.assert_close(got, want, rtol=2 * torch.finfo(dtype).eps, atol=torch.finfo(dtype).eps)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_under_autocast_states_stay_wide_and_chunks_are_the_whole(cell: str) -> None:
    model = Network(dilations=(2, 3), cell=cell, dtype=torch.float32).build()
    x = Network(dtype=torch.float32).x(9, 2)
    with torch.autocast("cpu", torch.bfloat16):
        want, want_state = model(x)
        first, state = model(x[:4])
        last, state = model(x[4:], state)
    assert {t.dtype for t in state.tensors().values()} == {torch.float32, torch.int64}
    assert_states_close(state, want_state)
    assert_close(torch.cat([first, last]), want)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_training_under_autocast_gives_the_gradients_of_bfloat16(cell: str) -> None:
    gradients = []
    for enabled in (False, True):
        model = Network(dilations=(2, 3), cell=cell, dtype=torch.float32).build()
        x = Network(dtype=torch.float32).x(9, 2)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y, _ = model(x)
        y.float().square().mean().backward()
        gradients.append([p.grad for p in model.parameters()])
    for got, want in zip(gradients[1], gradients[0], strict=True):
        assert got is not None
        assert want is not None
        assert got.dtype == torch.float32
        assert (got - want).norm() < 8 * torch.finfo(torch.bfloat16).eps * want.norm()
