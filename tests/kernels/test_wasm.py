"""The native runtime as WebAssembly: its numbers, its streams, its refusals, and the package that it is in."""

import gzip
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from streamdrnn import DilatedRNN, StreamingDRNN, save_model
from streamdrnn.audio import MFCC, LogMel, RawWaveform
from streamdrnn.heads import Classifier, SpeakerEmbedder, Tagger
from tests.agreement import rms
from tests.browser import Browser, needs_chromium
from tests.file_server import served
from tests.node import needs_node, run_node
from tests.properties.models import Model
from tests.strategies import randn

HERE = Path(__file__).parent
WASM = Path(__file__).parents[2] / "kernels" / "wasm"
EMCC, NPM = shutil.which("emcc"), shutil.which("npm")
B = 3


def network(input_size: int, cell: str, dilations: list[int], hidden_size: int = 12) -> DilatedRNN:
    return DilatedRNN(input_size, hidden_size, dilations=dilations, cell=cell)


def build(kind: str) -> Model:
    """A model of a kind, with one of the front-ends, cells and poolings."""
    torch.manual_seed(3)
    if kind == "network":
        return network(3, "rnn", [1, 2, 4])
    if kind == "fused network":
        return network(5, "lstm", [2, 4], 9)
    if kind == "classifier":
        return Classifier(network(16, "gru", [1, 2, 4]), 4, "mean", RawWaveform(16, 8000))
    if kind == "tagger":
        return Tagger(network(20, "gru", [1, 2, 4], 33), 2, LogMel(8000, 256, 200, 80, 20))
    return SpeakerEmbedder(network(18, "lstm", [1, 3]), 7, MFCC(8000, 200, 200, 100, 20, n_mfcc=9, deltas=1))


