"""Whatever streams share an engine, and however their messages come together, each is answered as if it were alone."""

from dataclasses import dataclass, field
from typing import Any, Optional, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from streamdrnn.apps.serving.engine import Engine
from streamdrnn.apps.weights import Held
from streamdrnn.audio import LogMel, RawWaveform
from streamdrnn.heads import Classifier, SpeakerEmbedder, Tagger
from streamdrnn.kernels import HELD
from streamdrnn.streaming import State, StreamingDRNN
from tests.kernels.cases import needs_native
from tests.properties.models import KINDS, Model, build
from tests.strategies import Network, examples, networks, randn, seeds

SMALL = Network(3, 4, (2, 3), "gru", dtype=torch.float32)


@dataclass
class Life:
    """One stream: where it is, what it was given since its beginning, and what came back."""

    slot: int
    inputs: list[np.ndarray] = field(default_factory=list)
    outputs: list[np.ndarray] = field(default_factory=list)

    def whole(self, input_shape: tuple[int, ...]) -> Tensor:
        nothing = np.zeros((0, *input_shape), np.float32)
        return torch.from_numpy(np.concatenate([nothing, *self.inputs]))[:, None]


def answer(engine: Engine) -> None:
    for result in engine.advance(engine.gather()):
        assert not result.problem
        result.ticket.outputs.append(result.outputs)


def opened(engine: Engine, state: Optional[State] = None) -> Life:
    slot = engine.acquire()
    assert slot is not None
    engine.put(slot, state)
    return Life(slot)


def offline(model: Model, life: Life, input_shape: tuple[int, ...]) -> np.ndarray:
    with torch.no_grad():
        y = model(life.whole(input_shape))[0][:, 0]
    return y.numpy()  # type: ignore[no-any-return]


def live(engine: Engine, life: Life) -> np.ndarray:
    return np.concatenate([np.zeros((0, engine.output_size), np.float32), *life.outputs])


def interleave(data: st.DataObject, model: Model, slots: int, seed: int, most: int = 6) -> list[tuple[Engine, Life]]:
    """Streams come, send, are answered, begin again, move to another engine, and go, in any order."""
    engines = [Engine(model, slots, 0.0), Engine(model, slots, 0.0)]
    shape, lives = engines[0].input_shape, list[tuple[Engine, Life]]()
    gone: list[tuple[Engine, Life]] = []
    for i in range(data.draw(st.integers(1, 30))):
        what = data.draw(st.sampled_from(["open", "send", "send", "send", "pass", "pass", "reset", "move", "leave"]))
        if what == "open" and engines[0].streams < slots:
            lives.append((engines[0], opened(engines[0])))
        elif what == "pass":
            answer(engines[data.draw(st.integers(0, 1))])
        elif lives and what != "open":
            k = data.draw(st.integers(0, len(lives) - 1))
            engine, life = lives[k]
            if what == "send":
                inputs = randn(data.draw(st.integers(0, most)), *shape, seed=seed + i, dtype=torch.float32).numpy()
                life.inputs.append(inputs)
                engine.submit(life.slot, inputs, float(i), life)
                continue
            while len(life.outputs) < len(life.inputs):
                answer(engine)
            if what == "reset":
                gone.append((engine, Life(life.slot, life.inputs, life.outputs)))
                life.inputs, life.outputs = [], []
                engine.put(life.slot, None)
            elif what == "move" and engines[engine is engines[0]].streams < slots:
                other = engines[engine is engines[0]]
                state = engine.state.select(life.slot)
                engine.release(life.slot)
                lives[k] = other, Life(opened(other, state).slot, life.inputs, life.outputs)
            elif what == "leave":
                gone.append(lives.pop(k))
                engine.release(life.slot)
    for engine, life in lives:
        while len(life.outputs) < len(life.inputs):
            answer(engine)
    return lives + gone


@needs_native
@pytest.mark.parametrize("kind", KINDS)
@examples(60)
@given(network=networks(torch.float32), slots=st.integers(1, 5), data=st.data(), seed=seeds)
def test_every_interleaving_gives_the_bits_of_the_whole(
    kind: str, network: Network, slots: int, data: st.DataObject, seed: int
) -> None:
    model = build(kind, network, "cpu").eval()
    for engine, life in interleave(data, model, slots, seed):
        np.testing.assert_array_equal(live(engine, life), offline(model, life, engine.input_shape))


