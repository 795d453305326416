"""`streamdrnn enroll`: a voice from recordings, or from the microphone."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from streamdrnn.apps.speaker_id.commands.options import (
    Channel,
    DeviceName,
    Json,
    ModelFile,
    ProfileFile,
    microphone,
    profile_store,
)
from streamdrnn.apps.speaker_id.sources.quiet import quiet_libraries
from streamdrnn.errors import InputError

if TYPE_CHECKING:
    from streamdrnn.apps.speaker_id.enrolment import Progress
    from streamdrnn.apps.speaker_id.model import SpeakerModel
    from streamdrnn.apps.speaker_id.profiles import Recording
    from streamdrnn.apps.speaker_id.sources.source import Source


@dataclass
class Enroll:
    """Enrol a voice from recordings or the microphone, or add to it.

    Without files it listens to the microphone until it has heard enough clear speech; Ctrl-C, or a microphone that is
    unplugged, keeps what there is by then.

    Example: streamdrnn enroll "Anna Example" anna1.wav anna2.flac
    """

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME", help="Whose voice it is.")]
    files: Annotated[
        tyro.conf.Positional[list[Path]],
        tyro.conf.arg(metavar="[FILE...]", help="Recordings with nobody else's voice."),
    ]
    channel: Channel = None
    device: DeviceName = None
    seconds: Annotated[
        float, tyro.conf.arg(metavar="S", help="From the microphone: the clear speech that is enough.")
    ] = 10.0
    profiles: ProfileFile = None
    model: ModelFile = None
    json: Json = False

    @quiet_libraries()
    def run(self) -> None:
        if self.files and self.device is not None:
            raise InputError("--device: expected without recordings")
        if self.channel is not None and not self.files:
            raise InputError("--channel: expected with recordings, not with a microphone")
        # First: the rest takes seconds to load, and there may be no microphone.
        source = None if self.files else microphone(self.device)
        from streamdrnn.apps.speaker_id.enrolment import MIN_SECONDS, likenesses, listen_to
        from streamdrnn.apps.speaker_id.model import load_speaker_model, use_one_thread
        from streamdrnn.apps.speaker_id.profiles import clean_name

        name = clean_name(self.name)
        if not MIN_SECONDS <= self.seconds <= 600:
            raise InputError(f"seconds: expected {MIN_SECONDS:g} to 600, got {self.seconds:g}")
        use_one_thread()
        model = load_speaker_model(self.model)
        store = profile_store(self.profiles)
        store.check_model(name, model.id)  # before anybody has spoken for ten seconds
        recordings = (
            [self._record(source, model)] if source else [listen_to(path, model, self.channel) for path in self.files]
        )
        warnings = [
            warning
            for recording in recordings
            for warning in (*recording.warnings, *likenesses(model, name, recording, store))
        ]
        name = store.add(name, model.id, recordings)
        profile = next(profile for profile in store.profiles() if profile.name == name)
        for warning in warnings:
            print(f"warning: {warning}", file=sys.stderr)
        if self.json:
            print(json.dumps({**profile._asdict(), "warnings": warnings}, ensure_ascii=False))
        else:
            print(f"{profile.name}: {profile.seconds:.1f} s of speech enrolled, in {store.path}")

    def _record(self, source: "Source", model: "SpeakerModel") -> "Recording":
        from streamdrnn.apps.speaker_id.enrolment import Enrolment, record
        from streamdrnn.apps.speaker_id.sources.source import SourceError

        print(f"speak now; listening to {source.name}", file=sys.stderr, flush=True)
        meter = _Meter(self.seconds)
        enrolment = Enrolment(model)
        try:
            record(source, model, enrolment, self.seconds, meter.show)
            meter.end("that is enough, thank you")
        except KeyboardInterrupt:
            meter.end("stopped")
        except SourceError as error:
            meter.end(str(error))  # what was heard until then is kept
        return enrolment.finish()


class _Meter:
    """Shows how loud it is and how much has been heard: in place on a terminal, else a line for each second."""

    _WIDTH = 24
    _FLOOR = -60.0

    def __init__(self, enough: float) -> None:
        self._enough = enough
        self._live = sys.stderr.isatty()
        self._shown = -1.0

    def show(self, progress: "Progress") -> None:
        """Show how far it is."""
        if not self._live and progress.seconds < self._shown + 1:
            return
        self._shown = progress.seconds
        filled = round(self._WIDTH * min(max(1 - progress.level / self._FLOOR, 0), 1))
        bar = "#" * filled + "." * (self._WIDTH - filled)
        remark = "too loud" if progress.clipped else "speech" if progress.speaking else ""
        line = f"[{bar}] {progress.seconds:4.1f} of {self._enough:g} s of clear speech  {remark:<8}"
        print(f"\r{line}" if self._live else line, end="" if self._live else "\n", file=sys.stderr, flush=True)

    def end(self, words: str) -> None:
        """Close the line."""
        print(f"{chr(10) if self._live else ''}{words}", file=sys.stderr, flush=True)
