"""What was exported computes what a :class:`StreamingDRNN` computes, for as long as one wants."""

from itertools import cycle
from typing import Any

import pytest
import torch
from hypothesis import settings
from torch import Tensor

from streamdrnn import StreamingDRNN
from streamdrnn.heads import Head
from tests.agreement import assert_close, assert_states_close
from tests.export.models import CASES, Export, Files, Program, State, initial_state, inputs, load

pytestmark = pytest.mark.filterwarnings(r"ignore:`torch.jit.\w+` is deprecated:DeprecationWarning")

STEPS = 1000 if settings().max_examples >= 1000 else 300
PIECES = (0, 0, 7, 0, 1, 64, 0, 33, 0, 0, 0, 2, 128)
"""Lengths of chunks; 0 stands for a single step."""


@pytest.fixture(scope="module", params=CASES)
def files(request: pytest.FixtureRequest, exported: Export) -> Files:
    """Of each model in each format: pytest puts all tests of one beside each other."""
    return exported(*request.param)


@pytest.fixture(scope="module")
def program(files: Files) -> Program:
    return load(files)


def heard(stream: StreamingDRNN, x: Tensor) -> Tensor:
    """What a stream gives for ``(T, B, ...)``."""
    if isinstance(stream.model, Head):
        frontend = stream.model.frontend
        return stream.push(x if frontend is None else x.transpose(1, 2).flatten(0, 1))
    return torch.stack([stream.step(x_t) for x_t in x])


def run_in_pieces(stream: StreamingDRNN, program: Program, state: State, x: Tensor) -> State:
    """Chunks and steps in turn, each compared with the stream."""
    begin = 0
    for length in cycle(PIECES):
        if begin == len(x):
            return state
        piece = x[begin : begin + max(1, length)]
        want = heard(stream, piece)
        if length:
            y, state = program.chunk(piece, state)
            assert y.shape[:2] == piece.shape[:2]
        else:
            y_t, state = program.step(piece[0], state)
            y = y_t[None]
        # While a front-end waits for its first whole window a stream makes fewer steps.
        assert_close(y[: len(want)], want, f"y after step {begin}")
        begin += len(piece)
    raise AssertionError


def named(stream: StreamingDRNN) -> State:
    """A stream's state as exported programs take it."""
    return {name: tensor.clone() for name, tensor in stream.state.tensors().items() if tensor.numel()}


def as_snapshot(state: State, stream: StreamingDRNN) -> Any:
    """What an exported program returned, as a snapshot for a stream."""
    assert state.keys() == named(stream).keys()
    tensors = iter([state.get(name, nothing) for name, nothing in stream.state.tensors().items()])
    return stream.state.map(lambda _: next(tensors))


def test_many_steps_and_chunks_are_those_of_a_stream(files: Files, program: Program) -> None:
    model, description = files.model, files.description
    stream = StreamingDRNN(model, 2)
    state = run_in_pieces(stream, program, initial_state(description, 2), inputs(model, STEPS, 2))
    assert_states_close(as_snapshot(state, stream), stream.state)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_streams_with_clocks_of_their_own_go_over_and_back(files: Files, program: Program, batch_size: int) -> None:
    model = files.model
    stream = StreamingDRNN(model, batch_size)
    for t, x in enumerate(inputs(model, 5, batch_size)):
        stream.step(x, active=torch.arange(batch_size) <= t)
    state = run_in_pieces(stream, program, named(stream), inputs(model, 60, batch_size, seed=1))
    other = StreamingDRNN(model, batch_size)
    other.restore(as_snapshot(state, stream))
    x = inputs(model, 9, batch_size, seed=2)
    assert_close(heard(other, x), heard(stream, x))


def test_a_state_that_is_given_stays_as_it_is(files: Files, program: Program) -> None:
    model = files.model
    stream = StreamingDRNN(model, 2)
    heard(stream, inputs(model, 4, 2))
    state = named(stream)
    x = inputs(model, 2, 2, seed=1)
    for call, given in ((program.step, x[0]), (program.chunk, x)):
        call(given, state)
        assert all(torch.equal(state[name], tensor) for name, tensor in named(stream).items())