@needs_native
@pytest.mark.parametrize("kind", ["tagger", "last", "embedder"])
@examples(30)
@given(slots=st.integers(1, 4), data=st.data(), seed=seeds)
def test_samples_in_every_interleaving_give_the_bits_of_the_whole(
    kind: str, slots: int, data: st.DataObject, seed: int
) -> None:
    rnn = SMALL.build("cpu")
    front = RawWaveform(3)
    heads: dict[str, Model] = {
        "tagger": Tagger(rnn, 2, front),
        "last": Classifier(rnn, 3, frontend=front),
        "embedder": SpeakerEmbedder(rnn, 4, front),
    }
    model = heads[kind].eval()
    for engine, life in interleave(data, model, slots, seed):
        np.testing.assert_array_equal(live(engine, life), offline(model, life, engine.input_shape))


@examples(20)
@given(slots=st.integers(1, 4), data=st.data(), seed=seeds)
def test_spectra_agree_within_the_rounding_of_the_front_end(slots: int, data: st.DataObject, seed: int) -> None:
    front = LogMel(n_fft=64, win_length=50, hop_length=20, n_mels=8)
    model = Tagger(Network(8, 9, (2, 3), "lstm", dtype=torch.float32).build("auto"), 2, front).eval()
    for engine, life in interleave(data, model, slots, seed, most=200):
        np.testing.assert_allclose(live(engine, life), offline(model, life, ()), rtol=1e-4, atol=1e-5)


@examples(20)
@given(network=networks(), slots=st.integers(1, 4), data=st.data(), seed=seeds)
def test_other_backends_agree_within_float32(network: Network, slots: int, data: st.DataObject, seed: int) -> None:
    """Answers are float32, whatever the model computes in."""
    model = build("tagger", network, "torch").eval()
    for engine, life in interleave(data, model, slots, seed):
        with torch.no_grad():
            want = model(life.whole(engine.input_shape).to(network.dtype))[0][:, 0].float().numpy()
        np.testing.assert_allclose(live(engine, life), want, rtol=1e-4, atol=1e-5)


def test_the_option_has_all_ways_to_hold_weights() -> None:
    assert get_args(Held) == HELD


@needs_native
@pytest.mark.parametrize("weights", HELD)
def test_samples_of_16_bits_and_rounded_weights_have_the_bits_of_the_whole(weights: str) -> None:
    torch.manual_seed(0)
    front = LogMel(n_fft=64, win_length=50, hop_length=20, n_mels=8)
    model = SpeakerEmbedder(Network(8, 9, (2, 3), dtype=torch.float32).build("auto"), 4, front).eval()
    engine = Engine(model, 3, 0.0, weights)
    lives = [opened(engine) for _ in range(3)]
    sound = np.random.default_rng(0).integers(-(2**15), 2**15, (3, 500), np.int16)
    floats = sound.astype(np.float32) / np.float32(32768)
    for begin, end in ((0, 130), (130, 150), (150, 500)):
        for i, life in enumerate(lives):  # the second sends what the others send, as float32
            engine.submit(life.slot, (floats if i == 1 else sound)[i, begin : end - i], 0.0, life)
            life.inputs.append(floats[i, begin : end - i])
        answer(engine)
    for life in lives:
        whole = StreamingDRNN(model, weights=weights).push(life.whole(()))[:, 0].numpy()
        np.testing.assert_array_equal(live(engine, life), whole)


def test_a_batch_first_network_is_served_as_any_other() -> None:
    model = SMALL.build("torch", batch_first=True).eval()
    engine = Engine(model, 3, 0.0)
    lives = [opened(engine) for _ in range(2)]
    for i, life in enumerate(lives):
        life.inputs.append(SMALL.x(4 + i, 1)[:, 0].numpy())
        engine.submit(life.slot, life.inputs[0], 0.0, life)
    answer(engine)
    for life in lives:
        with torch.no_grad():
            want = model(life.whole((3,)).transpose(0, 1))[0][0]
        np.testing.assert_allclose(live(engine, life), want.numpy(), rtol=1e-5, atol=1e-6)


