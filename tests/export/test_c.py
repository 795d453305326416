"""C: the folder builds by itself, and its example prints what the model gives in Python, bit for bit."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

import streamdrnn
from streamdrnn import StreamingDRNN
from streamdrnn.export import export_model, export_paths
from streamdrnn.export.amalgamation import SOURCES, amalgamated
from streamdrnn.kernels.cpu.processor import level
from tests.compiling import OPTIMIZED, call, needs_compiler
from tests.export.models import MODELS, TRACED, build, inputs

pytestmark = [*needs_compiler, pytest.mark.skipif(not shutil.which("make"), reason="there is no make")]

NAMES = [name for name in MODELS if name not in TRACED]


SAME = ("streamdrnn.cpp", "streamdrnn.h")
"""The files of the library, which make need not look at again when the model is another one."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which an example is built."""
    folder = tmp_path_factory.mktemp("c") / "a model"
    export_model(build("raw"), folder, "c")
    make(folder)
    return folder


@pytest.fixture
def example(library: Path) -> "Example":
    return Example(library)


class Example:
    """The example of one model after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def of(self, model: Any, notes: Optional[dict[str, str]] = None) -> dict[str, Any]:
        description = export_model(model, self.folder, "c", notes, overwrite=True)
        make(self.folder, *(word for name in SAME for word in ("-o", name)))
        return description

    def run(self, *arguments: Path, content: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        command = [self.folder / "example", *arguments]
        return subprocess.run(command, input=content, capture_output=True, check=False, timeout=60)

    def outputs(self, *arguments: Path, content: bytes = b"") -> list[list[float]]:
        done = self.run(*arguments, content=content)
        assert done.returncode == 0, done.stderr
        assert done.stderr.decode() == f"instructions: {level()}\n"
        rows = [[float(number) for number in line.split()] for line in done.stdout.decode().splitlines()]
        return torch.tensor(rows, dtype=torch.float32).tolist()


def make(folder: Path, *options: str) -> None:
    warnings = "-std=c99 -pedantic -Wall -Wextra -Werror"
    call("make", "-j2", "-C", folder, f"CXXFLAGS={OPTIMIZED}", f"CFLAGS={warnings}", *options)


def heard(model: Any, steps: int) -> Tensor:
    """``(T, 1, I)``, or ``(N, 1)`` samples, float32."""
    x = inputs(model, steps, 1).float()
    return x if getattr(model, "frontend", None) is None else x.transpose(1, 2).flatten(0, 1)


def pushed(model: Any, x: Tensor) -> list[list[float]]:
    if getattr(model, "batch_first", False):
        return StreamingDRNN(model).push(x.transpose(0, 1))[0].tolist()
    return StreamingDRNN(model).push(x)[:, 0].tolist()


@pytest.mark.parametrize("name", NAMES)
def test_every_model_gives_pythons_bits(name: str, example: Example) -> None:
    model = build(name).float()
    description = example.of(model, {"threshold": "0.5"})
    x = heard(model, 60)
    want = pushed(model, x)
    assert len(want) > 10
    assert example.outputs(content=x.numpy().tobytes()) == want
    assert json.loads((example.folder / "streamdrnn.json").read_text("utf-8")) == description
    assert description["notes"] == {"threshold": "0.5"}
    assert description["entry_points"]["push"]["y"]["shape"] == ["steps", "batch", len(want[0])]


DUMP = """\
#include <stdio.h>
#include "model.h"

