"""A recording as a source."""

import time
from pathlib import Path
from typing import Any

from streamdrnn.apps.speaker_id.sources.source import ThreadedSource, pace
from streamdrnn.errors import InputError

_CHUNK_SECONDS = 0.02


class FileSource(ThreadedSource):
    """A WAV, FLAC, OGG or MP3 file, read bit by bit; channels are averaged.

    Args:
        path: the file.
        realtime: at the pace of speech, dropping what a late listener leaves; else as fast as it is listened to.

    Raises:
        FileNotFoundError: there is no such file.
        AudioFileError: it is no audio file that can be read.
    """

    def __init__(self, path: Path, realtime: bool = False) -> None:
        from streamdrnn.audio.files import AudioFileError

        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
        import soundfile

        # By its content, not by its name.
        self._bytes = path.open("rb")
        try:
            self._file = soundfile.SoundFile(self._bytes)
        except soundfile.LibsndfileError as error:
            self._bytes.close()
            raise AudioFileError(f"{path}: damaged, or no audio file ({error.error_string})") from None
        super().__init__(str(path), self._file.samplerate)
        self._realtime = realtime

    def capture(self) -> None:
        import torch

        started, read = time.monotonic(), 0
        with self._bytes, self._file:
            while len(block := self._read()):
                read += len(block)
                captured = pace(started, read / self.sample_rate) if self._realtime else None
                samples = torch.from_numpy(block).mean(1)
                if not torch.isfinite(samples).all():
                    raise InputError(f"{self.name}: has NaN or infinite samples")
                if not self.push(samples, captured, wait=not self._realtime):
                    return

    def _read(self) -> Any:
        import soundfile

        from streamdrnn.audio.files import AudioFileError

        try:
            return self._file.read(round(_CHUNK_SECONDS * self.sample_rate), dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise AudioFileError(f"{self.name}: damaged ({error.error_string})") from None