def test_a_pass_is_due_when_nobody_is_left_to_wait_for_or_the_first_has_waited_long_enough() -> None:
    engine = Engine(SMALL.build().eval(), 3, 0.010)
    one, two = opened(engine), opened(engine)
    inputs = np.zeros((1, 3), np.float32)
    assert engine.due(0.0) is None
    engine.submit(one.slot, inputs, 5.0, one)
    assert engine.due(5.0) == pytest.approx(0.010)
    assert engine.due(5.008) == pytest.approx(0.002)
    assert engine.due(5.020) == 0
    engine.submit(two.slot, inputs, 5.001, two)
    assert engine.due(5.001) == 0
    assert engine.gather().slots == [one.slot, two.slot]
    assert engine.due(5.001) is None


def test_a_pass_takes_one_message_of_each_stream() -> None:
    """Who sends ten at once waits for his own turns."""
    engine = Engine(SMALL.build().eval(), 2, 0.0)
    greedy, modest = opened(engine), opened(engine)
    for _ in range(10):
        engine.submit(greedy.slot, np.ones((5, 3), np.float32), 0.0, greedy)
    engine.submit(modest.slot, np.ones((1, 3), np.float32), 1.0, modest)
    answer(engine)
    assert len(greedy.outputs) == len(modest.outputs) == 1


def test_slots_are_as_many_as_said_and_come_back() -> None:
    engine = Engine(SMALL.build().eval(), 2, 0.0)
    one, two = engine.acquire(), engine.acquire()
    assert engine.acquire() is None
    assert one is not None
    engine.release(one)
    assert engine.streams == 1
    assert {engine.acquire(), two} == {0, 1}


def test_a_new_stream_hears_nothing_of_its_slots_last_one() -> None:
    model = SMALL.build().eval()
    engine = Engine(model, 1, 0.0)
    for seed in (1, 2):
        life = opened(engine)
        life.inputs.append(SMALL.x(7, 1, seed)[:, 0].numpy())
        engine.submit(life.slot, life.inputs[0], 0.0, life)
        answer(engine)
        engine.submit(life.slot, life.inputs[0], 0.0, life)  # and leaves with something waiting
        engine.release(life.slot)
        np.testing.assert_allclose(live(engine, life), offline(model, life, (3,)), rtol=1e-5, atol=1e-6)
    assert engine.due(9.0) is None


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        (np.zeros((2, 4), np.float32), r"expected shape \(any, \*\(3,\)\), got \(2, 4\)"),
        (np.zeros(3, np.float32), "expected shape"),
        (np.full((1, 3), np.nan, np.float32), "expected finite values"),
        (np.full((1, 3), np.inf, np.float32), "expected finite values"),
    ],
)
def test_inputs_that_cannot_be_are_refused(inputs: np.ndarray, problem: str) -> None:
    engine = Engine(SMALL.build().eval(), 1, 0.0)
    life = opened(engine)
    with pytest.raises(ValueError, match=problem):
        engine.submit(life.slot, inputs, 0.0, life)
    assert engine.due(1.0) is None


def test_what_only_the_model_finds_wrong_is_the_culprits_alone() -> None:
    """Samples that are finite, and whose power is not: in float32, in which torch hears for an output of one's own."""
    front = LogMel(n_fft=64, win_length=50, hop_length=20, n_mels=8)
    model: Any = Tagger(Network(8, 9, (2, 3), dtype=torch.float32).build("auto"), 2, front).eval()
    model.output = nn.Sequential(model.output)
    engine = Engine(model, 3, 0.0)
    lives = [opened(engine) for _ in range(3)]
    for t in range(3):
        for i, life in enumerate(lives):
            inputs = randn(90, seed=i + 10 * t, dtype=torch.float32).numpy()
            loud = i == 1 and t == 1
            engine.submit(life.slot, inputs * np.float32(3e38 / 8) if loud else inputs, 0.0, life)
            if not loud:
                life.inputs.append(inputs)
        results = engine.advance(engine.gather())
        assert [bool(result.problem) for result in results] == [False, t == 1, False]
        for result in results:
            result.ticket.outputs.append(result.outputs)
    for life in lives:
        np.testing.assert_allclose(live(engine, life), offline(model, life, ()), rtol=1e-4, atol=1e-5)


def test_a_wait_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="max_wait: expected 0 seconds or more, got -1"):
        Engine(SMALL.build(), 1, -1)