@needs_node
@pytest.mark.parametrize("weights", ["float32", "bf16", "int8"])
@pytest.mark.parametrize("kind", ["network", "fused network", "classifier", "tagger", "embedder"])
def test_numbers_are_pythons_and_the_same_bits_in_any_chunks(kind: str, weights: str, tmp_path: Path) -> None:
    model = build(kind)
    save_model(model, tmp_path / "model.safetensors")
    audio = getattr(model, "frontend", None) is not None
    steps = 2000 if audio else 50
    x = randn(steps, B, *() if audio else (model.input_size,), seed=1, dtype=torch.float32)
    lengths = torch.tensor([steps, steps // 3, 0])
    answer = run_node(
        HERE / "wasm_streams.mjs",
        {
            "file": str(tmp_path / "model.safetensors"),
            "weights": weights,
            "batchSize": B,
            "x": x.flatten().tolist(),
            "chunks": [[steps], [1], [7, 0, 160, 1, 33]],
            "lengths": lengths.tolist(),
        },
    )
    stream = StreamingDRNN(model, B, weights)
    whole = stream.push(x)
    for cut in answer["cut"]:
        assert cut == answer["cut"][0], "the chunks may not change a bit"
    assert answer["again"] == answer["cut"][0], "streams that are reset begin anew"
    assert close(answer["cut"][0], whole)
    pooled = answer["summary"]
    if kind == "embedder":
        assert close(pooled["sum"], stream.state.pooled[0, 1])  # type: ignore[union-attr]
        assert pooled["steps"] == len(whole)
        assert close(pooled["output"], whole[-1, 1])
        assert close(pooled["readOut"], whole[-1, 1])
    stream.reset()
    assert close(answer["whole"], stream.push(x, lengths=lengths))

    # Stream 0 began anew in the middle, stream 1 came back to where it was there, stream 2 heard the first half twice.
    half = steps // 2
    stream.reset()
    stream.push(x[:half])
    stream.push(x[:half], lengths=torch.tensor([0, 0, half]))
    stream.reset([0])
    assert close(answer["after"], stream.push(x[half:]))


def close(ours: list[float], theirs: torch.Tensor) -> bool:
    """Whether two results are of one shape and differ by rounding only."""
    got = torch.tensor(ours, dtype=torch.float64)
    want = theirs.detach().double().flatten()
    assert got.shape == want.shape
    return rms(got - want) <= 1e-6 * rms(want)


@needs_node
def test_what_cannot_be_is_refused_in_one_line_and_changes_nothing(tmp_path: Path) -> None:
    torch.manual_seed(4)
    save_model(network(1, "gru", [1, 2]), tmp_path / "model.safetensors")
    answer = run_node(HERE / "wasm_refusals.mjs", {"file": str(tmp_path / "model.safetensors")})
    assert answer.pop("unchanged")
    assert answer.pop("atOnce")
    assert set(answer.pop("codes")) == {"damaged", "nan", "long", "stream", "none", "many", "garbage"}
    assert all("\n" not in message for message in answer.values())
    assert answer["damaged"].startswith("the model's file is damaged, or of a kind that this library does not know: ")
    assert answer["weights"] == "weights: got float8, expected one of float32,bf16,int8"
    assert answer["nan"] == "expected finite values, got NaN or infinity"
    assert answer["odd"] == "x: got 3 numbers, expected a multiple of 2"
    assert answer["lengths"] == "lengths: got 1, expected 2"
    assert answer["many"] == "not enough memory"
    assert answer["freed"] == "these streams have been freed"


@needs_chromium
def test_an_audio_worklet_gives_the_numbers_sample_by_sample(tmp_path: Path) -> None:
    torch.manual_seed(6)
    model = Tagger(network(1, "gru", [1, 2, 4]), 1, RawWaveform(1, 44_100))
    folder = tmp_path / "page"
    folder.mkdir()
    save_model(model, folder / "model.safetensors")
    for path in (WASM / "streamdrnn.js", WASM / "runtime.wasm", HERE / "wasm_worklet.js"):
        shutil.copy(path, folder)
    (folder / "index.html").write_text("<!doctype html><title>a worklet</title>")
    x = 0.5 * randn(1024, 1, seed=7, dtype=torch.float32)
    script = """
        (async () => {
            const { compile } = await import("./streamdrnn.js");
            const context = new OfflineAudioContext(1, SAMPLES.length, 44100);
            await context.audioWorklet.addModule("wasm_worklet.js");
            const file = await (await fetch("model.safetensors")).arrayBuffer();
            const processorOptions = { file, module: await compile() };
            const tagger = new AudioWorkletNode(context, "tagger", { processorOptions });
            const buffer = context.createBuffer(1, SAMPLES.length, 44100);
            buffer.copyToChannel(Float32Array.from(SAMPLES), 0);
            const source = new AudioBufferSourceNode(context, { buffer });
            source.connect(tagger).connect(context.destination);
            source.start();
            return [...(await context.startRendering()).getChannelData(0)];
        })()
    """
    with served(folder) as address, Browser(tmp_path / "profile") as browser:
        browser.open(address)
        heard = browser.run(script.replace("SAMPLES", json.dumps(x[:, 0].tolist())))
    assert close(heard, StreamingDRNN(model).push(x))


def test_the_module_is_small_and_of_the_present_sources() -> None:
    assert len(gzip.compress((WASM / "runtime.wasm").read_bytes())) < 200_000
    lines = [line.split() for line in (WASM / "sources.sha256").read_text().splitlines()]
    built_from = {name: digest for digest, name in lines}
    names = {f"../cpu/src/{path.name}" for path in (WASM.parent / "cpu" / "src").glob("*.cpp")} - {
        "../cpu/src/interface.cpp"
    }
    present = {name: hashlib.sha256((WASM / name).read_bytes()).hexdigest() for name in names | set(built_from)}
    assert present == built_from, "runtime.wasm is of other sources: make -C kernels/wasm (Debian's emscripten)"


@pytest.mark.skipif(EMCC is None, reason="needs emscripten (1.3 GB), and it is not installed")
def test_the_module_is_what_its_sources_give(tmp_path: Path) -> None:
    for folder in ("cpu", "wasm"):
        shutil.copytree(WASM.parent / folder, tmp_path / folder)
    (tmp_path / "wasm" / "runtime.wasm").unlink()
    subprocess.run(["make", "-C", tmp_path / "wasm"], check=True, capture_output=True)
    assert (tmp_path / "wasm" / "runtime.wasm").read_bytes() == (WASM / "runtime.wasm").read_bytes()


@needs_node
def test_the_package_can_be_installed_and_its_example_runs(tmp_path: Path) -> None:
    package = json.loads((WASM / "package.json").read_text())
    installed = tmp_path / "node_modules" / package["name"]
    installed.mkdir(parents=True)
    for name in ("package.json", *package["files"]):
        shutil.copy(WASM / name, installed)
    torch.manual_seed(5)
    model = Tagger(network(1, "gru", [1, 2]), 2, RawWaveform(1, 16_000))
    save_model(model, tmp_path / "model.safetensors")
    [example, *_] = re.findall(r"```js\n(.*?)```", (WASM / "README.md").read_text(), re.DOTALL)
    (tmp_path / "use.mjs").write_text(
        example.replace("console.log(model.info, y)", "console.log(JSON.stringify([...y]))")
    )
    x = torch.tensor([[0.1], [0.2], [0.3], [0.4]])
    assert close(run_node(tmp_path / "use.mjs", None, folder=tmp_path), StreamingDRNN(model).push(x))


@pytest.mark.skipif(NPM is None, reason="needs npm, and none is installed")
def test_npm_packs_what_the_package_names(tmp_path: Path) -> None:
    assert NPM is not None
    options = ["--pack-destination", str(tmp_path), "--json", "--offline", f"--cache={tmp_path}/cache"]
    done = subprocess.run([NPM, "pack", str(WASM), *options], check=True, capture_output=True)
    [packed] = json.loads(done.stdout)
    named = json.loads((WASM / "package.json").read_text())["files"]
    assert {file["path"] for file in packed["files"]} == {"README.md", "package.json", *named}
    assert (tmp_path / packed["filename"]).stat().st_size < 200_000
