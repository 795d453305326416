"""Keeps what was heard, and who spoke."""

from pathlib import Path
from typing import TextIO

import torch

from streamdrnn.apps.speaker_id.session import Event, Summary
from streamdrnn.apps.speaker_id.sinks.json_lines import JsonLines
from streamdrnn.apps.speaker_id.sources.source import Chunk
from streamdrnn.errors import ResourceError

_SILENCE = 1 << 16


class Recorder:
    """Writes ``audio.flac`` and ``labels.jsonl`` in a folder, while they come in.

    What was lost is silent in the audio, so that the labels' times hold. Both files can be read up to their last
    moments if the program is killed. Where nothing comes, no file stays.

    Args:
        folder: is made where there is none.
        sample_rate: of the chunks.

    Raises:
        FileExistsError: there is a recording in it already.
        OSError: the files cannot be written.
    """

    def __init__(self, folder: Path, sample_rate: int) -> None:
        import soundfile

        folder.mkdir(parents=True, exist_ok=True)
        self._files = audio, labels = folder / "audio.flac", folder / "labels.jsonl"
        if audio.exists() or labels.exists():
            raise FileExistsError(f"{folder}: holds a recording already, expected a new folder")
        self._labels: TextIO = labels.open("x", encoding="utf-8")
        self._lines = JsonLines(self._labels)
        self._audio = soundfile.SoundFile(audio, "x", sample_rate, 1, "PCM_16", format="FLAC")

    def hear(self, chunk: Chunk) -> None:
        """Write the samples."""
        for lost in torch.zeros(chunk.lost).split(_SILENCE) if chunk.lost else ():
            self._write(lost)
        self._write(chunk.samples)

    def take(self, event: Event) -> None:
        """Write an event."""
        self._lines.take(event)

    def finish(self, summary: Summary) -> None:
        """Write the summary, and close the files."""
        self._lines.finish(summary)
        self._labels.close()
        nothing = not self._audio.frames
        self._audio.close()
        if nothing:
            for file in self._files:
                file.unlink()

    def _write(self, samples: torch.Tensor) -> None:
        import soundfile

        try:
            self._audio.write(samples.numpy())
        except soundfile.LibsndfileError as error:
            raise ResourceError(f"{self._audio.name}: cannot be written ({error.error_string})") from None