int main(void) { return fwrite(model_file, 1, model_size, stdout) != model_size; }
"""


def test_all_bytes_of_a_model_are_in_the_array(tmp_path: Path) -> None:
    """Quotes, backslashes, trigraphs, and digits after what is written in digits."""
    pairs = np.stack(np.meshgrid(np.arange(256), np.arange(256)), -1).astype(np.uint8).tobytes()
    content = pairs + b"".join(b"??" + bytes([sign]) for sign in b"=/'()!<>-")
    model = streamdrnn.DilatedRNN(1, 128, 1)
    model.get_parameter("weight_hh_l0").detach().view(torch.uint8).flatten()[: len(content)] = torch.tensor(
        list(content)
    )
    export_model(model, tmp_path / "c", "c")
    (tmp_path / "c" / "dump.c").write_text(DUMP)
    for language in ("c90", "c99", "c11"):
        flags = (f"-std={language}", "-pedantic", "-Wall", "-Wextra", "-Werror")
        call("cc", *flags, tmp_path / "c" / "dump.c", tmp_path / "c" / "model.c", "-o", tmp_path / "dump")
        done = subprocess.run([tmp_path / "dump"], capture_output=True, check=True)
        assert content in done.stdout


@pytest.mark.parametrize(("subtype", "format"), [("PCM_16", "WAV"), ("FLOAT", "WAV"), ("PCM_16", "WAVEX")])
def test_a_wav_file_is_heard_as_in_python(subtype: str, format: str, example: Example, tmp_path: Path) -> None:
    model, file = build("speaker"), tmp_path / "voice.wav"
    example.of(model)
    soundfile.write(file, heard(model, 100)[:-7].numpy(), 16000, subtype, format=format)
    samples = torch.from_numpy(soundfile.read(file, dtype="float32")[0])
    assert example.outputs(file) == pushed(model, samples[:, None])


def test_a_recording_that_the_model_cannot_hear_gets_one_line(example: Example, tmp_path: Path) -> None:
    file, silence = tmp_path / "x.wav", np.zeros((100, 2), np.float32)
    example.of(build("speaker"))

    def refused(why: str) -> None:
        done = example.run(file)
        assert (done.returncode, done.stdout, done.stderr.decode().splitlines()[-1]) == (1, b"", why)

    refused("there is no such file")
    file.write_bytes(b"RIFX")
    refused("no WAV file")
    soundfile.write(file, silence, 16000)
    refused("expected one channel")
    soundfile.write(file, silence[:, 0], 8000)
    refused("the model hears another sample rate")
    soundfile.write(file, silence[:, 0], 16000, "PCM_24")
    refused("expected 16 bit or float32 samples")
    content = file.read_bytes()
    file.write_bytes(content[: content.index(b"data")])
    refused("expected 16 bit or float32 samples")
    file.write_bytes(content[:12])
    refused("the WAV file is damaged")
    example.of(build("network"))
    refused("a model without a front-end hears no WAV file")


def test_what_is_no_number_is_refused(example: Example) -> None:
    example.of(build("speaker"))
    done = example.run(content=np.full(100, np.nan, np.float32).tobytes())
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[-1] == "expected finite values, got NaN or infinity"


@pytest.mark.parametrize("name", TRACED)
def test_networks_of_other_kinds_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"c: the library computes a DilatedRNN only, got a .*; onnx and pt2 take it"):
        export_model(build(name), tmp_path / "x", "c")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_replaced_only_if_that_is_wanted(tmp_path: Path) -> None:
    folder, model = tmp_path / "model.v2", build("raw")
    export_model(model, folder, "c")
    assert export_paths(folder, "c") == {"": folder}
    (folder / "main.c").write_text("mine")
    with pytest.raises(FileExistsError, match=r"model\.v2: is there already"):
        export_model(model, folder, "c")
    assert (folder / "main.c").read_text() == "mine"
    (folder / "own.c").write_text("mine")
    export_model(model, folder, "c", overwrite=True)
    assert "streamdrnn_push" in (folder / "main.c").read_text("utf-8")
    assert (folder / "own.c").read_text() == "mine"


def test_the_one_file_has_the_library_and_nothing_else() -> None:
    text = amalgamated()
    assert text.startswith(f"// The C library of streamdrnn {streamdrnn.__version__} in one file.")
    assert set(re.findall(r'#include "(.*)"', text)) == {"streamdrnn.h"}
    for word in ("Backward", "std::thread", "std::vector", "#pragma once"):
        assert word not in text
    once = re.findall(r"^// ---- (\S+\.(?:h|cpp))$", text, re.MULTILINE)
    assert len(once) == len(set(once))
    levels = {"avx512.cpp", "avx2.cpp", "portable.cpp"}
    assert {path.name for path in SOURCES.glob("*.cpp")} - set(once) == levels | {"interface.cpp"}


def test_what_the_folder_is_made_from_is_installed_with_the_package(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "setup.py", "-q", "build_py", "-d", tmp_path], cwd=root, check=True, timeout=240)
    for folder in ("streamdrnn/kernels/cpu/src", "streamdrnn/export/c_files"):
        installed = {path.name for path in (tmp_path / folder).iterdir()}
        assert installed == {path.name for path in (root / folder).iterdir()}
