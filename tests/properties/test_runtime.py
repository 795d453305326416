"""Whole models on the native runtime: the same bits however their streams are cut, masked, reset and restored."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from streamdrnn import Classifier, DilatedRNN, SpeakerEmbedder, StreamingDRNN, Tagger
from streamdrnn.audio import MFCC, FrontEnd, LogMel, RawWaveform
from streamdrnn.kernels import cpu
from streamdrnn.live import LiveModel
from tests.kernels.cases import needs_native
from tests.strategies import examples, seeds

pytestmark = needs_native
LEVELS = ["portable"] if cpu.why_not() else cpu.levels()

# Hop and window in every relation: equal, coprime, a window of one sample.
FRONTENDS: dict[str, Callable[[], FrontEnd]] = {
    "samples": lambda: RawWaveform(1),
    "raw": lambda: RawWaveform(5),
    "log-mel": lambda: LogMel(n_fft=64, win_length=50, hop_length=20, n_mels=8, fmin=200),
    "log-mel, no power of two": lambda: LogMel(n_fft=45, win_length=45, hop_length=45, n_mels=6, fmin=300),
    "MFCC": lambda: MFCC(n_fft=32, win_length=32, hop_length=7, n_mels=8, n_mfcc=5),
    "MFCC with deltas": lambda: MFCC(n_fft=64, win_length=40, hop_length=16, n_mels=8, n_mfcc=4, deltas=2),
}
HEADS: dict[str, Callable[[DilatedRNN, FrontEnd], Any]] = {
    "tagger": lambda rnn, frontend: Tagger(rnn, 3, frontend),
    "last": lambda rnn, frontend: Classifier(rnn, 3, "last", frontend),
    "mean": lambda rnn, frontend: Classifier(rnn, 3, "mean", frontend),
    "embedder": lambda rnn, frontend: SpeakerEmbedder(rnn, 17, frontend),
}


def model_of(frontend: str, head: str, cell: str = "gru", dilations: tuple[int, ...] = (2, 3, 1)) -> Any:
    torch.manual_seed(len(frontend) + len(head))
    made = FRONTENDS[frontend]()
    sizes = [6, 17, 9][: len(dilations)]
    model = HEADS[head](DilatedRNN(made.num_features, sizes, dilations=list(dilations), cell=cell), made)
    model.feature_mean.normal_(-20, 5)
    model.feature_std.uniform_(3, 9)
    return model


class Streams:
    """Live streams, and what each of them has heard and said since its beginning.

    Args:
        model: the model.
        batch_size: how many streams.
        choose: draws the numbers.
    """

    def __init__(self, model: Any, batch_size: int, choose: random.Random) -> None:
        self.model, self.choose = model, choose
        self.live = StreamingDRNN(model, batch_size)
        assert isinstance(self.live._live, LiveModel)
        self.heard: list[list[Tensor]] = [[] for _ in range(batch_size)]
        self.said: list[list[Tensor]] = [[] for _ in range(batch_size)]
        self.kept: list[tuple[Any, list[Tensor], list[Tensor]]] = []  # snapshots of one stream
        self.tagger = isinstance(model, Tagger)

    def push(self) -> None:
        """A chunk of any length, to all streams or some of them, under a mask, with lengths or with neither."""
        B = self.live.batch_size
        streams = self.choose.sample(range(B), self.choose.randint(1, B)) if self.choose.random() < 0.3 else None
        index = list(range(B)) if streams is None else streams
        longest = self.choose.choice([0, 1, 7, 20, 45, 70, 150, 400])
        chunk = 0.3 * torch.randn(longest, len(index))
        way = self.choose.choice(["all", "mask", "lengths"])
        lengths = [longest] * len(index)
        if way == "mask":
            lengths = [longest * self.choose.randint(0, 1) for _ in index]
        if way == "lengths":
            lengths = [self.choose.randint(0, longest) for _ in index]
        given = chunk.clone()
        for column, length in enumerate(lengths):
            given[length:, column] = torch.nan
        before = self.live.cursor
        y = self.live.push(
            given,
            active=torch.tensor([bool(length) for length in lengths]) if way == "mask" else None,
            lengths=torch.tensor(lengths) if way == "lengths" else None,
            streams=streams,
        )
        made = self.live.cursor - before
        for column, (b, length) in enumerate(zip(index, lengths, strict=True)):
            self.heard[b].append(chunk[:length, column])
            self.said[b].append(y[: int(made[b]), column])
            if self.tagger:
                assert not y[int(made[b]) :, column].any()
            elif made[b] and y.shape[0] > made[b]:  # where it makes no step more, it says what it said last
                assert torch.equal(y[int(made[b]), column], y[int(made[b]) - 1, column])
        assert not made[[b for b in range(B) if b not in index]].any()

    def reset(self) -> None:
        b = self.choose.randrange(self.live.batch_size)
        self.live.reset(b)
        self.heard[b], self.said[b] = [], []

    def snapshot(self) -> None:
        b = self.choose.randrange(self.live.batch_size)
        self.kept.append((self.live.snapshot(b), list(self.heard[b]), list(self.said[b])))

    def restore(self) -> None:
        if self.kept:
            snapshot, heard, said = self.choose.choice(self.kept)
            b = self.choose.randrange(self.live.batch_size)
            self.live.restore(snapshot, b)
            self.heard[b], self.said[b] = list(heard), list(said)

    def check(self) -> None:
        """Each stream has said, bit for bit, what it says when it is alone and hears all at once."""
        alone = StreamingDRNN(self.model, 1)
        for b in range(self.live.batch_size):
            alone.reset()
            want = alone.push(torch.cat([torch.zeros(0), *self.heard[b]])[:, None])[:, 0]
            got = torch.cat([want[:0], *self.said[b]])
            assert torch.equal(got, want)
            for name, tensor in self.live.snapshot(b).tensors().items():
                assert torch.equal(tensor, alone.state.tensors()[name]), name


def interleave(frontend: str, head: str, cell: str, count: int, seed: int) -> None:
    """So many actions in any order, on some sets of streams."""
    choose = random.Random(seed)
    torch.manual_seed(seed)
    done = 0
    while done < count:
        streams = Streams(model_of(frontend, head, cell), choose.choice([1, 2, 5, 19]), choose)
        for _ in range(min(40, count - done)):
            getattr(streams, choose.choices(["push", "reset", "snapshot", "restore"], [12, 1, 2, 1])[0])()
            done += 1
        streams.check()


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("frontend", FRONTENDS)
def test_any_interleaving_gives_the_same_bits(frontend: str, head: str) -> None:
    """2,000 of them for each of the models in the full profile: some 10,000 for each front-end."""
    cell = ["rnn", "gru", "lstm"][(len(frontend) + len(head)) % 3]
    interleave(frontend, head, cell, 80 if settings().max_examples < 1000 else 2500, seed=0)


@pytest.mark.parametrize("level", LEVELS)
def test_on_any_level_and_any_threads(level: str) -> None:
    threads = torch.get_num_threads()
    try:
        with cpu.use_level(level):
            for count in (1, 3):
                torch.set_num_threads(count)
                interleave("MFCC with deltas", "embedder", "gru", 80, seed=count)
            torch.set_num_threads(3)
            # Large enough to be worth threads.
            model = SpeakerEmbedder(DilatedRNN(8, [96, 96], dilations=[1, 2]), 8, FRONTENDS["log-mel"]())
            x = torch.randn(9000, 24)
            one = StreamingDRNN(model, 24)
            y = one.push(x)
            torch.set_num_threads(1)
            assert torch.equal(StreamingDRNN(model, 24).push(x), y)
            assert torch.equal(StreamingDRNN(model, 1).push(x[:, 5:6])[:, 0], y[:, 5])
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("frontend", [name for name in FRONTENDS if "raw" not in name])
@given(sizes=st.lists(st.lists(st.integers(0, 200), min_size=3, max_size=3), min_size=1, max_size=21), seed=seeds)
@examples(10)
def test_frames_have_the_same_bits_beside_any_others(
    level: str, frontend: str, sizes: list[list[int]], seed: int
) -> None:
    """Frames are computed side by side: of neighbouring streams, of one, and of streams whose chunks are unequal."""
    torch.manual_seed(seed)
    heard = [[0.3 * torch.randn(size) for size in own] for own in sizes]
    with cpu.use_level(level):
        model = model_of(frontend, "tagger", dilations=(1, 2))
        many, alone = StreamingDRNN(model, len(sizes)), StreamingDRNN(model, 1)
        said: list[list[Tensor]] = [[] for _ in sizes]
        for chunks in zip(*heard, strict=True):
            lengths = torch.tensor([len(chunk) for chunk in chunks])
            before = many.cursor
            y = many.push(torch.nn.utils.rnn.pad_sequence(list(chunks)), lengths=lengths)
            for b, made in enumerate((many.cursor - before).tolist()):
                said[b].append(y[:made, b])
        for own, got in zip(heard, said, strict=True):
            alone.reset()
            samples = torch.cat(own)
            one_by_one = [alone.push(part[:, None])[:, 0] for part in samples.split(3)]
            assert torch.equal(torch.cat(got), torch.cat([got[0][:0], *one_by_one]))


@pytest.mark.parametrize("magnitude", [0, 1e-6, 1e-3, 1, 1e3, 1e15])
def test_decibels_of_any_magnitude(magnitude: float) -> None:
    frontend = LogMel(n_fft=64, win_length=64, hop_length=32, n_mels=8, fmin=200)
    model = Tagger(DilatedRNN(8, 8, num_layers=1, cell="rnn"), 8, frontend).eval()
    x = magnitude * torch.randn(2000, 1)
    with torch.no_grad():
        model.feature_std.fill_(100)
        got = StreamingDRNN(model).push(x)
        model.rnn.backend = "torch"
        want = model.double()(x.double())[0]
    assert float((got - want).norm() / want.norm()) < 1e-6


def test_streams_keep_the_level_that_they_were_made_with() -> None:
    model, x = model_of("log-mel", "tagger"), torch.randn(500, 1)
    outputs, streams = {}, {}
    for level in LEVELS:
        with cpu.use_level(level):
            outputs[level] = StreamingDRNN(model).push(x)
            streams[level] = StreamingDRNN(model)
    for level, stream in streams.items():
        assert torch.equal(stream.push(x), outputs[level])
    if len(LEVELS) > 1:
        assert any(not torch.equal(outputs[level], outputs["portable"]) for level in LEVELS)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("frontend", FRONTENDS)
def test_the_runtime_agrees_with_torch(frontend: str, head: str) -> None:
    """In float64 with what torch computes of the same weights, whose float32 the training uses."""
    model, x = model_of(frontend, head).eval(), 0.3 * torch.randn(3000, 2)
    with torch.no_grad():
        y = StreamingDRNN(model, 2).push(x)
        in_float32 = model(x)[0]
        model.rnn.backend = "torch"
        want = model.double()(x.double())[0]
    for got in (y, in_float32):
        assert float((got - want).norm() / want.norm()) < 1e-6


def test_a_state_goes_from_the_runtime_to_torch_and_back(tmp_path: Any) -> None:
    model = model_of("MFCC with deltas", "mean", "lstm")
    other = model_of("MFCC with deltas", "mean", "lstm")
    other.rnn.backend = "torch"
    x = 0.3 * torch.randn(700, 3)
    want = StreamingDRNN(model, 3).push(x)
    here, there = StreamingDRNN(model, 3), StreamingDRNN(other, 3)
    assert not isinstance(there._live, LiveModel)
    here.push(x[:200])
    here.snapshot().save(tmp_path / "state.safetensors")
    there.restore(type(here.snapshot()).load(tmp_path / "state.safetensors"))
    there.push(x[200:450])
    here.reset()
    here.restore(there.snapshot())
    y = here.push(x[450:])
    assert float((y - want[-len(y) :]).norm() / y.norm()) < 1e-5
