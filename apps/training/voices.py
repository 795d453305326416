"""The corpora of voices that the speaker model is trained and judged on, in one layout.

A corpus has speakers, a speaker has sessions (a call, a chapter, a visit to a studio), a session has utterances.
"""

import json
import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import max_pool1d

from streamdrnn.apps.speaker_id.model import asset
from streamdrnn.audio import load_audio
from streamdrnn.audio.files import is_audio
from streamdrnn.errors import InputError

RATE = 16000


class Corpus(NamedTuple):
    """A set of recordings of many speakers.

    Attributes:
        folder: in the data folder; below it lie ``<speaker>/<utterance>``, or with ``name`` files at any depth.
        title: for people.
        licence: of its recordings.
        source: where it is from.
        name: matches the path of an utterance below the folder; its groups ``speaker`` and ``session`` say whose it
            is and when it was recorded. Without a session all that a speaker said is one.
        is_telephone: whether it was recorded over telephones.
    """

    folder: str
    title: str
    licence: str
    source: str
    name: str = r"(?P<speaker>[^/]+)/[^/]+"
    is_telephone: bool = False


CORPORA = {
    "librispeech": Corpus(
        "librispeech", "books read aloud in English", "CC BY 4.0",
        "openslr.org/12 (train-clean-100, one utterance of each speaker)",
        r"(?:.*/)?(?P<speaker>\d+)-(?P<session>\d+)-\d+\.flac",
    ),
    "speechocean762": Corpus(
        "voices/speechocean762", "English sentences by adults and children from China",
        "free for any use by its README (CC BY 4.0 as remembered; to be verified before a release)",
        "github.com/jimbozhang/speechocean762",
    ),
    "dspspeech20": Corpus(
        "voices/dspspeech20", "Chinese and English words over a web page", "MIT", "github.com/zhongyuchen/DSPSpeech-20"
    ),
    "arabic_sc": Corpus(
        "voices/arabic_sc", "Arabic words", "CC BY 4.0", "github.com/abdulkaderghandoura/arabic-speech-commands-dataset"
    ),
    "wuw2": Corpus(
        "voices/wuw2", "telephone calls in English", "CC BY-SA 4.0 (share-alike)",
        "github.com/wake-up-word/wuw-corpus-ii",
        r"(?P<speaker>[^/]+)/(?P<session>[^/_]+)_[^/]+", is_telephone=True,
    ),
}  # fmt: skip
"""By the names that options and tables use."""


class Voice(NamedTuple):
    """What one speaker of a corpus said.

    Attributes:
        corpus: its name in ``CORPORA``.
        speaker: the speaker's name there.
        sessions: by name, the utterances ``(N,)`` int16 at 16 kHz in order of their names.
    """

    corpus: str
    speaker: str
    sessions: dict[str, list[Tensor]]

    @property
    def samples(self) -> int:
        """How many there are."""
        return sum(len(utterance) for session in self.sessions.values() for utterance in session)


def training_voices(data_dir: Path, corpora: Collection[str] = tuple(CORPORA)) -> list[Voice]:
    """The speakers that models are trained and judged on: all but those whom the demo presents as never heard.

    Raises:
        FileNotFoundError, ValueError: as :func:`load_voices`.
    """
    kept, found = demo_readers(), load_voices(data_dir, corpora)
    return [voice for voice in found if voice.corpus != "librispeech" or voice.speaker not in kept]


def demo_readers() -> frozenset[str]:
    """The numbers in LibriSpeech of those whom the demo presents as never heard."""
    return frozenset(json.loads(asset("demo.json").read_text(encoding="utf-8"))["speakers"])


def load_voices(data_dir: Path, corpora: Collection[str] = tuple(CORPORA)) -> list[Voice]:
    """All speakers of some corpora, by corpus and name.

    Raises:
        FileNotFoundError: a corpus is not there.
        ValueError: a recording cannot be read.
    """
    found: list[tuple[str, str, str, Path]] = []
    for corpus in corpora:
        found += _find(data_dir, corpus)
    with ThreadPoolExecutor() as threads:
        recordings = threads.map(lambda one: _int16(load_audio(one[3], RATE)), found)
        sessions: dict[tuple[str, str], dict[str, list[Tensor]]] = defaultdict(lambda: defaultdict(list))
        for (corpus, speaker, session, _), samples in zip(found, recordings, strict=True):
            sessions[corpus, speaker][session].append(samples)
    return [Voice(*whose, dict(said)) for whose, said in sessions.items()]


def _find(data_dir: Path, corpus: str) -> list[tuple[str, str, str, Path]]:
    root, name = data_dir / CORPORA[corpus].folder, re.compile(CORPORA[corpus].name)
    paths = [path for path in root.rglob("*") if is_audio(path)]
    matches = [(name.fullmatch(path.relative_to(root).as_posix()), path) for path in paths]
    found = [(m["speaker"], m.groupdict().get("session") or "1", path) for m, path in matches if m]
    if not found:
        raise FileNotFoundError(f"{root}: no recordings of {corpus}, expected {CORPORA[corpus].name}")
    return [(corpus, *one) for one in sorted(found)]


def _int16(samples: Tensor) -> Tensor:
    return (samples * 32768).round().clamp(-32768, 32767).to(torch.int16)


def fold_of(voices: Sequence[Voice], folds: int) -> list[int]:
    """The fold of each voice: corpora, which lie together, are dealt out evenly.

    Raises:
        ValueError: there are fewer voices than folds.
    """
    if len(voices) < folds:
        raise InputError(f"folds: expected at most {len(voices)}, as many as there are voices, got {folds}")
    dealt: dict[str, int] = defaultdict(int)
    found = []
    for voice in voices:
        found.append(dealt[voice.corpus] % folds)
        dealt[voice.corpus] += 1
    return found


def in_random_order(session: Sequence[Tensor], seed: int = 0) -> list[Tensor]:
    """A session's utterances in another order: in that of their names, one word follows another of itself."""
    order = torch.randperm(len(session), generator=torch.Generator().manual_seed(seed))
    return [session[i] for i in order.tolist()]


def float32(samples: Tensor) -> Tensor:
    """Samples int16 as the numbers from -1 to 1 that models take."""
    return samples.float() / 32768


_FRAME = 320
_BELOW_SPEECH = 30.0
_KEPT_AROUND = 3


def without_pauses(utterance: Tensor) -> Tensor:
    """The part of an utterance ``(N,)`` int16 whose level is within 30 dB of its loud parts, and 60 ms around it."""
    frames = utterance[: len(utterance) // _FRAME * _FRAME].view(-1, _FRAME)
    if not len(frames):
        return utterance
    level = 10 * torch.log10(float32(frames).square().mean(1) + 1e-10)
    loud = (level > level.quantile(0.95) - _BELOW_SPEECH).float()
    kept = max_pool1d(loud[None, None], 2 * _KEPT_AROUND + 1, 1, _KEPT_AROUND)[0, 0] > 0
    return frames[kept].flatten()


def cut(session: Sequence[Tensor], seconds: float) -> list[Tensor]:
    """A session's utterances one after the other, cut into segments ``(N,)`` of so many seconds; the rest is left."""
    length = round(seconds * RATE)
    return [piece for piece in torch.cat(list(session)).split(length) if len(piece) == length]
