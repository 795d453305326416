"""Microphones, by PortAudio."""

import time
from typing import Any, NamedTuple, Optional, Self, Union

from streamdrnn.apps.speaker_id.sources.source import BLOCK_SECONDS, LEAD_SECONDS, Source, SourceError
from streamdrnn.errors import installing

_SILENT_SECONDS = 3.0
"""A device from which nothing at all has come for so long is gone."""


class Device(NamedTuple):
    """An input device: its number, its name, the system that has it, its rate, and if it is the default."""

    number: int
    name: str
    system: str
    channels: int
    sample_rate: int
    default: bool


def devices() -> list[Device]:
    """The input devices.

    Raises:
        SourceError: PortAudio or its Python package is missing.
    """
    sounddevice = _sounddevice()
    default = sounddevice.default.device[0]
    systems = sounddevice.query_hostapis()
    return [
        Device(
            number,
            device["name"],
            systems[device["hostapi"]]["name"],
            device["max_input_channels"],
            round(device["default_samplerate"]),
            number == default,
        )
        for number, device in enumerate(sounddevice.query_devices())
        if device["max_input_channels"]
    ]


class MicrophoneSource(Source):
    """A microphone, at its native rate, its first channel.

    Args:
        device: a device's number, or a part of its name; None is the system's default.

    Attributes:
        overflows: how often the system lost samples before it gave them. How many it does not say: they are counted
            by the time that is missing, as one at least.

    Raises:
        SourceError: there is no such device, or none at all, or it cannot be opened.
    """

    def __init__(self, device: Optional[Union[int, str]] = None) -> None:
        sounddevice = _sounddevice()
        if device is None and not devices():
            raise SourceError("no microphone was found; see streamdrnn listen --list-devices")
        try:
            found = sounddevice.query_devices(device, "input")
        except (ValueError, sounddevice.PortAudioError) as error:
            wanted = "default microphone" if device is None else f"microphone {device!r}"
            raise SourceError(f"no {wanted} ({error}); see streamdrnn listen --list-devices") from None
        super().__init__(found["name"], round(found["default_samplerate"]))
        self.overflows = 0
        self._block_end = 0.0  # of the last block, by the device's clock
        self._heard = time.monotonic()
        self._begun = False
        try:
            self._stream: Any = sounddevice.InputStream(
                device=found["index"],
                channels=1,
                samplerate=self.sample_rate,
                blocksize=round(BLOCK_SECONDS * self.sample_rate),
                dtype="float32",
                latency="low",
                callback=self._callback,
                finished_callback=self._finished,
            )
        except sounddevice.PortAudioError as error:
            raise SourceError(f"microphone {self.name!r} cannot be opened ({error})") from None

    def __enter__(self) -> Self:
        self._heard = time.monotonic()
        try:
            self._stream.start()
        except _sounddevice().PortAudioError as error:
            self._stream.close(ignore_errors=True)
            raise SourceError(f"microphone {self.name!r} cannot be started ({error})") from None
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._stream.close(ignore_errors=True)

    def _callback(self, block: Any, frames: int, moments: Any, status: Any) -> None:
        import torch

        self._heard = time.monotonic()
        # How long ago its first sample was heard; some systems tell no time, or one of another clock.
        age = moments.currentTime - moments.inputBufferAdcTime
        last = age - frames / self.sample_rate
        captured = self._heard - (last if 0 < last < _SILENT_SECONDS else 0.0)
        lost = 0
        if status.input_overflow:
            self.overflows += 1
            missing = moments.inputBufferAdcTime - self._block_end if self._block_end else 0.0
            lost = max(1, round(min(missing, _SILENT_SECONDS) * self.sample_rate))
        self._block_end = moments.inputBufferAdcTime + frames / self.sample_rate
        samples = torch.from_numpy(block[:, 0].copy())
        if not self._begun:  # hearing begins within the first block: nothing of it is lost
            self._begun, samples = True, samples[-round(LEAD_SECONDS * self.sample_rate) :]
        self.push(samples, captured, lost)

    def _finished(self) -> None:
        self.end(self._gone("it stopped"))

    def _gone(self, how: str) -> SourceError:
        return SourceError(f"microphone {self.name!r} was lost ({how}); was it unplugged?")

    def _wait(self) -> None:
        if not self._changed.wait(0.5) and time.monotonic() - self._heard > _SILENT_SECONDS and not self._ended:
            self._ended, self._error = True, self._gone(f"nothing came for {_SILENT_SECONDS:g} s")


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError:
        raise SourceError(f"a microphone needs sounddevice: {installing('live')}") from None
    except OSError:
        raise SourceError("a microphone needs PortAudio (on Debian and Ubuntu: apt install libportaudio2)") from None
    return sounddevice
