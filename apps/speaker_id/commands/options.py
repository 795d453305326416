"""Options that several commands share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional, Union

import tyro

if TYPE_CHECKING:
    from streamdrnn.apps.speaker_id.model import SpeakerModel
    from streamdrnn.apps.speaker_id.profiles import ProfileStore
    from streamdrnn.apps.speaker_id.sources.microphone import MicrophoneSource

ProfileFile = Annotated[Optional[Path], tyro.conf.arg(metavar="FILE", help="The profile file, if not the user's own.")]
ModelFile = Annotated[Optional[Path], tyro.conf.arg(metavar="FILE", help="A speaker model, if not the shipped one.")]
Json = Annotated[bool, tyro.conf.arg(help="Print one JSON object a line.")]
Threshold = Annotated[
    Optional[float],
    tyro.conf.arg(metavar="COSINE", help="Below it a voice is nobody's, if not as calibrated."),
]
DeviceName = Annotated[
    Optional[str],
    tyro.conf.arg(metavar="DEVICE", help="A microphone's number or a part of its name, if not the default."),
]


def profile_store(path: Optional[Path]) -> "ProfileStore":
    """The user's profiles, or those in a file."""
    from streamdrnn.apps.speaker_id.profiles import ProfileStore, default_path

    return ProfileStore(path or default_path())


def chosen_threshold(given: Optional[float], store: "ProfileStore", model: "SpeakerModel") -> float:
    """The threshold: as given, or else as calibrated by the user, or else the model's own."""
    if given is not None:
        return given
    calibrated = store.threshold(model.id)
    return model.threshold if calibrated is None else calibrated


def microphone(device: Optional[str]) -> "MicrophoneSource":
    """The microphone of that number or name.

    Raises:
        SourceError: it cannot be had.
    """
    from streamdrnn.apps.speaker_id.sources.microphone import MicrophoneSource

    wanted: Union[int, str, None] = int(device) if device is not None and device.isdecimal() else device
    return MicrophoneSource(wanted)
