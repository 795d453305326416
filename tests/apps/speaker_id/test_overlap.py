"""Two voices at once: they are found, the same voices in turns are not, and nothing is learnt of a voice from them."""

from itertools import combinations

import pytest
import torch
from torch import Tensor

from streamdrnn.apps.speaker_id.ear import Ear
from streamdrnn.apps.speaker_id.enrolment import Enrolment
from streamdrnn.apps.speaker_id.identifier import Identifier
from streamdrnn.apps.speaker_id.model import asset
from streamdrnn.apps.speaker_id.overlap import NEAR_TICKS, OVERLAP, is_overlapped
from streamdrnn.apps.speaker_id.ticks import TICK_SECONDS, Tick
from streamdrnn.apps.speaker_id.turns import Segment
from tests.apps.speaker_id.demo_voices import model, recording, speech_of, voices

RATE = 16000
PAIRS = list(combinations(range(4), 2))
KNOWN = {name: recording(path) for name, path in voices()}


def voice(number: int, seconds: float) -> Tensor:
    """One of the demo's voices, whom the detector's training never heard, at -26 dBFS."""
    samples = speech_of(number, seconds)
    return 0.05 * samples / samples.square().mean().sqrt()


def ticks_of(samples: Tensor) -> list[Tick]:
    ear = Ear(model().embedder)
    return ear.push(samples) + ear.finish()


def segments_of(ticks: list[Tick]) -> list[Segment]:
    identifier = Identifier(model(), KNOWN)
    return identifier.hear(ticks) + identifier.finish(len(ticks) * TICK_SECONDS)


def overlap_of(segments: list[Segment]) -> float:
    return sum(segment.overlap for segment in segments)


def test_it_is_small() -> None:
    assert asset("overlap.safetensors").stat().st_size < 150_000


def test_two_at_once_are_found_and_two_in_turns_are_not() -> None:
    together = [segments_of(ticks_of(voice(one, 7) + voice(other, 7))) for one, other in PAIRS]
    in_turns = [segments_of(ticks_of(torch.cat([voice(one, 7), voice(other, 7)]))) for one, other in PAIRS]
    assert sum(map(overlap_of, together)) > 0.5 * 7 * len(PAIRS)
    assert sum(overlap_of(segments) > 0.5 for segments in together) == len(PAIRS), "of every pair"
    assert sum(map(overlap_of, in_turns)) < 0.02 * 14 * len(PAIRS)


def test_the_louder_voice_goes_on_being_named() -> None:
    """The quieter one comes in for two seconds, 6 dB below."""
    named = 0.0
    for one, other in PAIRS:
        quieter = torch.cat([torch.zeros(3 * RATE), 0.5 * voice(other, 2), torch.zeros(2 * RATE)])
        for segment in segments_of(ticks_of(voice(one, 7) + quieter)):
            named += (segment.end - segment.start) * (segment.speaker == voices()[one].name)
    # The quieter one speaks in 2 of 7 s.
    assert named > 0.9 * 7 * len(PAIRS)


def test_a_tick_is_judged_by_its_neighbours() -> None:
    ticks = [tick._replace(overlap=0.0) for tick in ticks_of(voice(0, 7))]
    alone, several = (
        [tick._replace(overlap=1.0) if first <= number < last else tick for number, tick in enumerate(ticks)]
        for first, last in ((30, 32), (30, 50))
    )
    assert overlap_of(segments_of(ticks)) == overlap_of(segments_of(alone)) == 0
    assert overlap_of(segments_of(several)) == pytest.approx(2.0, abs=2 * NEAR_TICKS * TICK_SECONDS)
    assert is_overlapped([OVERLAP])
    assert not is_overlapped([OVERLAP, OVERLAP - 0.01])


def test_it_is_told_at_once_and_not_of_silence() -> None:
    ticks = [tick._replace(overlap=1.0) for tick in ticks_of(torch.cat([voice(0, 4), torch.zeros(2 * RATE)]))]
    identifier, told = Identifier(model(), KNOWN), []
    for tick in ticks:
        identifier.hear([tick])
        told.append(identifier.now())
    assert told[38].text == f"{voices()[0].name} + another voice"
    assert told[-1].label == "(silence)"
    assert [now.overlap for now in told] == [now.label != "(silence)" for now in told]


def test_an_enrolment_leaves_them_out() -> None:
    enrolment, alone = Enrolment(model()), Enrolment(model())
    alone.hear(ticks_of(voice(0, 7)))
    ticks = ticks_of(torch.cat([voice(0, 7), voice(0, 7) + voice(1, 7)]))
    enrolment.hear(ticks)
    overlapped = sum(tick.has_speech and not tick.is_of_one_voice for tick in ticks)
    assert overlapped > 30
    assert enrolment.progress.seconds == pytest.approx(TICK_SECONDS * (ticks[-1].spoken - overlapped))
    warnings = enrolment.finish().warnings
    assert any("another voice speaks at the same time" in warning for warning in warnings)
    assert not any("another voice" in warning for warning in alone.finish().warnings)


@pytest.mark.parametrize("overlap", [0.0, 1.0])
def test_nothing_is_learnt_from_them(overlap: float) -> None:
    ticks = [tick._replace(overlap=overlap) for tick in ticks_of(voice(0, 7))]
    learning = Identifier(model(), KNOWN, learn=True)
    numbering = Identifier(model(), {}, number_strangers=True)
    for identifier in (learning, numbering):
        identifier.hear(ticks)
        identifier.finish(7.0)
    assert learning.confirmed is not None
    assert numbering.strangers is not None
    assert bool(learning.confirmed.voices) == (not overlap)
    assert bool(numbering.strangers.voices) == (not overlap)
