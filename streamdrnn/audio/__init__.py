"""Audio: files, resampling, and the front-ends that turn samples into features while they come in."""

from streamdrnn.audio.files import AudioFileError, AudioReader, load_audio, stream_audio
from streamdrnn.audio.frontends import MFCC, FrontEnd, LogMel, RawWaveform
from streamdrnn.audio.resample import StreamingResampler
from streamdrnn.audio.state import AudioState

__all__ = [
    "MFCC",
    "AudioFileError",
    "AudioReader",
    "AudioState",
    "FrontEnd",
    "LogMel",
    "RawWaveform",
    "StreamingResampler",
    "load_audio",
    "stream_audio",
]
