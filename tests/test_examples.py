"""The example programs do what they say, those that run exported models without this package."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from streamdrnn import StreamingDRNN, load_model
from streamdrnn.apps.speaker_id.model import asset
from streamdrnn.audio import load_audio
from streamdrnn.export import export_model
from tests.agreement import assert_close
from tests.export.models import build, inputs, skip_without_packages

EXAMPLES = Path(__file__).parents[1] / "examples"
SHIPPED = asset("speaker.safetensors")
RAW_SPEAKERS = EXAMPLES.parent / "docs" / "results" / "fsdd-raw" / "model.safetensors"
WITHOUT_US = "import runpy, sys; sys.modules['streamdrnn'] = sys.modules['torch'] = None; sys.argv = sys.argv[1:]; "


def run(*command: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)


def recordings(folder: Path) -> dict[str, Path]:
    """Voices as 16 bit WAV files."""
    for name in ("heather", "paul"):
        samples = load_audio(asset(f"{name}.flac"), 16000).numpy()
        soundfile.write(folder / f"{name}.wav", samples, 16000, "PCM_16")
        soundfile.write(folder / f"{name}, later.wav", samples[32000:], 16000, "PCM_16")
    return {file.stem: file for file in folder.glob("*.wav")}


def embedding(path: Path) -> torch.Tensor:
    stream = StreamingDRNN(load_model(SHIPPED).float())
    samples = load_audio(path, 16000)
    return stream.push(samples[: len(samples) // 320 * 320, None])[-1, 0]


@pytest.mark.full
def test_onnxruntime_alone_tells_voices_apart(tmp_path: Path) -> None:
    skip_without_packages("onnx")
    export_model(load_model(SHIPPED).float(), tmp_path / "speaker.onnx", "onnx", {"threshold": "0.4"})
    voices = recordings(tmp_path)
    script = EXAMPLES / "onnxruntime_stream.py"
    program = [sys.executable, "-c", f"{WITHOUT_US} runpy.run_path({str(script)!r}, run_name='__main__')", script]
    for one, other, verdict in (("heather", "heather, later", "one voice"), ("heather", "paul", "two voices")):
        done = run(*program, tmp_path / "speaker.onnx", voices[one], voices[other])
        assert done.returncode == 0, done.stderr
        found = re.fullmatch(r"cosine (\S+): (.*) \(threshold 0.40\)\n", done.stdout)
        assert found, done.stdout
        assert found[2] == verdict
        want = float(embedding(voices[one]) @ embedding(voices[other]))
        assert float(found[1]) == pytest.approx(want, abs=1e-4)


def test_a_raw_waveform_is_heard_sample_by_sample(data_dir: Path) -> None:
    voices = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
    recordings = [data_dir / "fsdd" / f"{digit}_{voice}_0.wav" for digit in range(3) for voice in voices]
    done = run(sys.executable, EXAMPLES / "raw_speaker.py", RAW_SPEAKERS, *recordings)
    assert done.returncode == 0, done.stderr
    heard = re.findall(r"^\d_(\w+)_0.wav: (\w+) \(\d+%\), [\d.]+ s per second of sound$", done.stdout, re.MULTILINE)
    assert len(heard) == len(recordings), done.stdout
    assert sum(voice == judged for voice, judged in heard) >= 12, f"chance is 3 of 18: {heard}"


@pytest.mark.full
@pytest.mark.parametrize("name", ["shipped", "classifier"])
def test_a_cpp_program_streams_a_torchscript_file(name: str, tmp_path: Path) -> None:
    if shutil.which("cmake") is None or not (shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("needs cmake and a C++ compiler")
    configured = run(
        *("cmake", "-S", EXAMPLES / "torchscript_cpp", "-B", tmp_path / "build"),
        f"-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}",
    )
    assert configured.returncode == 0, configured.stderr
    built = run("cmake", "--build", tmp_path / "build")
    assert built.returncode == 0, built.stdout + built.stderr

    model = build(name)
    description = export_model(model, tmp_path / "model.pt", "torchscript")
    x = inputs(model, 100, 1)
    done = subprocess.run(
        [tmp_path / "build" / "stream", tmp_path / "model.pt"],
        input=x.numpy().tobytes(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert description["kind"] in done.stderr.decode()
    stream = StreamingDRNN(model)
    want = stream.push(x if description["sample_rate"] is None else x.transpose(1, 2).flatten(0, 1))
    y = torch.from_numpy(np.frombuffer(done.stdout, np.float32).copy()).view(-1, *want.shape[1:])
    assert_close(y, want)  # row for row: no step that a front-end did not complete
    with Path("/dev/full").open("wb") as full:
        command = [tmp_path / "build" / "stream", tmp_path / "model.pt"]
        done = subprocess.run(command, input=x.numpy().tobytes(), stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert done.stderr.decode().endswith("stream: the output cannot be written\n")
