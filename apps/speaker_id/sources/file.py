"""A recording as a source, from a file or a pipe."""

import os
import time
from typing import TYPE_CHECKING, BinaryIO, Optional, Union

from streamdrnn.apps.speaker_id.sources.source import BLOCK_SECONDS, LEAD_SECONDS, ThreadedSource, pace

if TYPE_CHECKING:
    from streamdrnn.audio.decoding import Raw

_FAST_BLOCK_SECONDS = 0.5


class FileSource(ThreadedSource):
    """A recording in any format that :class:`~streamdrnn.audio.files.AudioReader` decodes, in constant memory.

    Nothing of a pipe is dropped: a listener that is late makes the program wait that writes to it.

    Args:
        recording: a file or a named pipe; or a pipe, such as ``sys.stdin.buffer``.
        realtime: at the pace of speech, dropping what a late listener leaves; else as fast as it is listened to.
        channel: the one to take, from 1 on; None averages them.
        raw: the kind of samples that it has if it begins like no known format.

    Attributes:
        seconds: the recording's length; None if it is not known.

    Raises:
        FileNotFoundError: there is no such file.
        AudioFileError: it is no audio file that can be read, or it has no such channel.
        ValueError: its rate is out of range.
    """

    def __init__(
        self,
        recording: Union[str, os.PathLike[str], BinaryIO],
        realtime: bool = False,
        channel: Optional[int] = None,
        raw: "Optional[Raw]" = None,
    ) -> None:
        from streamdrnn.audio.files import AudioReader

        self._reader = AudioReader(recording, channel, raw)
        super().__init__(self._reader.name, self._reader.sample_rate)
        self.seconds = self._reader.seconds
        self._realtime = realtime

    def capture(self) -> None:
        started, read = time.monotonic(), 0
        live = self._reader.live
        seconds, first = (BLOCK_SECONDS, LEAD_SECONDS) if live or self._realtime else (_FAST_BLOCK_SECONDS, None)
        with self._reader:
            for block in self._reader.blocks(seconds, first):
                read += len(block)
                if self._realtime:
                    captured: Optional[float] = pace(started, read / self.sample_rate)
                else:
                    captured = time.monotonic() if live else None
                if not self.push(block, captured, wait=not self._realtime):
                    return
