"""How well a small speech detector and its teacher find speech among noise, by speakers and noises unknown to it.

Both hear the same scenes. What is true of a scene is what the teacher says of the clean recordings in it. This favours
the teacher: without noise it is compared with itself.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Optional

import torch
from torch import Tensor

from streamdrnn.apps.speaker_id.activity import SPEECH
from streamdrnn.apps.speaker_id.model import DetectorModel
from streamdrnn.apps.training.data import data_folder
from streamdrnn.apps.training.labelled_speech import Samples, Speaker, by_sample, judge, load_noises, load_speakers
from streamdrnn.apps.training.metrics import recall_and_threshold
from streamdrnn.apps.training.scene_scores import MINUTES, UNKNOWN_SETS, at_frames, outputs_of, scenes_of
from streamdrnn.apps.training.scenes import Conditions
from streamdrnn.apps.training.silero import Silero
from streamdrnn.apps.training.tasks.scene_task import NOISE, SETS

CONDITIONS = {
    "no noise": Conditions(),
    **{f"{snr} dB": Conditions(snr=snr) for snr in (20, 10, 5, 0, -5)},
    "10 dB room": Conditions(snr=10, has_room=True),
    "10 dB telephone": Conditions(snr=10, has_telephone=True),
    "10 dB quiet": Conditions(snr=10, level=-55),
    "10 dB clipped": Conditions(snr=10, level=-5),
}
NOISE_ALONE = Conditions(snr=0, has_speech=False)


class Judgements(NamedTuple):
    """Of F frames: whether there is speech ``(F,)`` bool, and what both detectors say ``(F,)``."""

    truth: Tensor
    ours: Tensor
    silero: Tensor

    def recall(self) -> dict[str, float]:
        """Of both at 1 % false alarms."""
        said = {"ours": self.ours, "silero": self.silero}
        return {name: float(recall_and_threshold(outputs, self.truth)[0]) for name, outputs in said.items()}

    def reported(self, threshold: float, among: bool) -> dict[str, float]:
        """How often both report speech at their own thresholds, among the frames with speech or those without."""
        among_these = self.truth == among
        reports = {"ours": self.ours > threshold, "silero": self.silero >= SPEECH}
        return {name: float(report[among_these].double().mean()) for name, report in reports.items()}


def compare(
    model: DetectorModel, data_dir: Optional[Path], names: Sequence[str] = (*SETS, *UNKNOWN_SETS)
) -> dict[str, dict[str, dict[str, float]]]:
    """The recall of a detector and of Silero at 1 % false alarms per frame, by data set and conditions.

    At the end is what they report at their own thresholds: the threshold in the model's notes, and 0.5.

    Raises:
        OSError, ValueError: data are missing or cannot be read.
    """
    noises = load_noises(data_folder(data_dir, NOISE), "test")
    results: dict[str, dict[str, dict[str, float]]] = {}
    everything: list[Judgements] = []
    for name in names:
        sets = [load_speakers(data_folder(data_dir, name), "test", MINUTES)]
        judged = {text: judgements(model, sets, noises, conditions) for text, conditions in CONDITIONS.items()}
        results[name] = {text: some.recall() for text, some in judged.items()}
        everything += judged.values()
    together = Judgements(*(torch.cat(parts) for parts in zip(*everything, strict=True)))
    alone = judgements(model, sets, noises, NOISE_ALONE)
    results["at own threshold"] = {
        "speech": together.reported(model.threshold, among=True),
        "no speech": together.reported(model.threshold, among=False),
        "noise alone": alone.reported(model.threshold, among=False),
    }
    return results


def judgements(
    model: DetectorModel, sets: Sequence[Sequence[Speaker]], noises: Sequence[Samples], conditions: Conditions
) -> Judgements:
    """Those of scenes that differ from others in their conditions alone; arguments as for :func:`scenes_of`."""
    scenes, teacher = scenes_of(sets, noises, conditions), Silero()
    truth = at_frames(model, [scene.speech for scene in scenes]) >= SPEECH
    heard = [by_sample(judge(scene.samples, teacher))[: len(scene.samples)] for scene in scenes]
    return Judgements(truth.flatten(), outputs_of(model, scenes).flatten(), at_frames(model, heard).flatten())
