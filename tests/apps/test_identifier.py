"""Identification is a stream: the chunks do not matter, and memory does not grow."""

from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from streamdrnn import save_model
from streamdrnn.apps.speaker_id.ear import Ear
from streamdrnn.apps.speaker_id.enrolment import listen_to
from streamdrnn.apps.speaker_id.identifier import CERTAIN, Identifier, Now
from streamdrnn.apps.speaker_id.model import asset, load_speaker_model
from streamdrnn.apps.speaker_id.profiles import Recording
from streamdrnn.apps.speaker_id.ticks import level_dbfs
from streamdrnn.apps.speaker_id.turns import CRUMB_SECONDS, Segment
from streamdrnn.audio import load_audio
from tests.apps.speaker_id.demo_voices import recording, script
from tests.apps.speaker_id.demo_voices import voices as demo_voices
from tests.strategies import examples

MODEL = load_speaker_model()
VOICES = {name: listen_to(asset(f"{name}.flac"), MODEL) for name in ("heather", "paul")}
HEARD = load_audio(asset("conversation.flac"))
FIRST, SECOND, THIRD = ((turn["start"], turn["end"]) for turn in script()["turns"][:3])
"""Seconds of turns: Heather, Paul, and a voice that is not enrolled."""
PAUSE_SECONDS = 2.0
"""Of silence before the third turn, in place of the pause that is there."""


def samples(seconds: float) -> int:
    return round(16000 * seconds)


CONVERSATION = torch.cat(
    [HEARD[: samples(SECOND[1])], torch.zeros(samples(PAUSE_SECONDS)), HEARD[samples(THIRD[0]) : samples(THIRD[1])]]
)


class Listener:
    """An identifier and its ear."""

    def __init__(self, voices: dict[str, Recording] = VOICES) -> None:
        self.ear, self.identifier = Ear(MODEL.embedder), Identifier(MODEL, voices)

    def push(self, samples: Tensor) -> list[Segment]:
        return self.identifier.hear(self.ear.push(samples))

    def skip(self, lost: int) -> list[Segment]:
        return self.identifier.hear(self.ear.skip(lost))

    def finish(self) -> list[Segment]:
        return self.identifier.hear(self.ear.finish()) + self.identifier.finish(self.ear.seconds)

    def now(self) -> Now:
        return self.identifier.now()


def identify(chunks: list[Tensor]) -> list[Segment]:
    listener = Listener()
    return [segment for chunk in chunks for segment in listener.push(chunk)] + listener.finish()


WHOLE = identify([CONVERSATION])


def test_segments_cover_the_stream_without_gaps() -> None:
    assert WHOLE[0].start == 0
    assert WHOLE[-1].end == pytest.approx(len(CONVERSATION) / 16000, abs=1e-3)
    for before, after in pairwise(WHOLE):
        assert before.end == after.start
        assert before.label != after.label


def at(time: float) -> Segment:
    return next(segment for segment in WHOLE if segment.start <= time < segment.end)


def test_each_voice_is_named_and_silence_and_strangers_are_nobodys() -> None:
    pause = SECOND[1], SECOND[1] + PAUSE_SECONDS
    heather, paul, silence, stranger = map(at, (sum(FIRST) / 2, sum(SECOND) / 2, sum(pause) / 2, pause[1] + 2))
    assert [one.speaker for one in (heather, paul, silence, stranger)] == ["heather", "paul", None, None]
    assert (silence.speaker, silence.score) == (None, 0.0)
    # Where nobody speaks half a second around; the detector may let speech fade out.
    assert silence.start == pytest.approx(pause[0] + 0.6, abs=0.25)
    assert silence.end == pytest.approx(pause[1] - 0.5, abs=0.25)
    assert 0 < stranger.score < 0.36 < paul.score
    assert min(one.probability for one in (heather, paul, stranger)) > 0.5


def test_silence_is_not_averaged_into_a_voice() -> None:
    listener = Listener()
    fading = samples(SECOND[1] + 0.4)  # the detector lets speech fade out
    third = samples(SECOND[1] + PAUSE_SECONDS)
    listener.push(CONVERSATION[:fading])
    spoken = listener.identifier._notes[-1]
    assert spoken.frames > 150
    listener.push(CONVERSATION[fading:third])
    assert listener.identifier._notes[-1].frames == spoken.frames
    assert torch.equal(listener.identifier._notes[-1].total, spoken.total)
    listener.push(CONVERSATION[third:])
    assert listener.identifier._notes[-1].frames > spoken.frames


@examples(15)
@given(cuts=st.lists(st.integers(0, len(CONVERSATION)), max_size=12))
def test_chunks_do_not_matter(cuts: list[int]) -> None:
    chunks = list(CONVERSATION.tensor_split(sorted(cuts)))
    assert identify(chunks) == WHOLE


