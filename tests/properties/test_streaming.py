"""Whatever is done to live streams, each answers as if it had been alone and whole.

The machine does all that :class:`StreamingDRNN` allows, in any order. Its model of the truth is one list per stream:
the inputs since the stream's beginning. What the stream answered must be what the reference backend gives for that
list, as one batch of one sequence.
"""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import torch
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from torch import Tensor

from streamdrnn import DilatedRNN, DRNNState, ModelState, StreamingDRNN, Tagger
from streamdrnn.kernels import cpu
from tests.agreement import assert_close, assert_same_bits, assert_states_close
from tests.properties.models import build, without_a_step
from tests.strategies import Network, examples, masks, networks, randn, seeds

State = DRNNState | ModelState
MAX_STREAMS = 4


@dataclass
class Stream:
    """What one stream was given since its beginning, and what it answered."""

    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)

    def copy(self) -> "Stream":
        return Stream(list(self.inputs), list(self.outputs))


class Streams(RuleBasedStateMachine):
    kind = "network"
    dtype = torch.float64
    backend = "torch"

    @initialize(data=st.data(), batch_size=st.integers(1, 3))
    def start(self, data: st.DataObject, batch_size: int) -> None:
        self.network: Network = data.draw(networks(self.dtype))
        self.model = build(self.kind, self.network, self.backend)
        self.reference = build(self.kind, self.network, backend="reference").eval()
        self.finished: list[tuple[State, Stream]] = []
        self.kept: list[tuple[State, list[Stream]]] = []
        self.live = StreamingDRNN(self.model, batch_size)
        self.streams = [Stream() for _ in range(batch_size)]

    def inputs(self, T: int, seed: int) -> Tensor:
        return self.network.x(T, len(self.streams), seed)

    def answered(self, x: Tensor, y: Tensor, active: Tensor | None, before: State) -> None:
        """Take down the answers ``(T, B, ...)`` of the active streams, and see that the others stood still."""
        assert y.shape[:2] == x.shape[:2]
        for b, stream in enumerate(self.streams):
            if active is None or active[b]:
                stream.inputs += x[:, b].unbind()
                stream.outputs += y[:, b].unbind()
                continue
            assert_same_bits(self.live.state.select(b), before.select(b))
            held = without_a_step(self.model)
            if stream.outputs and not isinstance(self.model, DilatedRNN | Tagger):
                held = stream.outputs[-1]
            assert_close(y[:, b], held.expand(y[:, b].shape), "the output of a stream that is not active")

    def finish(self, state: State, streams: list[Stream]) -> None:
        self.finished += [(state.select(b), stream.copy()) for b, stream in enumerate(streams)]

    def replace(self, live: StreamingDRNN, streams: list[Stream]) -> None:
        self.finish(self.live.snapshot(), self.streams)
        self.live, self.streams = live, [stream.copy() for stream in streams]

    @rule(data=st.data(), T=st.integers(0, 6), seed=seeds)
    def push(self, data: st.DataObject, T: int, seed: int) -> None:
        x, active = self.inputs(T, seed), data.draw(masks(len(self.streams)))
        before = self.live.snapshot()
        self.answered(x, self.live.push(x, active), active, before)

    @rule(data=st.data(), seed=seeds)
    def step(self, data: st.DataObject, seed: int) -> None:
        x, active = self.inputs(1, seed), data.draw(masks(len(self.streams)))
        before = self.live.snapshot()
        self.answered(x, self.live.step(x[0], active)[None], active, before)

    @rule(data=st.data(), seed=seeds)
    def step_with_nan_in_the_inactive_streams(self, data: st.DataObject, seed: int) -> None:
        x, active = self.inputs(1, seed), data.draw(masks(len(self.streams)))
        if active is not None:
            x[:, ~active] = torch.nan
        before = self.live.snapshot()
        self.answered(x, self.live.step(x[0], active)[None], active, before)

    @rule(data=st.data(), as_mask=st.booleans())
    def reset_some(self, data: st.DataObject, as_mask: bool) -> None:
        B = len(self.streams)
        which = data.draw(st.sets(st.integers(0, B - 1)))
        self.finish(self.live.snapshot(), self.streams)
        self.live.reset(torch.tensor([b in which for b in range(B)]) if as_mask else sorted(which))
        self.streams = [Stream() if b in which else stream for b, stream in enumerate(self.streams)]

    @rule()
    def reset_all(self) -> None:
        self.finish(self.live.snapshot(), self.streams)
        self.live.reset()
        self.streams = [Stream() for _ in self.streams]

    @rule()
    def keep_a_snapshot(self) -> None:
        self.kept.append((self.live.snapshot(), [stream.copy() for stream in self.streams]))

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def go_back_to_a_snapshot(self, data: st.DataObject) -> None:
        state, streams = data.draw(st.sampled_from(self.kept))
        live = self.live if len(streams) == len(self.streams) else StreamingDRNN(self.model, len(streams))
        self.replace(live, streams)
        self.live.restore(state)

    @rule(data=st.data())
    def choose_permute_and_duplicate(self, data: st.DataObject) -> None:
        chosen = data.draw(st.lists(st.integers(0, len(self.streams) - 1), min_size=1, max_size=MAX_STREAMS))
        live = StreamingDRNN(self.model, len(chosen))
        live.restore(self.live.snapshot().select(chosen))
        self.replace(live, [self.streams[b] for b in chosen])

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def join_streams_whose_clocks_differ(self, data: st.DataObject) -> None:
        state, streams = data.draw(st.sampled_from(self.kept))
        together = self.live.snapshot().stack([self.live.snapshot(), state])  # type: ignore[list-item]
        chosen = range(len(self.streams) + len(streams))[-MAX_STREAMS:]
        live = StreamingDRNN(self.model, len(chosen))
        live.restore(together.select(chosen))
        self.replace(live, [[*self.streams, *streams][b] for b in chosen])

    @rule()
    def save_and_load(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "streams.safetensors"
            self.live.snapshot().save(path)
            state = type(self.live.state).load(path)
        live = StreamingDRNN(self.model, len(self.streams))
        live.restore(state)
        self.replace(live, self.streams)

    @rule(data=st.data())
    def a_refused_input_changes_nothing(self, data: st.DataObject) -> None:
        x = randn(2, len(self.streams), self.network.input_size, seed=0, dtype=self.dtype)
        x[1, data.draw(st.integers(0, len(self.streams) - 1))] = torch.inf
        before = self.live.snapshot()
        try:
            self.live.push(x)
        except ValueError:
            assert_same_bits(self.live.state, before)
        else:
            raise AssertionError("an infinite input was taken")

    def teardown(self) -> None:
        if not hasattr(self, "live"):
            return
        self.finish(self.live.snapshot(), self.streams)
        for state, stream in self.finished:
            x = torch.stack([*stream.inputs])[:, None] if stream.inputs else self.network.x(0, 1)
            with torch.no_grad():
                want, end = self.reference(x)
            if stream.outputs:
                assert_close(torch.stack(stream.outputs), want[:, 0], "the stream's answers")
            assert_states_close(state, end)


class StreamsOfFloat32(Streams):
    dtype = torch.float32


class StreamsOfAClassifierOfTheLast(Streams):
    kind = "classifier of the last"


class StreamsOfAClassifierOfTheMean(Streams):
    kind = "classifier of the mean"


class StreamsOfATagger(Streams):
    kind = "tagger"


class StreamsOfAnEmbedder(Streams):
    kind = "embedder"


class StreamsOfAnEmbedderInFloat32(Streams):
    kind = "embedder"
    dtype = torch.float32


class NativeStreams(StreamsOfFloat32):
    backend = "cpu"


class NativeStreamsOfAClassifierOfTheLast(NativeStreams):
    kind = "classifier of the last"


class NativeStreamsOfATagger(NativeStreams):
    kind = "tagger"


class NativeStreamsOfAnEmbedder(NativeStreams):
    kind = "embedder"


TestNetwork = Streams.TestCase
TestNetwork.settings = examples(40)
TestNetworkInFloat32 = StreamsOfFloat32.TestCase
TestNetworkInFloat32.settings = examples(25)
TestClassifierOfTheLast = StreamsOfAClassifierOfTheLast.TestCase
TestClassifierOfTheLast.settings = examples(16)
TestClassifierOfTheMean = StreamsOfAClassifierOfTheMean.TestCase
TestClassifierOfTheMean.settings = examples(16)
TestTagger = StreamsOfATagger.TestCase
TestTagger.settings = examples(16)
TestEmbedder = StreamsOfAnEmbedder.TestCase
TestEmbedder.settings = examples(16)
TestEmbedderInFloat32 = StreamsOfAnEmbedderInFloat32.TestCase
TestEmbedderInFloat32.settings = examples(16)
if not cpu.why_not():
    TestNativeNetwork = NativeStreams.TestCase
    TestNativeNetwork.settings = examples(40)
    TestNativeClassifierOfTheLast = NativeStreamsOfAClassifierOfTheLast.TestCase
    TestNativeClassifierOfTheLast.settings = examples(16)
    TestNativeTagger = NativeStreamsOfATagger.TestCase
    TestNativeTagger.settings = examples(16)
    TestNativeEmbedder = NativeStreamsOfAnEmbedder.TestCase
    TestNativeEmbedder.settings = examples(16)
