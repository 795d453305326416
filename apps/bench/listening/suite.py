"""How late `streamdrnn listen` is, what it takes, and what carrying the state forward saves it."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import soundfile
import torch
from torch import Tensor

from streamdrnn.apps.bench.listening.process import Heard, listen
from streamdrnn.apps.bench.listening.windows import embeddings
from streamdrnn.apps.bench.machine import one_thread
from streamdrnn.apps.bench.tables import Row, Say, Table, Value
from streamdrnn.apps.speaker_id.ear import Ear
from streamdrnn.apps.speaker_id.enrolment import listen_to
from streamdrnn.apps.speaker_id.identifier import Identifier
from streamdrnn.apps.speaker_id.model import SpeakerModel, asset, load_speaker_model
from streamdrnn.apps.speaker_id.profiles import ProfileStore
from streamdrnn.audio import load_audio
from streamdrnn.errors import InputError

MIB = 2**20
PERCENTILES = (50, 95, 99)
VOICES = ("heather", "paul", "deborah", "anders")
"""The demo's, of whose conversation the sound is made."""


class ListenSizes(NamedTuple):
    """What is heard.

    Attributes:
        live: seconds of sound at the pace of speech.
        fast: seconds of sound as fast as they can be heard.
        windows: how many times the embedding of a window is computed in each way.
    """

    live: int
    fast: int
    windows: int


LISTEN = ListenSizes(60, 3600, 200)
QUICK_LISTEN = ListenSizes(3, 6, 3)


def measure(sizes: ListenSizes, say: Say) -> list[Table]:
    """Hear the demo's conversation over and over, live and as fast as possible.

    Raises:
        ValueError: sound was lost, or what was heard is not what the model says offline.
    """
    model = load_speaker_model()
    sound = load_audio(asset("conversation.flac"), model.sample_rate)
    with one_thread(), TemporaryDirectory() as folder:
        say("listen: embeddings of windows")
        windows = embeddings(model.embedder, sound, sizes.windows)
        profiles = Path(folder, "profiles.sqlite3")
        for name in VOICES:
            ProfileStore(profiles).add(name.title(), model.id, [listen_to(asset(f"{name}.flac"), model)])
        rows = [
            live(model, sound, sizes.live, profiles, say),
            fast(model, sound, min(sizes.live, sizes.fast), sizes.fast, profiles, say),
        ]
    return [
        Table(
            "listen",
            "streamdrnn listen --json, in a process of its own",
            rows,
            (
                "From sound to label: from the first sample of a tenth of a second being heard to the judgement of it; "
                "0.1 s is waiting for it to be whole. Cores and memory: from the first report on; memory at a tenth of "
                "the sound and at its end. Four voices are enrolled. The segments are those of the sound offline, "
                "to the last digit.",
            ),
        ),
        windows,
    ]


def live(model: SpeakerModel, sound: Tensor, seconds: int, profiles: Path, say: Say) -> Row:
    """A file at the pace of speech."""
    say(f"listen: {seconds} s at the pace of speech")
    pcm = repeated(sound, seconds * model.sample_rate)
    path = profiles.with_name("conversation.flac")
    soundfile.write(path, pcm, model.sample_rate)
    heard = listen([str(path), "--realtime"], profiles, None)
    check_heard("live", heard, pcm, model, profiles)
    late = {f"p{percent}_ms": 1e3 * heard.events[-1][f"p{percent}"] for percent in PERCENTILES}
    return row(f"{seconds} s at their own pace", late, heard)


def fast(model: SpeakerModel, sound: Tensor, checked: int, seconds: int, profiles: Path, say: Say) -> Row:
    """A pipe as fast as it is heard; of the decisions those of the first seconds are checked."""
    say(f"listen: {seconds} s as fast as possible")
    pcm = repeated(sound, seconds * model.sample_rate)
    heard = listen(["-"], profiles, pcm)
    check_heard("fast", heard, pcm[: checked * model.sample_rate], model, profiles)
    late = dict.fromkeys(f"p{percent}_ms" for percent in PERCENTILES)  # of a sound that waits it says nothing
    return row(f"{seconds} s as fast as possible", late, heard)


def repeated(sound: Tensor, samples: int) -> np.ndarray:
    """So much of a sound ``(N,)`` over and over, as int16."""
    pcm = (sound * 32768).round().clamp(-32768, 32767).to(torch.int16).numpy()
    return np.resize(pcm, samples)


def check_heard(what: str, heard: Heard, pcm: np.ndarray, model: SpeakerModel, profiles: Path) -> None:
    """Raise unless nothing was lost, and the decisions are those of the sound offline, as far as that is given.

    Raises:
        ValueError: something was lost, or decided otherwise.
    """
    summary = heard.events[-1]
    if summary["dropped"]:
        lost = f"{summary['dropped']:.1f} s of sound were lost"
        raise InputError(f"listen, {what}: {lost}, as something else keeps this machine busy")
    ear = Ear(model.embedder)
    identifier = Identifier(model, ProfileStore(profiles).voices(model.id))
    expected = identifier.hear(ear.push(torch.from_numpy(pcm.astype(np.float32) / 32768)))
    if summary["seconds"] == ear.seconds:
        expected += identifier.hear(ear.finish()) + identifier.finish(ear.seconds)
    wanted = [{"event": "segment", **segment.as_object()} for segment in expected]
    if heard.segments[: len(wanted)] != wanted:
        raise ValueError(f"listen, {what}: other segments than those of the sound offline")


def row(sound: str, late: Mapping[str, Value], heard: Heard) -> Row:
    """What one process took."""
    reports = [event["time"] for event in heard.events if event["event"] == "report"]
    resident = [size / MIB for size in heard.resident]
    return {
        "sound": sound,
        **late,
        "cores": heard.cores,
        "times_real_time": (reports[-1] - reports[0]) / heard.seconds,
        "resident_at_a_tenth_mib": resident[len(resident) // 10] if resident else None,
        "resident_at_the_end_mib": resident[-1] if resident else None,
    }
