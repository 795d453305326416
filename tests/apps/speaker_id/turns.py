"""Who spoke in which order, for comparing what two listeners decided."""

from functools import cache
from itertools import groupby
from typing import NamedTuple

from streamdrnn.apps.speaker_id.ear import Ear
from streamdrnn.apps.speaker_id.identifier import Identifier
from streamdrnn.apps.speaker_id.turns import Segment
from tests.apps.speaker_id.demo_voices import conversation_samples, model, recording, voices


class Turn(NamedTuple):
    speaker: str
    start: float
    end: float


def turns_of(segments: list[Segment]) -> list[Turn]:
    """What the speakers said, one after the other, whatever was unknown or silence between."""
    named = [one for one in segments if one.speaker is not None]
    parts = [list(part) for _, part in groupby(named, lambda one: one.speaker)]
    return [Turn(str(part[0].speaker), part[0].start, part[-1].end) for part in parts]


@cache
def segments_of_the_demo(late: int = 0) -> list[Segment]:
    """What `streamdrnn demo` decides of its conversation, of which it misses so many samples."""
    known = {name: recording(path) for name, path in voices()}
    ear, identifier = Ear(model().embedder), Identifier(model(), known)
    ticks = ear.push(conversation_samples(60)[late:]) + ear.finish()
    return identifier.hear(ticks) + identifier.finish(ear.seconds)


def turns_of_the_demo() -> list[Turn]:
    """The same as turns."""
    return turns_of(segments_of_the_demo())


class Agreement(NamedTuple):
    """How many moments are clear, and the share of these in which others say the same."""

    moments: int
    share: float


def agreement(segments: list[Segment], late: float) -> Agreement:
    """Of segments that were heard from so many seconds on with the demo's decisions, every tenth of a second.

    A moment is clear if the demo decides the same for half a second around it, from whichever sample on it hears: other
    samples make other frames, and a turn that is hardly known may then be decided otherwise.
    """
    heard = [(segments_of_the_demo(missed), missed / 16000) for missed in (0, 1000, 4321, 7777)]
    clear, right = 0, 0
    for segment in segments:
        for tick in range(round(10 * (segment.end - segment.start))):
            time = segment.start + late + (tick + 0.5) / 10
            around = [time + offset for offset in (-0.5, -0.25, 0.0, 0.25, 0.5)]
            said = {_label(some, moment - missed) for some, missed in heard for moment in around}
            clear += len(said) == 1
            right += said == {segment.label}
    return Agreement(clear, right / max(clear, 1))


def _label(segments: list[Segment], time: float) -> str:
    return next((one.label for one in segments if one.start <= time < one.end), "")
