"""Makes the demo's recordings from LibriSpeech: python -m streamdrnn.apps.training.demo_recording DATA FOLDER.

The turns are from the part of each utterance that the shipped model's training held back. The enrolments are
from the part that it heard.
"""

import json
import sys
from pathlib import Path

import soundfile
import torch
from torch import Tensor

from streamdrnn.apps.training.data import librispeech
from streamdrnn.apps.training.embedder import TRAIN_SHARE
from streamdrnn.apps.training.embedder_scores import cut
from streamdrnn.audio import load_audio

RATE = 16000
READERS = {
    "Heather": ("198", "Heather Barnett"),
    "Paul": ("8770", "Paul Simonin"),
    "Deborah": ("6064", "Deborah Knight"),
    "Anders": ("3436", "Anders Lankford"),
    "Craig": ("3374", "Craig Campbell"),
}
"""Name in the demo, and LibriSpeech's speaker number and reader."""
ORDER = ("Heather", "Paul", "Deborah", "Anders", "Paul", "Craig", "Heather", "Anders", "Deborah")
GUEST = "Craig"
"""A voice that is heard and not enrolled."""
ENROLMENT_SECONDS = 5.0
TURN_SECONDS = 2.4
PAUSE_SECONDS = 0.2


def make_demo(librispeech_folder: Path, folder: Path) -> None:
    """Write the conversation, the enrolments, and ``demo.json``, which says who really speaks when."""
    paths = {utterance.speaker: utterance.path for utterance in librispeech(librispeech_folder)}
    parts = {name: cut(load_audio(paths[number], RATE), TRAIN_SHARE) for name, (number, _) in READERS.items()}
    turn, pause = round(TURN_SECONDS * RATE), torch.zeros(round(PAUSE_SECONDS * RATE))
    used = dict.fromkeys(READERS, 0)
    pieces: list[Tensor] = []
    turns: list[dict[str, object]] = []
    for name in ORDER:
        start = sum(len(piece) for piece in pieces) / RATE
        pieces += [parts[name].test[used[name] : used[name] + turn], pause]
        used[name] += turn
        end = start + len(pieces[-2]) / RATE
        turns.append({"start": start, "end": end, "speaker": None if name == GUEST else name})
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "conversation.flac", torch.cat(pieces[:-1]))
    voices = []
    for name in READERS:
        if name != GUEST:
            file = f"{name.lower()}.flac"
            _write(folder / file, parts[name].enrolment[: round(ENROLMENT_SECONDS * RATE)])
            voices.append({"name": name, "file": file})
    readers = [f"{reader} ({paths[number].stem})" for number, reader in READERS.values()]
    script = {
        "source": "LibriSpeech ASR corpus, V. Panayotov, G. Chen, D. Povey, S. Khudanpur, 2015; openslr.org/12",
        "license": "CC BY 4.0, creativecommons.org/licenses/by/4.0",
        "changes": "cut, and joined with pauses",
        "readers": readers,
        "file": "conversation.flac",
        "voices": voices,
        "turns": turns,
    }
    (folder / "demo.json").write_text(json.dumps(script, indent=2) + "\n", encoding="utf-8")


def _write(path: Path, samples: Tensor) -> None:
    soundfile.write(path, samples.numpy(), RATE, subtype="PCM_16", format="FLAC")


if __name__ == "__main__":
    make_demo(Path(sys.argv[1]), Path(sys.argv[2]))
