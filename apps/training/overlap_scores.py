"""How well a small detector finds overlapped speech, by speakers and noises unknown to it.

Of each set and condition half of the scenes have one voice at a time, half have two that speak at once at times. Only
frames count in which somebody speaks: silence is no achievement.
"""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, Optional

import torch
from torch import Tensor

from streamdrnn.apps.speaker_id.activity import SPEECH
from streamdrnn.apps.speaker_id.model import DetectorModel
from streamdrnn.apps.speaker_id.overlap import NEAR_TICKS, is_overlapped
from streamdrnn.apps.speaker_id.ticks import TICK_SECONDS
from streamdrnn.apps.training.data import data_folder
from streamdrnn.apps.training.labelled_speech import Samples, Speaker, load_noises, load_speakers
from streamdrnn.apps.training.metrics import recall_and_threshold
from streamdrnn.apps.training.scene_scores import MINUTES, UNKNOWN_SETS, at_frames, outputs_of, scenes_of
from streamdrnn.apps.training.scenes import Conditions
from streamdrnn.apps.training.tasks.overlap import SCENES, SETS, in_turns
from streamdrnn.apps.training.tasks.scene_task import NOISE
from streamdrnn.apps.training.voices import demo_readers

CONDITIONS = {
    "no noise": Conditions(),
    **{f"{snr} dB": Conditions(snr=snr) for snr in (20, 10, 5)},
    "20 dB room": Conditions(snr=20, has_room=True),
    "20 dB telephone": Conditions(snr=20, has_telephone=True),
    "20 dB quiet": Conditions(snr=20, level=-55),
    "20 dB clipped": Conditions(snr=20, level=-5),
}
OTHER_SETS = ("voices/dspspeech20", *UNKNOWN_SETS)
"""They do not train the shipped model."""
TICK_FRAMES = 5
EVENT_TICKS = 5
"""An overlap of at least this length is an event that is to be found."""


class Judgements(NamedTuple):
    """Of F frames of S scenes ``(F, S)``: how many voices there are, and what the detector says."""

    voices: Tensor
    outputs: Tensor

    def joined(self) -> tuple[Tensor, Tensor]:
        """Of the frames in which somebody speaks: what the detector says ``(N,)``, and whether two speak ``(N,)``."""
        spoken = self.voices > 0
        return self.outputs[spoken], self.voices[spoken] > 1


def measure(
    model: DetectorModel, data_dir: Optional[Path], names: Sequence[str] = (*SETS, *OTHER_SETS)
) -> dict[str, dict[str, float]]:
    """The recall of a detector at 1 % false alarms per frame, by data set and conditions.

    At the end is what it is worth over all: the area under the curve of recall and false alarms; at the threshold in
    its notes the recall, the false alarms, the precision and F1 of frames; and what the decisions find.

    Raises:
        OSError, ValueError: data are missing or cannot be read.
    """
    noises = load_noises(data_folder(data_dir, NOISE), "test")
    results: dict[str, dict[str, float]] = {}
    everything: list[Judgements] = []
    for name in names:
        sets = [load_speakers(data_folder(data_dir, name), "test", MINUTES, demo_readers())]
        judged = {text: judgements(model, sets, noises, conditions) for text, conditions in CONDITIONS.items()}
        results[name] = {text: float(recall_and_threshold(*some.joined())[0]) for text, some in judged.items()}
        everything += judged.values()
    pairs = [some.joined() for some in everything]
    outputs, is_there = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    results["frames"] = of_frames(outputs, is_there, model.threshold)
    results["events"] = of_events(everything, model.threshold)
    return results


def judgements(
    model: DetectorModel, sets: Sequence[Sequence[Speaker]], noises: Sequence[Samples], conditions: Conditions
) -> Judgements:
    """Those of scenes with one voice at a time, and with two; arguments as for :func:`scenes_of`."""
    scenes = [scene for kind in SCENES for scene in scenes_of(sets, noises, in_turns(kind, conditions))]
    speech, overlap = (
        at_frames(model, values) >= SPEECH
        for values in ([scene.speech for scene in scenes], [scene.overlap for scene in scenes])
    )
    return Judgements(speech.int() + overlap.int(), outputs_of(model, scenes))


def of_frames(outputs: Tensor, is_there: Tensor, threshold: float) -> dict[str, float]:
    """What the frames' outputs ``(N,)`` say of what is there ``(N,)``: the area, and at a threshold the rest."""
    said = outputs > threshold
    ranks = outputs.double().argsort().argsort().double() + 1
    there, not_there = is_there.sum(), (~is_there).sum()
    area = (ranks[is_there].sum() - there * (there + 1) / 2) / (there * not_there)
    recall, precision = said[is_there].double().mean(), is_there[said].double().mean()
    return {
        "area under the curve": float(area),
        "recall": float(recall),
        "false alarms": float(said[~is_there].double().mean()),
        "precision": float(precision),
        "F1": float(2 * recall * precision / (recall + precision)),
    }


def of_events(judged: Sequence[Judgements], threshold: float) -> dict[str, float]:
    """What the decisions about ticks find: the share of overlaps of half a second and more, and false ones.

    An overlap is found if a part of it is. What is said to be one is false if no two people speak in any part of it.
    """
    found = events = false = ticks = 0
    for some in judged:
        probability = torch.sigmoid(some.outputs - threshold)
        whole = len(probability) // TICK_FRAMES * TICK_FRAMES
        by_tick = probability[:whole].view(-1, TICK_FRAMES, probability.shape[1]).mean(1)
        voices = some.voices[:whole].view(by_tick.shape[0], TICK_FRAMES, -1).amax(1)
        for scene in range(by_tick.shape[1]):
            heard = by_tick[:, scene].tolist()
            said = [
                is_overlapped(heard[max(0, tick - NEAR_TICKS) : tick + NEAR_TICKS + 1]) for tick in range(len(heard))
            ]
            there = (voices[:, scene] > 1).tolist()
            ticks += int((voices[:, scene] == 1).sum())
            long = [stretch for stretch in _stretches(there) if len(stretch) >= EVENT_TICKS]
            events += len(long)
            found += sum(any(said[tick] for tick in stretch) for stretch in long)
            false += sum(not any(there[tick] for tick in stretch) for stretch in _stretches(said))
    return {"recall": found / events, "false per minute": false / (ticks * TICK_SECONDS / 60)}


def _stretches(flags: Sequence[bool]) -> list[list[int]]:
    """The places of flags that are set, those of each stretch together."""
    return [list(places) for is_set, places in groupby(range(len(flags)), flags.__getitem__) if is_set]
