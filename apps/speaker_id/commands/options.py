"""Options that several commands share."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Optional, Union

import tyro

from streamdrnn.errors import InputError

if TYPE_CHECKING:
    from streamdrnn.apps.speaker_id.identifier import Identifier
    from streamdrnn.apps.speaker_id.model import SpeakerModel
    from streamdrnn.apps.speaker_id.profiles import ProfileStore
    from streamdrnn.apps.speaker_id.sources.file import FileSource
    from streamdrnn.apps.speaker_id.sources.microphone import MicrophoneSource

ProfileFile = Annotated[Optional[Path], tyro.conf.arg(metavar="FILE", help="The profile file, if not the user's own.")]
ModelFile = Annotated[Optional[Path], tyro.conf.arg(metavar="FILE", help="A speaker model, if not the shipped one.")]
Json = Annotated[bool, tyro.conf.arg(help="Print one JSON object a line.")]
SegmentFormat = Annotated[
    Literal["text", "json", "rttm", "srt", "vtt"],
    tyro.conf.arg(help="For people, for programs (as --json), for diarisation tools, or subtitles."),
]
Threshold = Annotated[
    Optional[float],
    tyro.conf.arg(metavar="P", help="The probability from which a voice is named, if not 0.5."),
]
DeviceName = Annotated[
    Optional[str],
    tyro.conf.arg(metavar="DEVICE", help="A microphone's number or a part of its name, if not the default."),
]

Channel = Annotated[
    Optional[int],
    tyro.conf.arg(metavar="N", help="Hear this channel of a recording alone, from 1 on, not the average."),
]
Rate = Annotated[
    Optional[int], tyro.conf.arg(metavar="HZ", help="The sample rate of raw samples from standard input, else 16000.")
]
Channels = Annotated[
    Optional[int], tyro.conf.arg(metavar="N", help="The channels of these, interleaved, if there is more than one.")
]


Unknown = Annotated[
    Literal["one", "number", "keep"],
    tyro.conf.arg(
        help="Voices that nobody enrolled: all are (unknown), or each has a number (Speaker 1, ...), or they are also "
        "kept as profiles, to be named with: streamdrnn profiles --rename 'Speaker 1' NAME."
    ),
]


Learn = Annotated[
    bool,
    tyro.conf.arg(help="Add to the profiles, at the end, what their voices said beyond doubt."),
]


def keep_heard(identifier: "Identifier", store: "ProfileStore", model: "SpeakerModel", unknown: str) -> None:
    """Keep in the profiles what the options ask for: voices that have numbers, and speech beyond doubt."""
    if unknown == "keep" and identifier.strangers is not None:
        for name, recording in identifier.strangers.voices.items():
            store.add(name, model.id, [recording])
    if identifier.confirmed is not None:
        from streamdrnn.apps.speaker_id.confirmed import keep_confirmed

        for name, seconds in keep_confirmed(identifier.confirmed, store, model.id).items():
            print(f"learned {seconds:.0f} s of {name}", file=sys.stderr)


def profile_store(path: Optional[Path]) -> "ProfileStore":
    """The user's profiles, or those in a file."""
    from streamdrnn.apps.speaker_id.profiles import ProfileStore, default_path

    return ProfileStore(path or default_path())


def chosen_threshold(given: Optional[float]) -> float:
    """The probability from which a voice is named: as given, or else the usual one.

    Raises:
        ValueError: it is none.
    """
    from streamdrnn.apps.speaker_id.scores import THRESHOLD

    if given is not None and not 0 < given < 1:
        raise InputError(f"threshold: expected a probability above 0 and below 1, got {given:g}")
    return THRESHOLD if given is None else given


def speaker_model(path: Optional[Path], store: "ProfileStore") -> "SpeakerModel":
    """The speaker model in a file, or the shipped one, with what the user calibrated for it."""
    from streamdrnn.apps.speaker_id.model import load_speaker_model

    model = load_speaker_model(path)
    return model._replace(scorer=model.scorer.shifted(store.offset(model.id)))


def microphone(device: Optional[str]) -> "MicrophoneSource":
    """The microphone of that number or name.

    Raises:
        SourceError: it cannot be had.
    """
    from streamdrnn.apps.speaker_id.sources.microphone import MicrophoneSource

    wanted: Union[int, str, None] = int(device) if device is not None and device.isdecimal() else device
    return MicrophoneSource(wanted)


def recording(
    name: str, rate: Optional[int], channels: Optional[int], channel: Optional[int], realtime: bool = False
) -> "FileSource":
    """A file; or with the name ``-`` standard input, where raw samples may come too.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be decoded, or an option is wrong.
    """
    from streamdrnn.apps.speaker_id.sources.file import FileSource

    if name != "-":
        if rate is not None or channels is not None:
            raise InputError(f"--rate, --channels: expected with - (standard input) only, got {name}")
        return FileSource(Path(name), realtime, channel)
    if sys.stdin is None:
        raise InputError("-: standard input is closed, expected sound")
    from streamdrnn.audio.decoding import Raw

    raw = Raw(16000 if rate is None else rate, 1 if channels is None else channels)
    return FileSource(sys.stdin.buffer, realtime, channel, raw)
