"""`streamdrnn listen`: who speaks, live."""

import contextlib
import logging
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import tyro

from streamdrnn.apps.port import check_port
from streamdrnn.apps.speaker_id.commands.options import (
    Channel,
    Channels,
    DeviceName,
    Json,
    Learn,
    ModelFile,
    ProfileFile,
    Rate,
    Threshold,
    Unknown,
    chosen_threshold,
    keep_heard,
    microphone,
    profile_store,
    recording,
    speaker_model,
)
from streamdrnn.apps.speaker_id.sources.quiet import quiet_libraries
from streamdrnn.errors import InputError, installing

if TYPE_CHECKING:
    from streamdrnn.apps.speaker_id.conversation import Conversation
    from streamdrnn.apps.speaker_id.model import SpeakerModel
    from streamdrnn.apps.speaker_id.profiles import ProfileStore
    from streamdrnn.apps.speaker_id.session import Session, Sink
    from streamdrnn.apps.speaker_id.sources.source import Source
    from streamdrnn.apps.speaker_id.terminal.app import ListenApp


@dataclass
class Listen:
    """Say who speaks, while they speak.

    Listens to the microphone, to a recording, to standard input, or with --web to a browser's microphone. On a
    terminal it is a screen, whose keys enrol a voice (e), begin afresh (r) and quit (q). Elsewhere a line says, every
    second and when it changes, who speaks now, how probable each voice is, and how like (cosine). "(listening)" is too
    little speech to tell, "(unknown)" a voice that nobody enrolled. Ctrl-C ends it with a summary.

    Example: streamdrnn listen --record monday
    """

    source: Annotated[
        tyro.conf.Positional[Optional[str]],
        tyro.conf.arg(
            metavar="FILE",
            help="A recording; - is standard input: a recording, or raw samples (signed 16-bit, little-endian); none "
            "is the microphone.",
        ),
    ] = None
    device: DeviceName = None
    list_devices: Annotated[bool, tyro.conf.arg(help="List the microphones instead.")] = False
    realtime: Annotated[bool, tyro.conf.arg(help="Hear a file at the pace of speech, not as fast as possible.")] = False
    rate: Rate = None
    channels: Channels = None
    channel: Channel = None
    seconds: Annotated[Optional[float], tyro.conf.arg(metavar="S", help="Stop after so much sound.")] = None
    record: Annotated[
        Optional[Path], tyro.conf.arg(metavar="FOLDER", help="Keep the audio and the labels in a new folder.")
    ] = None
    web: Annotated[
        bool, tyro.conf.arg(help="Serve a page to this machine's browsers, which listen to their microphones.")
    ] = False
    local: Annotated[
        bool, tyro.conf.arg(help="With --web: the page computes everything, and no sound leaves the browser.")
    ] = False
    port: Annotated[int, tyro.conf.arg(metavar="N", help="Of the page.")] = 8765
    profiles: ProfileFile = None
    model: ModelFile = None
    threshold: Threshold = None
    unknown: Unknown = "one"
    learn: Learn = False
    json: Json = False

    @quiet_libraries()
    def run(self) -> None:
        if self.list_devices:
            self._list_devices()
            return
        if self.seconds is not None and not self.seconds > 0:
            raise InputError(f"seconds: expected more than 0, got {self.seconds:g}")
        check_port(self.port)
        if self.web and (self.source is not None or self.device is not None or self.record is not None or self.json):
            raise InputError("--web: a page has its own microphone, expected no file, --device, --record or --json")
        if self.web and self.unknown != "one":
            raise InputError("--web: the page numbers nobody, expected no --unknown")
        if self.web and self.learn:
            raise InputError("--web: the page learns nothing by itself, expected no --learn")
        if self.local and not self.web:
            raise InputError("--local: expected --web with it")
        # First: the rest takes seconds to load, and there may be no microphone.
        source = None if self.web else self._source()
        from streamdrnn.apps.speaker_id.conversation import Conversation
        from streamdrnn.apps.speaker_id.model import use_one_thread
        from streamdrnn.apps.speaker_id.session import Session
        from streamdrnn.apps.speaker_id.sinks.recorder import Recorder

        use_one_thread()
        threshold = chosen_threshold(self.threshold)
        store = profile_store(self.profiles)
        model = speaker_model(self.model, store)
        if source is None:
            self._serve(model, store, threshold)
            return
        voices = store.voices(model.id)
        sinks: list[Sink] = []
        if self.record is not None:
            sinks.append(Recorder(self.record, source.sample_rate))
        if not voices:
            print(f"{store.path}: nobody is enrolled, so every voice is unknown", file=sys.stderr)
        if sys.stdin.isatty() and sys.stdout.isatty() and not self.json and find_spec("textual"):
            conversation = Conversation(
                model,
                store,
                threshold,
                source.sample_rate,
                number_strangers=self.unknown != "one",
                learn=self.learn,
            )
            self._show(source, conversation, sinks)
            identifier = conversation.identifier
        else:
            session = Session(model, voices, threshold, source.sample_rate, self.unknown != "one", self.learn)
            self._print(source, session, sinks)
            identifier = session.identifier
        keep_heard(identifier, store, model, self.unknown)

    def _print(self, source: "Source", session: "Session", sinks: "list[Sink]") -> None:
        from streamdrnn.apps.speaker_id.session import listen
        from streamdrnn.apps.speaker_id.sinks.json_lines import JsonLines
        from streamdrnn.apps.speaker_id.sinks.lines import Lines

        out = JsonLines(sys.stdout) if self.json else Lines(sys.stdout)
        print(f"listening to {source.name} at {source.sample_rate} Hz", file=sys.stderr, flush=True)
        with contextlib.suppress(KeyboardInterrupt):  # the usual end
            listen(source, session, [*sinks, out], self.seconds)

    def _show(self, source: "Source", conversation: "Conversation", sinks: "list[Sink]") -> None:
        from streamdrnn.apps.speaker_id.sinks.lines import Lines
        from streamdrnn.apps.speaker_id.terminal.app import ListenApp

        app = ListenApp(source, conversation, sinks, self.seconds)
        warnings = _Notices(app)
        logging.getLogger("streamdrnn").addHandler(warnings)
        app.run()
        logging.getLogger("streamdrnn").removeHandler(warnings)
        if app.summary is not None:
            Lines(sys.stdout).finish(app.summary)
        if app.error is not None:
            raise app.error

    def _serve(self, model: "SpeakerModel", store: "ProfileStore", threshold: float) -> None:
        try:
            from streamdrnn.apps.speaker_id.web.server import make_app, make_local_app, serve
        except ModuleNotFoundError as error:
            raise InputError(f"--web: {error}; {installing('live')}") from None
        from streamdrnn.apps.speaker_id.model import asset

        if self.local:
            file = self.model or asset("speaker.safetensors")
            serve(make_local_app(model, file, store, threshold), self.port)
        else:
            serve(make_app(model, store, threshold), self.port)

    def _source(self) -> "Source":
        if self.source is not None:
            if self.device is not None:
                raise InputError(f"--device: expected without a recording, got {self.source}")
            return recording(self.source, self.rate, self.channels, self.channel, self.realtime)
        for option in ("realtime", "rate", "channels", "channel"):
            if getattr(self, option) not in (None, False):
                raise InputError(f"--{option}: expected with a recording, not with a microphone")
        return microphone(self.device)

    def _list_devices(self) -> None:
        import json

        from streamdrnn.apps.speaker_id.sources.microphone import devices

        found = devices()
        for device in found:
            if self.json:
                print(json.dumps(device._asdict(), ensure_ascii=False))
            else:
                mark = "*" if device.default else " "
                print(f"{mark} {device.number:3d}  {device.name}, {device.system}, {device.sample_rate} Hz")
        if not found and not self.json:
            print("no microphone was found")


class _Notices(logging.Handler):
    """Shows on the screen what would else be a line on standard error."""

    def __init__(self, app: "ListenApp") -> None:
        super().__init__(logging.WARNING)
        self._app = app

    def emit(self, record: logging.LogRecord) -> None:
        self._app.notify(record.getMessage(), severity="warning", timeout=15, markup=False)