def test_decisions_come_within_the_stated_time() -> None:
    listener = Listener()
    heard = 0
    for block in CONVERSATION.split(320):
        heard += len(block)
        for segment in listener.push(block):
            # A segment is known to have ended when what follows it is no crumb.
            assert heard / 16000 - segment.end <= listener.identifier.latency + CRUMB_SECONDS + 0.1


def test_memory_does_not_grow() -> None:
    listener = Listener()

    def size() -> tuple[int, ...]:
        parts = (listener.identifier._notes, listener.identifier._undecided, listener.identifier._path._came_from)
        return tuple(len(part) for part in parts)

    listener.push(CONVERSATION[:80000])
    before = size()
    listener.push(CONVERSATION)
    assert size() == before


def test_nan_is_refused_and_nothing_has_been_heard() -> None:
    listener = Listener()
    segments = listener.push(CONVERSATION[:30000])
    with pytest.raises(ValueError, match="samples: expected finite values"):
        listener.push(torch.full((1000,), float("nan")))
    segments += listener.push(CONVERSATION[30000:])
    assert segments + listener.finish() == WHOLE


def test_nothing_heard_is_no_segment() -> None:
    assert identify([]) == []
    assert identify([torch.zeros(100)]) == []


def test_without_profiles_every_voice_is_unknown() -> None:
    listener = Listener({})
    segments = listener.push(CONVERSATION[: samples(SECOND[1])])
    assert listener.now().label == "(unknown)"
    assert (listener.now().scores, listener.now().probability) == ({}, {"(unknown)": 1.0})
    assert {segment.speaker for segment in segments + listener.finish()} == {None}


def test_a_profile_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="profile 'a': an embedding of shape"):
        Identifier(MODEL, {"a": Recording(10.0, torch.ones(3))})


def test_nobody_is_named_before_there_is_evidence() -> None:
    listener = Listener()
    named = []
    for block in torch.cat([HEARD[: samples(SECOND[1])], load_audio(asset("paul.flac"))]).split(1600):
        listener.push(block)
        now = listener.now()
        if now.evidence < 1.5:
            assert now.speaker is None
            probable = ("probably heather", "probably paul") if now.evidence >= 1 else ()
            assert now.label in ("(listening)", "(silence)", *probable)
        elif now.speaker:
            named.append(now)
    assert {now.speaker for now in named} == {"heather", "paul"}
    assert all(set(now.probability) == {*now.scores, "(unknown)"} == {"heather", "paul", "(unknown)"} for now in named)
    assert all(now.probability[now.speaker or ""] >= CERTAIN for now in named)


def test_a_change_of_speaker_is_noticed_within_about_a_second() -> None:
    voices = {voice.name: recording(voice.path) for voice in demo_voices()}
    turns = script()["turns"]
    listener = Listener(voices)
    shown = []
    for block in HEARD.split(1600):
        listener.push(block)
        shown.append(listener.now())
    delays = []
    for before, after in pairwise(turns):
        former = before["speaker"] or "(unknown)"
        still = [now for now in shown if after["start"] <= now.time < after["end"] and now.label == former]
        delays.append(round(still[-1].time + 0.1 - after["start"], 2) if still else 0.0)
    assert median(delays) <= 1.0, delays
    assert max(delays) <= 1.6, delays


def test_after_a_loss_the_clock_is_right() -> None:
    listener = Listener()
    segments = listener.push(CONVERSATION[:40000]) + listener.skip(50000) + listener.push(CONVERSATION[:40000])
    segments += listener.finish()
    assert segments[-1].end == pytest.approx(130000 / 16000, abs=1e-3)
    for before, after in pairwise(segments):
        assert before.end == after.start


def test_silence_is_said_to_be_silence() -> None:
    listener = Listener()
    listener.push(torch.zeros(32000))
    assert listener.now().label == "(silence)"
    assert listener.now().scores == {}


def test_levels() -> None:
    assert level_dbfs(torch.ones(10)) == pytest.approx(0)
    assert level_dbfs(torch.full((10,), 0.1)) == pytest.approx(-20)
    assert level_dbfs(torch.zeros(0)) == pytest.approx(-120)


@pytest.mark.parametrize("notes", [{}, {"threshold": ""}, {"threshold": "NaN"}, {"threshold": "1e999"}])
def test_a_threshold_that_is_none_is_refused(notes: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "speaker.safetensors"
    save_model(MODEL.embedder, path, notes)
    with pytest.raises(ValueError, match=r"^\S+speaker\.safetensors: .*threshold"):
        load_speaker_model(path)
