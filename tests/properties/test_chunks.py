"""Cutting a sequence changes nothing, and neither do the sequences beside it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from streamdrnn import DilatedRNN, DRNNState
from tests.agreement import assert_close, assert_gradients_close, assert_states_close
from tests.properties.models import KINDS, build, without_a_step
from tests.strategies import (
    Network,
    batch_sizes,
    chunkings,
    examples,
    lengths,
    networks,
    randn,
    random_state,
    seeds,
    times,
)


def in_chunks(model: DilatedRNN, x: Tensor, state: DRNNState, chunks: list[int]) -> tuple[Tensor, DRNNState]:
    outputs = []
    for part in x.split(chunks):
        y, state = model(part, state)
        assert y.shape[0] == part.shape[0]
        outputs.append(y)
    return torch.cat(outputs), state


@examples(80)
@given(network=networks(), B=batch_sizes, T=times, data=st.data(), seed=seeds)
def test_chunks_with_carried_state_are_the_whole(
    network: Network, B: int, T: int, data: st.DataObject, seed: int
) -> None:
    """Outputs, final states, and the gradients with respect to the input, the weights and the state before."""
    chunks = data.draw(chunkings(T))
    cursor = data.draw(st.lists(st.integers(0, 30), min_size=B, max_size=B))
    results = []
    for backend in ("reference", "torch"):
        model = network.build(backend)
        x = network.x(T, B, seed).requires_grad_()
        before = random_state(model, cursor, seed)
        rings = [t.requires_grad_() for t in before.tensors().values() if t.is_floating_point()]
        y, after = model(x, before) if backend == "reference" else in_chunks(model, x, before, chunks)
        loss = (y * randn(*y.shape, seed=3, dtype=y.dtype)).sum() + 0 * x.sum()
        for i, ring in enumerate(t for t in after.tensors().values() if t.is_floating_point()):
            loss = loss + (ring * randn(*ring.shape, seed=4 + i, dtype=ring.dtype)).sum()
        leaves = [x, *model.parameters(), *rings]
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
        results.append((y, after, gradients))
    (want_y, want_state, want_gradients), (y, state, gradients) = results
    assert_close(y, want_y, "y")
    assert_states_close(state, want_state)
    assert_gradients_close(gradients, want_gradients)


@examples(40)
@given(network=networks(), B=batch_sizes, T=times, seed=seeds)
def test_single_steps_are_the_whole_with_their_gradients(network: Network, B: int, T: int, seed: int) -> None:
    model = network.build()
    results = []
    for by_step in (False, True):
        x = network.x(T, B, seed).requires_grad_()
        state = random_state(model, range(B), seed)
        rings = [t.requires_grad_() for t in state.tensors().values() if t.is_floating_point()]
        if by_step:
            outputs = [x.new_zeros(0, B, model.hidden_size)]
            for x_t in x:
                y_t, state = model.step(x_t, state)
                outputs.append(y_t[None])
            y = torch.cat(outputs)
        else:
            y, state = model(x, state)
        loss = (y * randn(*y.shape, seed=3, dtype=y.dtype)).sum() + state.h[0].square().sum()
        leaves = [x, *model.parameters(), *rings]
        results.append((y, state, torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)))
    (want_y, want_state, want_gradients), (y, state, gradients) = results
    assert_close(y, want_y, "y")
    assert_states_close(state, want_state)
    assert_gradients_close(gradients, want_gradients)


@pytest.mark.parametrize("kind", KINDS)
@examples(25)
@given(network=networks(), B=batch_sizes, T=times, data=st.data(), seed=seeds)
def test_with_lengths_each_stream_is_as_if_alone(
    kind: str, network: Network, B: int, T: int, data: st.DataObject, seed: int
) -> None:
    """Beyond its length a stream's output is zero, or, from heads that judge whole sequences, its final judgement."""
    own = data.draw(lengths(T, B))
    model, reference = build(kind, network), build(kind, network, backend="reference")
    x = network.x(T, B, seed)
    padded = x.clone()
    for b in range(B):
        padded[int(own[b]) :, b] = torch.nan
    y, state = model(padded, None, own)
    assert y.shape[:2] == (T, B)
    for b in range(B):
        n = int(own[b])
        want, end = reference(x[:n, b : b + 1])
        assert_close(y[:n, b], want[:, 0], "y")
        assert_states_close(state.select(b), end)
        beyond = without_a_step(model)
        if n and kind not in ("network", "tagger"):
            beyond = want[-1, 0]
        assert_close(y[n:, b], beyond.expand(y[n:, b].shape), "y beyond the stream's end")


@examples(20)
@given(network=networks(), B=batch_sizes, T=times, data=st.data(), seed=seeds)
def test_with_lengths_gradients_are_the_sum_of_the_streams_own(
    network: Network, B: int, T: int, data: st.DataObject, seed: int
) -> None:
    own = data.draw(lengths(T, B))
    model, reference = network.build(), network.build("reference")
    x, weights = network.x(T, B, seed), randn(T, B, model.hidden_size, seed=1, dtype=network.dtype)
    padded = x.clone()
    alone = 0 * sum((p.sum() for p in reference.parameters()), x.new_zeros(()))
    for b in range(B):
        n = int(own[b])
        padded[n:, b] = torch.nan
        y, state = reference(x[:n, b : b + 1])
        alone = alone + (y[:, 0] * weights[:n, b]).sum() + state.h[0].square().sum()
    y, state = model(padded, None, own)
    together = (y * weights).sum() + state.h[0].square().sum() + 0 * sum(p.sum() for p in model.parameters())
    got = torch.autograd.grad(together, list(model.parameters()))
    want = torch.autograd.grad(alone, list(reference.parameters()))
    assert_gradients_close(got, want)


@pytest.mark.parametrize("kind", KINDS)
@examples(20)
@given(network=networks(), B=batch_sizes, T=times, data=st.data(), seed=seeds)
def test_every_head_gives_in_chunks_what_it_gives_whole(
    kind: str, network: Network, B: int, T: int, data: st.DataObject, seed: int
) -> None:
    model, reference = build(kind, network), build(kind, network, backend="reference")
    x = network.x(T, B, seed)
    state = model.zero_state(B, dtype=network.dtype)
    outputs = []
    for part in x.split(data.draw(chunkings(T))):
        y, state = model(part, state)
        outputs.append(y)
    want, end = reference(x)
    assert_close(torch.cat(outputs), want, "y")
    assert_states_close(state, end)


@examples(25)
@given(network=networks(), B=batch_sizes, T=times, seed=seeds)
def test_batch_first_only_transposes(network: Network, B: int, T: int, seed: int) -> None:
    x = network.x(T, B, seed)
    want, want_state = network.build()(x)
    y, state = network.build(batch_first=True)(x.transpose(0, 1))
    assert_close(y, want.transpose(0, 1), "y")
    assert_states_close(state, want_state)
