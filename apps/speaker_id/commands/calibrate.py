"""`streamdrnn calibrate`: the threshold below which a voice is nobody's."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import tyro

from streamdrnn.apps.speaker_id.commands.options import Json, ModelFile, ProfileFile, profile_store
from streamdrnn.errors import InputError

if TYPE_CHECKING:
    from streamdrnn.apps.speaker_id.calibration import Calibration

_TABLE_STEP = 0.05


@dataclass
class Calibrate:
    """Measure how well voices are told apart, and set the threshold to where both errors are equal.

    FOLDER has a folder of recordings for each person, or is LibriSpeech's. FAR is the share of windows of speech that
    are taken for somebody else, FRR the share that are not taken for who it is. The threshold is kept with the
    profiles, for this model.

    Example: streamdrnn calibrate recordings --plot errors.png
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER", help="The recordings.")]
    plot: Annotated[Optional[Path], tyro.conf.arg(metavar="FILE", help="Draw the errors (needs matplotlib).")] = None
    dry_run: Annotated[bool, tyro.conf.arg(help="Only measure: do not set the threshold.")] = False
    profiles: ProfileFile = None
    model: ModelFile = None
    json: Json = False

    def run(self) -> None:
        from streamdrnn.apps.speaker_id.calibration import calibrate, recordings_by_speaker
        from streamdrnn.apps.speaker_id.model import load_speaker_model, use_one_thread

        use_one_thread()
        model = load_speaker_model(self.model)
        result = calibrate(model, recordings_by_speaker(self.folder))
        store = profile_store(self.profiles)
        if not self.dry_run:
            store.set_threshold(model.id, result.threshold)
        if self.json:
            print(json.dumps(result._asdict()))
        else:
            _print(result)
            if not self.dry_run:
                print(f"the threshold is kept in {store.path}")
        if self.plot is not None:
            _plot(result, self.plot)


def _print(result: "Calibration") -> None:
    print(f"speakers {result.speakers}, windows {result.windows}\n\nthreshold     FAR     FRR")
    every = round(_TABLE_STEP / (result.thresholds[1] - result.thresholds[0]))
    for threshold, far, frr in list(zip(result.thresholds, result.far, result.frr, strict=True))[::every]:
        # Where one kind of error is certain there is nothing to see.
        if far < 1 and frr < 1:
            print(f"{threshold:9.2f} {far:7.1%} {frr:7.1%}")
    print(f"\nequal error rate {result.eer:.1%}, at a cosine of {result.threshold:.2f}")


def _plot(result: "Calibration", path: Path) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("--plot needs matplotlib: pip install matplotlib") from None
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(result.thresholds, [100 * value for value in result.far], label="false acceptances")
    axes.plot(result.thresholds, [100 * value for value in result.frr], label="false rejections")
    axes.axvline(result.threshold, color="grey", linestyle=":", label=f"equal: {result.eer:.1%}")
    axes.set(xlabel="threshold (cosine)", ylabel="% of windows", xlim=(-0.5, 1))
    axes.legend()
    try:
        figure.savefig(path)
    except ValueError as error:  # a name that ends in no format of matplotlib's
        raise InputError(f"--plot {path}: {error}") from None
