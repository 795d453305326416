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
def segments_of_the_demo(times: int = 1) -> list[Segment]:
    """What `streamdrnn demo` decides of its conversation, heard so many times."""
    known = {name: recording(path) for name, path in voices()}
    ear, identifier = Ear(model().embedder), Identifier(model(), known)
    ticks = [tick for _ in range(times) for tick in ear.push(conversation_samples(60))] + ear.finish()
    return identifier.hear(ticks) + identifier.finish(ear.seconds)


def turns_of_the_demo(times: int = 1) -> list[Turn]:
    """The same as turns."""
    return turns_of(segments_of_the_demo(times))


def agreement(some: list[Segment], others: list[Segment], shift: float) -> float:
    """The share of the first segments' time in which the others, that much later, say the same."""

    def label(segments: list[Segment], time: float) -> set[str]:
        return {one.label for one in segments if one.start <= time < one.end}

    times = [one.start + (tick + 0.5) / 10 for one in some for tick in range(round(10 * (one.end - one.start)))]
    return sum(label(some, time) == label(others, time + shift) for time in times) / len(times)
