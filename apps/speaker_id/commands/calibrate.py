"""`streamdrnn calibrate`: what makes the probabilities right for one's own microphone."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import tyro

from streamdrnn.apps.speaker_id.commands.options import Json, ModelFile, ProfileFile, profile_store
from streamdrnn.apps.speaker_id.sources.quiet import quiet_libraries
from streamdrnn.errors import InputError

if TYPE_CHECKING:
    from streamdrnn.apps.speaker_id.calibration import Calibration
    from streamdrnn.apps.speaker_id.model import SpeakerModel
    from streamdrnn.apps.speaker_id.profiles import ProfileStore

_TABLE = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


@dataclass
class Calibrate:
    """Measure how well voices are told apart, and make the probabilities right for them.

    FOLDER has a folder of recordings for each person, or is LibriSpeech's. FAR is the share of windows of speech that
    are taken for somebody else at a threshold, FRR the share that are not taken for who it is. The offset is added to
    the logarithm of the likelihood ratio. It is kept with the profiles, for this model, unless it rests on too little.

    Example: streamdrnn calibrate recordings --plot errors.png
    """

    folder: Annotated[tyro.conf.Positional[Optional[Path]], tyro.conf.arg(metavar="FOLDER", help="The recordings.")] = (
        None
    )
    plot: Annotated[Optional[Path], tyro.conf.arg(metavar="FILE", help="Draw the errors (needs matplotlib).")] = None
    dry_run: Annotated[bool, tyro.conf.arg(help="Only measure: do not keep the offset.")] = False
    show: Annotated[bool, tyro.conf.arg(help="Show the offset that is kept instead.")] = False
    reset: Annotated[bool, tyro.conf.arg(help="Forget it instead.")] = False
    profiles: ProfileFile = None
    model: ModelFile = None
    json: Json = False

    @quiet_libraries()
    def run(self) -> None:
        from streamdrnn.apps.speaker_id.model import load_speaker_model, use_one_thread

        if (self.folder is not None) + self.show + self.reset != 1:
            raise InputError("expected one of FOLDER, --show and --reset")
        use_one_thread()
        model, store = load_speaker_model(self.model), profile_store(self.profiles)
        if self.folder is not None:
            self._calibrate(self.folder, model, store)
            return
        if self.reset:
            store.set_offset(model.id, 0.0)
        offset = store.offset(model.id)
        print(json.dumps({"offset": offset}) if self.json else f"offset {offset:+.2f}, in {store.path}")

    def _calibrate(self, folder: Path, model: "SpeakerModel", store: "ProfileStore") -> None:
        from streamdrnn.apps.speaker_id.calibration import calibrate, check_calibration, recordings_by_speaker

        result = calibrate(model, recordings_by_speaker(folder))
        if self.json:
            print(json.dumps(result._asdict()))
        else:
            _print(result)
        if self.plot is not None:
            _plot(result, self.plot)
        if not self.dry_run:
            check_calibration(result)
            store.set_offset(model.id, result.offset)
            if not self.json:
                print(f"the offset is kept in {store.path}")


def _print(result: "Calibration") -> None:
    print(f"speakers {result.speakers}, windows {result.windows}\n\nthreshold     FAR     FRR")
    for threshold, far, frr in zip(result.thresholds, result.far, result.frr, strict=True):
        if threshold in _TABLE:
            print(f"{threshold:9.2f} {far:7.1%} {frr:7.1%}")
    print(f"\nequal error rate {result.eer:.1%}")
    print(f"offset {result.offset:+.2f}, with 90 % between {result.low:+.2f} and {result.high:+.2f}")


def _plot(result: "Calibration", path: Path) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("--plot needs matplotlib: pip install matplotlib") from None
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(result.thresholds, [100 * value for value in result.far], label="false acceptances")
    axes.plot(result.thresholds, [100 * value for value in result.frr], label="false rejections")
    axes.set(xlabel="threshold (probability)", ylabel="% of windows", xlim=(0, 1))
    axes.set_title(f"equal error rate {result.eer:.1%}")
    axes.legend()
    try:
        figure.savefig(path)
    except ValueError as error:  # a name that ends in no format of matplotlib's
        raise InputError(f"--plot {path}: {error}") from None
