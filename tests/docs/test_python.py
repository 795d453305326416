"""The Python of the guides runs, the blocks of a page as a reader would type them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from streamdrnn import load_model
from streamdrnn.apps.speaker_id.model import asset
from streamdrnn.audio import load_audio
from streamdrnn.export import export_model
from tests.docs.blocks import ROOT, blocks, blocks_of
from tests.export.models import initial_state, skip_without_packages
from tests.serving.servers import audio_file, running

DOCS = ROOT / "docs"


def python_of(name: str) -> list[str]:
    return [block.text for block in blocks_of(DOCS / name, "python")]


def run(program: str, folder: Path, given: str = "") -> str:
    """What a program in a folder prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, cwd=folder, env=environment, input=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_steps_end_in_a_stream(tmp_path: Path) -> None:
    train, stream = python_of("first-steps.md")
    loss = run(train, tmp_path).removeprefix("loss ")
    assert float(loss) < 0.1
    given = torch.linspace(-1, 1, 41)
    heard = run(stream, tmp_path, "\n".join(str(float(x)) for x in given)).split()
    np.testing.assert_allclose([float(x) for x in heard[16:]], given[:-16], atol=0.5)


def test_the_measures_of_memory_are_the_tables(tmp_path: Path) -> None:
    (measures,) = python_of("memory.md")
    lengths = [float(line.split()[0]) for line in run(measures, tmp_path).splitlines()]
    layers, m = 9, 256
    want = [(layers - 1) * 3 / 2 + 1 / m, layers - 1 + (m + 1) / 2, layers - 1 + (m - 1) / 2 + 1 / m, layers]
    np.testing.assert_allclose(lengths, want)


def test_a_client_has_its_outputs(tmp_path: Path) -> None:
    (client,) = python_of("serving.md")
    with running([audio_file(tmp_path, "speaker")], tmp_path / "s") as server:
        program = client.replace("ws://127.0.0.1:8765", server.url)
        assert program != client
        steps, outputs = run(f"{program}\nprint(*outputs.shape)", tmp_path).split()
    assert int(steps) > 0
    assert int(outputs) > 0


def similarity(*files: Path) -> float:
    """The cosine of what two exported speaker models make of the same voice."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install '.[export]'")
    speech = load_audio(asset("paul.flac"), 16000)
    embeddings: list[np.ndarray] = []
    for file in files:
        session = onnxruntime.InferenceSession(file)
        description = json.loads(session.get_modelmeta().custom_metadata_map["streamdrnn.json"])
        hop = description["hop_length"]
        x = speech[: len(speech) // hop * hop].view(-1, 1, hop).numpy()
        state = {name: tensor.numpy() for name, tensor in initial_state(description, 1).items()}
        [y] = session.run(["y"], {"x": x, **state})
        embeddings.append(y[-1, 0] / np.linalg.norm(y[-1, 0]))
    return float(embeddings[0] @ embeddings[1])


@pytest.mark.full
def test_exported_files_are_run_as_shown(tmp_path: Path) -> None:
    skip_without_packages("onnx")
    speaker = load_model(asset("speaker.safetensors")).float()
    export_model(speaker, tmp_path / "speaker.onnx", "onnx")
    export_model(speaker, tmp_path / "speaker.pt", "torchscript")
    export_model(speaker, tmp_path / "speaker.pt2", "pt2")
    with_onnx, quantised, with_torchscript, with_pt2 = python_of("export.md")
    assert "(1, 192)" in run(f"{with_onnx}\nprint(y.shape)", tmp_path)
    run(quantised, tmp_path)
    whole, small = tmp_path / "speaker.chunk.onnx", tmp_path / "speaker.int8.onnx"
    assert small.stat().st_size < whole.stat().st_size / 3
    assert similarity(whole, small) > 0.99
    assert "(1, 192)" in run(f"import torch\n{with_torchscript}\nprint(tuple(y.shape))", tmp_path)
    prepared = (
        "import torch\n"
        "extra = {'streamdrnn.json': ''}\n"
        "torch.export.load('speaker.step.pt2', extra_files=extra)\n"
        "import json\n"
        "description = json.loads(extra['streamdrnn.json'])\n"
        "x = torch.zeros(1, description['hop_length'])\n"
        "state = {name: torch.full([1 if size == 'batch' else size for size in t['shape']], t['initial'],\n"
        "    dtype=getattr(torch, t['dtype'])) for name, t in description['state'].items()}\n"
    )
    assert "(1, 192)" in run(f"{prepared}{with_pt2}\nprint(tuple(step(x, state)[0].shape))", tmp_path)


def test_no_page_is_forgotten() -> None:
    pages = {str(block.page.relative_to(ROOT)) for block in blocks("python")}
    here = {"docs/first-steps.md", "docs/memory.md", "docs/serving.md", "docs/export.md"}
    assert pages == here | {"README.md", "docs/sharing.md"}  # test_readme.py, tests/core/test_sharing.py
