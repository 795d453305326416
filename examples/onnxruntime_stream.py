"""Is it the same voice? A live stream on onnxruntime; it needs that, NumPy, and nothing else.

    streamdrnn export speaker --format onnx --out speaker.onnx
    python onnxruntime_stream.py speaker.onnx one.wav another.wav

:class:`Stream` runs every model that ``streamdrnn export --format onnx`` wrote.
"""

import argparse
import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


class Stream:
    """B streams of an exported model.

    Args:
        path: the name that was exported to; ``x.onnx`` stands for ``x.step.onnx`` and ``x.chunk.onnx``.
        batch_size: B.

    Attributes:
        description: what the file says of its model.
        state: what the streams carry, by name; it can be copied, kept, and put back.
    """

    def __init__(self, path: Path, batch_size: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # in steps this small threads would only wait for one another
        self._sessions = {
            entry_point: onnxruntime.InferenceSession(
                path.with_suffix(f".{entry_point}.onnx"), options, providers=["CPUExecutionProvider"]
            )
            for entry_point in ("step", "chunk")
        }
        properties = self._sessions["step"].get_modelmeta().custom_metadata_map
        self.description: dict[str, Any] = json.loads(properties["streamdrnn.json"])
        self.state = {
            name: np.full([batch_size if size == "batch" else size for size in t["shape"]], t["initial"], t["dtype"])
            for name, t in self.description["state"].items()
        }

    def step(self, x: np.ndarray) -> np.ndarray:
        """One step: ``(B, ...)`` to ``(B, ...)``."""
        return self._run("step", x)

    def chunk(self, x: np.ndarray) -> np.ndarray:
        """T steps at once: ``(T, B, ...)`` to ``(T, B, ...)``, T >= 1."""
        return self._run("chunk", x)

    def _run(self, entry_point: str, x: np.ndarray) -> np.ndarray:
        y, *after = self._sessions[entry_point].run(
            ["y", *(f"next.{name}" for name in self.state)], {"x": x, **self.state}
        )
        self.state = dict(zip(self.state, after, strict=True))
        return y


def read_wav(path: Path, sample_rate: int) -> np.ndarray:
    """The samples ``(N,)`` float32 of a 16 bit WAV file, its channels averaged."""
    with wave.open(str(path)) as file:
        if file.getsampwidth() != 2 or file.getframerate() != sample_rate:
            raise SystemExit(f"{path}: expected 16 bit samples at {sample_rate} Hz")
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())
    return samples.mean(1, dtype=np.float32) / 32768


def voice(model: Path, recording: Path) -> np.ndarray:
    """The embedding of a recording: its first second at once, the rest as it would come from a microphone."""
    stream = Stream(model)
    hop, rate = stream.description["hop_length"], stream.description["sample_rate"]
    if rate is None:
        raise SystemExit(f"{model}: takes features, expected a model that takes samples")
    samples = read_wav(recording, rate)
    steps = samples[: len(samples) // hop * hop].reshape(-1, 1, hop)
    if len(steps) <= rate // hop:
        raise SystemExit(f"{recording}: expected more than a second")
    stream.chunk(steps[: rate // hop])
    for x in steps[rate // hop :]:
        y = stream.step(x)
    return y[0]


def main() -> None:
    parser = argparse.ArgumentParser(description="Say whether two recordings are of one voice.")
    parser.add_argument("model", type=Path, help="what the speaker model was exported to, such as speaker.onnx")
    parser.add_argument("recordings", type=Path, nargs=2, help="WAV files")
    arguments = parser.parse_args()
    one, other = (voice(arguments.model, recording) for recording in arguments.recordings)
    cosine = float(one @ other)
    threshold = float(Stream(arguments.model).description["notes"]["threshold"])
    print(f"cosine {cosine:.4f}: {'one voice' if cosine >= threshold else 'two voices'} (threshold {threshold:.2f})")


if __name__ == "__main__":
    main()
