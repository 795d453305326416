"""`streamdrnn identify`, `enroll` and `profiles`: the user's own recordings and voices."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import tyro

if TYPE_CHECKING:
    from streamdrnn.apps.speaker_id.turns import Segment

ProfileFile = Annotated[Optional[Path], tyro.conf.arg(metavar="FILE", help="The profile file, if not the user's own.")]
ModelFile = Annotated[Optional[Path], tyro.conf.arg(metavar="FILE", help="A speaker model, if not the shipped one.")]
Json = Annotated[bool, tyro.conf.arg(help="Print one JSON object a line.")]


@dataclass
class Identify:
    """Say who speaks when in a recording, by the voices that are enrolled.

    A line says from when to when (seconds), who, and how alike the voices are (cosine); unknown is a voice that nobody
    enrolled.

    Example: streamdrnn identify meeting.wav --json
    """

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE", help="A WAV, FLAC, OGG or MP3 file.")]
    profiles: ProfileFile = None
    model: ModelFile = None
    threshold: Annotated[
        Optional[float],
        tyro.conf.arg(metavar="COSINE", help="Below it a voice is nobody's, if not as calibrated for the model."),
    ] = None
    json: Json = False

    def run(self) -> None:
        from streamdrnn.apps.speaker_id.identifier import Identifier
        from streamdrnn.apps.speaker_id.model import load_speaker_model, use_one_thread
        from streamdrnn.apps.speaker_id.profiles import ProfileStore, default_path
        from streamdrnn.audio import load_audio

        use_one_thread()
        model = load_speaker_model(self.model)
        path = self.profiles or default_path()
        voices = ProfileStore(path).voices(model.id)
        if not voices:
            raise ValueError(f"{path}: nobody is enrolled; first run: streamdrnn enroll NAME FILE")
        threshold = model.threshold if self.threshold is None else self.threshold
        identifier = Identifier(model.embedder, voices, threshold)
        samples = load_audio(self.file, model.sample_rate)
        for chunk in samples.split(model.sample_rate):
            for segment in identifier.push(chunk):
                self._print(segment)
        for segment in identifier.finish():
            self._print(segment)

    def _print(self, segment: "Segment") -> None:
        if self.json:
            print(json.dumps(segment._asdict(), ensure_ascii=False), flush=True)
        else:
            print(f"{segment.start:8.1f} {segment.end:8.1f}  {segment.label:<24} {segment.score:5.2f}", flush=True)


@dataclass
class Enroll:
    """Enrol a voice from recordings, or add recordings to it.

    Ten seconds of clear speech are good.

    Example: streamdrnn enroll "Anna Example" anna1.wav anna2.flac
    """

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME", help="Whose voice it is.")]
    files: Annotated[
        tyro.conf.Positional[list[Path]],
        tyro.conf.arg(metavar="FILE...", help="Recordings with nobody else's voice: WAV, FLAC, OGG or MP3."),
    ]
    profiles: ProfileFile = None
    model: ModelFile = None
    json: Json = False

    def run(self) -> None:
        from streamdrnn.apps.speaker_id.model import listen_to, load_speaker_model, use_one_thread
        from streamdrnn.apps.speaker_id.profiles import ProfileStore, default_path

        if not self.files:
            raise ValueError("files: expected one recording or more, got none")
        use_one_thread()
        model = load_speaker_model(self.model)
        recordings = [listen_to(path, model) for path in self.files]
        store = ProfileStore(self.profiles or default_path())
        store.add(self.name, model.id, recordings)
        profile = next(profile for profile in store.profiles() if profile.name == self.name)
        if self.json:
            print(json.dumps(profile._asdict(), ensure_ascii=False))
        else:
            print(f"{profile.name}: {profile.seconds:.1f} s of speech enrolled, in {store.path}")


@dataclass
class ListProfiles:
    """List the voices that are enrolled, or remove one.

    Example: streamdrnn profiles --remove "Anna Example"
    """

    remove: Annotated[Optional[str], tyro.conf.arg(metavar="NAME", help="Remove this voice.")] = None
    profiles: ProfileFile = None
    json: Json = False

    def run(self) -> None:
        from streamdrnn.apps.speaker_id.profiles import ProfileStore, default_path

        store = ProfileStore(self.profiles or default_path())
        if self.remove is not None:
            store.remove(self.remove)
        for profile in store.profiles():
            if self.json:
                print(json.dumps(profile._asdict(), ensure_ascii=False))
            else:
                print(f"{profile.name:<24} {profile.seconds:8.1f} s, recordings: {profile.recordings}")
        if not self.json and not store.profiles():
            print(f"nobody is enrolled in {store.path}")
