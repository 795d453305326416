"""The JavaScript client with the real server, and what it refuses before it asks one."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamdrnn.apps.serving.limits import Limits
from tests.browser import Browser, needs_chromium
from tests.file_server import served as served_files
from tests.node import needs_node, run_node
from tests.serving.javascript.package import CLIENT, MANIFEST, PACKAGE, install
from tests.serving.servers import Running, assert_same, inputs, offline, running

HERE = Path(__file__).parent
NPM = shutil.which("npm")


@pytest.fixture(scope="module")
def server(models: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(models, tmp_path_factory.mktemp("store") / "streams.sqlite3", snapshot_seconds=0.05) as server:
        yield server


def rows(numbers: list[float]) -> np.ndarray:
    return np.array(numbers, np.float32).reshape(-1, 2)


def stream(url: str, parts: Sequence[np.ndarray], cut_after: int | None = None, **options: Any) -> dict[str, Any]:
    request = {"urls": url, "options": options, "parts": [part.ravel().tolist() for part in parts]}
    answer: dict[str, Any] = run_node(HERE / "streams.mjs", {**request, "cutAfter": cut_after}, CLIENT)
    return {**answer, "outputs": [rows(part) for part in answer["outputs"]], "again": rows(answer["again"])}


@needs_node
def test_lost_connections_lose_no_result(server: Running, models: list[Path]) -> None:
    x = inputs(1500)
    answer = stream(
        server.url, np.split(x, [0, 1, 101, 102, 300, 301, 700]), cut_after=5, model="tagger", format="features"
    )
    assert [len(part) for part in answer["outputs"]] == [0, 1, 100, 1, 198, 1, 399, 800]
    assert_same(np.concatenate(answer["outputs"]), offline(models[0], x))
    assert_same(answer["again"], offline(models[0], x))
    assert answer["connections"] >= 3  # twelve messages at least, four on each after that which opens it
    assert server.count("streamdrnn_streams", model="tagger") == 0


@needs_node
@pytest.mark.parametrize("format", ["pcm16", "float32"])
def test_samples(server: Running, models: list[Path], format: str) -> None:
    x = np.random.default_rng(1).integers(-32768, 32767, 2003).astype(np.int16)
    samples = x.astype(np.float32) / 32768
    answer = stream(
        server.url, np.split(x if format == "pcm16" else samples, [1, 7, 900]), model="audio", format=format
    )
    assert_same(np.concatenate(answer["outputs"]), offline(models[1], samples))
    sizes = {"inputSize": 1, "outputSize": 2, "sampleRate": 8000, "hopLength": 4}
    limits = {"maxFrame": 400, "window": 32, "rate": 1000, "burstSeconds": 60}
    assert answer["model"] == {"name": "audio", "kind": "Tagger", "format": format, **sizes, **limits}


@needs_node
def test_the_client_keeps_to_the_servers_rate(models: list[Path], tmp_path: Path) -> None:
    x = inputs(400)
    with running(models[:1], tmp_path / "s", Limits(rate=2000.0, burst_seconds=0.2)) as server:
        answer = stream(server.url, [x], model="tagger", format="features")
        assert_same(answer["outputs"][0], offline(models[0], x))
        assert answer["connections"] == 1
        assert server.count("streamdrnn_refusals_total", code="too_fast") == 0


@needs_chromium
def test_a_page_gets_every_result_though_its_server_leaves(models: list[Path], tmp_path: Path) -> None:
    x = inputs(60)
    install(tmp_path / "page")
    (tmp_path / "page" / "index.html").write_text("<!doctype html><title>a page</title>", encoding="utf-8")

    def push(part: np.ndarray) -> None:
        browser.run(f"void outputs.push(stream.push(Float32Array.of({json.dumps(part.ravel().tolist())[1:-1]})))")

    def heard() -> np.ndarray:
        return rows(browser.run("Promise.all(outputs).then((parts) => parts.flatMap((part) => [...part]))"))

    with served_files(tmp_path / "page") as origin, Browser(tmp_path / "chromium") as browser:
        browser.open(origin)
        with running(models, tmp_path / "s", origins=[origin]) as server:
            browser.run(
                "var outputs = [], stream; import('/streamdrnn.js')"
                f".then(({{ connect }}) => connect('{server.url}', {{ model: 'tagger', format: 'features' }}))"
                ".then((opened) => void (stream = opened))"
            )
            push(x[:30])
            assert_same(heard(), offline(models[0], x[:30]))
        push(x[30:45])  # while there is no server
        with running(models, tmp_path / "s", origins=[origin], port=server.port):
            push(x[45:])
            assert_same(heard(), offline(models[0], x))
            browser.run("stream.close()")


@needs_node
def test_what_is_refused_and_what_is_ended(server: Running) -> None:
    answer = run_node(HERE / "refusals.mjs", {"url": server.url}, CLIENT)
    assert answer == {
        "no model": "TypeError: model: expected a string, got undefined",
        "format": "RangeError: format: expected one of float32,pcm16,features, got mp3",
        "no time": "RangeError: giveUpAfter: expected seconds above 0, got 0",
        "no urls": "RangeError: urls: expected one or more, got none",
        "no url": "TypeError: Invalid URL",
        "no WebSocket": "TypeError: WebSocket: expected a constructor, as there is none here; see the package ws",
        "another array": "TypeError: inputs: expected Float32Array, got Float64Array",
        "no array": "TypeError: inputs: expected Float32Array, got number",
        "half a step": "RangeError: inputs: expected steps of 3 numbers, got 4 numbers",
        "not finite": "RangeError: inputs: expected finite values, got NaN or infinity",
        "a later push": 2,
        "what listens to its signal then": 0,
        "no path": "ConnectionError: no server answers: the connection ended (code 1006)",
        "ended before": "AbortError: This operation was aborted",
        "ended while it connects": "AbortError: This operation was aborted",
        "ended while it waits": "Error: enough",
        "ended": "Error: enough",
    }


@needs_node
def test_the_package_can_be_installed_and_its_example_runs(server: Running, tmp_path: Path) -> None:
    """With a stand-in for the package ws."""
    install(tmp_path / "node_modules" / MANIFEST["name"])
    ws = tmp_path / "node_modules" / "ws"
    ws.mkdir()
    shutil.copy(HERE / "websocket.mjs", ws)
    (ws / "index.mjs").write_text('export { WebSocket as default } from "./websocket.mjs";', encoding="utf-8")
    (ws / "package.json").write_text('{"exports": "./index.mjs"}', encoding="utf-8")
    [example] = re.findall(r"```js\n(.*?)```", (PACKAGE / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    example = example.replace("ws://127.0.0.1:8765", server.url).replace('"speaker"', '"audio"')
    shown = "console.log(stream.model.outputSize, outputs)"
    assert shown in example
    script = example.replace(shown, "console.log(JSON.stringify([stream.model.outputSize, outputs.length]))")
    (tmp_path / "use.mjs").write_text(script, encoding="utf-8")
    assert run_node(tmp_path / "use.mjs", None, folder=tmp_path) == [2, 2 * 400]


@pytest.mark.skipif(NPM is None, reason="needs npm, and none is installed")
def test_npm_packs_what_the_package_names(tmp_path: Path) -> None:
    assert NPM is not None
    options = ["--pack-destination", str(tmp_path), "--json", "--offline", f"--cache={tmp_path}/cache"]
    done = subprocess.run([NPM, "pack", str(PACKAGE), *options], check=True, capture_output=True)
    [packed] = json.loads(done.stdout)
    assert {file["path"] for file in packed["files"]} == {path.name for path in PACKAGE.iterdir()}


def test_the_python_package_brings_the_module_along(tmp_path: Path) -> None:
    options = ["egg_info", "--egg-base", str(tmp_path), "build_py", "--build-lib", str(tmp_path)]
    command = [sys.executable, "setup.py", "-q", *options]
    subprocess.run(command, check=True, capture_output=True, cwd=PACKAGE.parents[2])
    brought = {path.name for path in (tmp_path / "streamdrnn" / "client" / "js").iterdir()}
    assert brought == {path.name for path in PACKAGE.iterdir()}
