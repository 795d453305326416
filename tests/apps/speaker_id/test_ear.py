"""The ear hears every sample once, whoever listens; the chunks do not matter, and the clock is right after losses."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from streamdrnn import ModelState, SpeakerEmbedder, StreamingDRNN
from streamdrnn.apps.speaker_id import ear as ear_module
from streamdrnn.apps.speaker_id.activity import SpeechDetector
from streamdrnn.apps.speaker_id.conversation import Conversation
from streamdrnn.apps.speaker_id.ear import Ear
from streamdrnn.apps.speaker_id.enrolment import Enrolled, Enrolment
from streamdrnn.apps.speaker_id.overlap import OverlapDetector
from streamdrnn.apps.speaker_id.profiles import ProfileStore
from streamdrnn.apps.speaker_id.scores import THRESHOLD
from streamdrnn.apps.speaker_id.sources.source import Chunk
from streamdrnn.apps.speaker_id.ticks import Tick
from streamdrnn.audio import StreamingResampler, load_audio
from tests.agreement import assert_close
from tests.apps.speaker_id.demo_voices import CONVERSATION, model, recording, speech_of, voices

EMBEDDER = model().embedder
HEARD = load_audio(CONVERSATION)


def test_every_sample_is_heard_once_also_while_somebody_is_enrolled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    heard = Counter[str]()
    made = Counter[str]()

    def counting(kind: Any) -> Any:
        def push(self: Any, samples: Tensor) -> Any:
            heard[kind.__name__] += len(samples)
            return kind.push(self, samples)

        def init(self: Any, *options: Any) -> None:
            made[kind.__name__] += 1
            kind.__init__(self, *options)

        return type(kind.__name__, (kind,), {"__init__": init, "push": push})

    for kind in (StreamingResampler, SpeechDetector, OverlapDetector, StreamingDRNN):
        monkeypatch.setattr(ear_module, kind.__name__, counting(kind))
    conversation = Conversation(model(), ProfileStore(tmp_path / "p"), THRESHOLD, 16000, enough=2.0)
    conversation.enrol("Anna")
    events = [event for block in speech_of(0, 4).split(320) for event in conversation.push(Chunk(block))]
    assert any(isinstance(event, Enrolled) for event in events)
    assert heard == dict.fromkeys(made, 64_000)
    assert made == {"StreamingResampler": 1, "SpeechDetector": 1, "OverlapDetector": 1, "StreamingDRNN": 1}


def same(a: list[Tick], b: list[Tick]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(one.total, other.total) and one._replace(total=other.total) == other
        for one, other in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_chunks_do_not_matter(rate: int) -> None:
    samples = load_audio(CONVERSATION, rate)[: 4 * rate]

    def ticks(length: int) -> list[Tick]:
        ear = Ear(EMBEDDER, rate)
        first = [tick for chunk in samples[:rate].split(length) for tick in ear.push(chunk)]
        first += ear.hear(Chunk(samples[rate:rate], lost=rate // 3))
        first += [tick for chunk in samples[rate:].split(length) for tick in ear.hear(Chunk(chunk))]
        return first + ear.finish()

    whole = ticks(len(samples))
    assert len(whole) == 44, "4 s, a third that was lost, and what is left of a tick"
    assert same(ticks(777), whole)


@pytest.mark.parametrize("lost", [320, 640, 1280, 2880])
def test_what_was_before_a_loss_is_forgotten(lost: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # All counts as speech, so that the notes are the model's sums over what it has heard.
    monkeypatch.setattr(SpeechDetector, "push", lambda self, samples: [1.0])
    ear = Ear(EMBEDDER)
    ear.push(HEARD[:320])
    before = ear.skip(lost)
    rest = -(320 + lost) % 1600  # the loss ends on a block, and the tick goes on
    after = HEARD[8000 : 8000 + rest + 3200]
    ticks = ear.push(after)
    _, state = EMBEDDER(after[:, None])
    assert isinstance(state, ModelState)
    heard, frames = (before[-1].total, before[-1].frames) if before else (0.0, 0)
    assert ticks[-1].frames - frames == int(state.rnn.cursor[0])
    assert_close(ticks[-1].total - heard, state.pooled[0, 0], computed_in=torch.float32)


@pytest.mark.parametrize("detector", [SpeechDetector, OverlapDetector])
def test_a_detector_has_heard_what_was_before_a_loss_when_it_begins_afresh(
    detector: type[SpeechDetector | OverlapDetector], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def push(self: SpeechDetector | OverlapDetector, samples: Tensor) -> list[float]:
        calls.append(f"{len(samples)}")
        return [0.0]

    monkeypatch.setattr(detector, "push", push)
    monkeypatch.setattr(detector, "reset", lambda self: calls.append("afresh"))
    ear = Ear(EMBEDDER)
    calls.clear()
    ear.push(HEARD[:640])
    ear.skip(320)
    ear.push(HEARD[960:1600])
    assert calls == ["960", "afresh", "640"]


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_roundings_of_many_losses_do_not_add_up(rate: int) -> None:
    for end, wanted in ((2.9995, 29), (3.0005, 30)):
        ear, ticks = Ear(EMBEDDER, rate), 0
        for _ in range(40):  # each rounds one sample to some of the model's
            ticks += len(ear.push(torch.zeros(1))) + len(ear.skip(0))
        ticks += len(ear.push(torch.zeros(round(end * rate) - 40))) + len(ear.flush())
        assert ticks == wanted


def test_nan_is_refused_and_the_clock_stands() -> None:
    ear = Ear(EMBEDDER, 48000)
    ear.push(torch.zeros(4800))
    with pytest.raises(ValueError, match="samples: expected finite values, got NaN or infinity"):
        ear.push(torch.full((480,), float("nan")))
    assert ear.seconds == 0.1


def test_a_model_of_features_is_refused() -> None:
    with pytest.raises(ValueError, match="model: expected one with a front-end"):
        Ear(SpeakerEmbedder(EMBEDDER.rnn, 8))


def test_an_enrolment_in_mid_stream_begins_with_the_next_whole_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SpeechDetector, "push", lambda self, samples: [1.0])  # all counts as speech
    ear = Ear(EMBEDDER)
    ear.push(speech_of(0, 2.05))  # somebody else: half a tick is under way
    enrolment = Enrolment(model(), mid_stream=True)
    enrolment.hear(ear.push(speech_of(1, 2.05)))
    assert enrolment.progress.seconds == 2.0
    embedding = enrolment.finish().embedding
    other, own = (float(recording(voices()[number].path).embedding @ embedding) for number in (0, 1))
    assert own > 0.36 > other
