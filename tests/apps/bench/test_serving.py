"""The suite ``serve``: what it counts, what it refuses, and one quick run of all servers."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection, serve

from streamdrnn import load_model
from streamdrnn.apps.bench.serving import suite
from streamdrnn.apps.bench.serving.load import Load, run
from streamdrnn.apps.bench.serving.sounds import Sounds
from streamdrnn.apps.bench.tables import Row
from streamdrnn.apps.cli import main
from streamdrnn.client.protocol import Result, pack_result, unpack_input
from streamdrnn.heads import Head
from tests.serving.servers import audio_file

Answer = Callable[[int, bytes], list[bytes]]
"""A message's number and right result to what a server sends for it."""


def row(server: str, streams: int, p99: float | None) -> Row:
    return {"server": server, "streams": streams, "p99_ms": p99, "server_cores": 0.5}


def test_streams_count_while_they_are_all_in_time() -> None:
    p99 = {25: 9.0, 50: 21.0, 75: 19.0, 100: 49.0, 125: None}
    rows = [row("ours", *pair) for pair in p99.items()] + [row("other", 25, 30.0), row("other", 50, 51.0)]
    most = suite._most_streams(rows, suite.SERVE)
    assert [list(row.values()) for row in most.rows] == [["ours", 25, 50.0, 100, 1.0], ["other", 0, None, 25, 4.0]]


@pytest.mark.full
def test_the_command_measures_all_servers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["bench", "--suite", "serve", "--quick", "--json", "--out", str(tmp_path)])
    tables = json.loads(capsys.readouterr().out)["tables"]
    rows = tables["serve"]["rows"]
    # A server that is late is asked no more, and how late it is follows from the machine.
    assert {row["server"] for row in rows} == set(suite.SERVERS)
    for row in rows:
        assert row["p99_ms"] is None or 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
    assert [row["server"] for row in tables["serve_most"]["rows"]] == list(suite.SERVERS)
    assert "](serve.png)" in (tmp_path / "results.md").read_text(encoding="utf-8")
    assert (tmp_path / "serve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (lambda seq, right: [right], ""),
        (lambda seq, right: [right[:-4] + (np.frombuffer(right[-4:], "<f4") + 1e-5).tobytes()], "to the bit"),
        (lambda seq, right: [pack_result(Result(seq, np.zeros(len(right) // 4 - 2, "<f4").tobytes()))], "differ by"),
        (lambda seq, right: [pack_result(Result(seq, b""))], "outputs of shape"),
        (lambda seq, right: [right, right] if seq == 2 else [right], "lost, or in another order"),
    ],
)
def test_a_server_that_answers_wrong_is_no_peer(tmp_path: Path, answer: Answer, problem: str) -> None:
    exact = problem == "to the bit"
    model = load_model(audio_file(tmp_path))
    assert isinstance(model, Head)
    sounds = Sounds.make(model, "float32", 2, messages=5, samples=64)

    async def measure() -> Any:
        async def converse(socket: ServerConnection) -> None:
            await socket.recv()
            await socket.send(json.dumps({"type": "opened"}))
            async for data in socket:
                assert isinstance(data, bytes)
                message = unpack_input(data)
                rows = sounds.expected[0].reshape(5, 16, -1)[message.seq - 1]
                for result in answer(message.seq, pack_result(Result(message.seq, rows.tobytes()))):
                    await socket.send(result)

        sounds.expected[1] = sounds.expected[0]  # whichever connection comes first
        async with serve(converse, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            return await run(Load(f"ws://127.0.0.1:{port}", "audio", 3, 1, exact), sounds)

    if exact:
        with pytest.raises(ValueError, match="differ by"):
            asyncio.run(measure())
        exact, problem = False, ""  # that of another library may be so near
    if problem:
        with pytest.raises(ValueError, match=problem):
            asyncio.run(measure())
    else:
        measured = asyncio.run(measure())
        assert 0 < measured["p50"] <= measured["p99"]


def test_a_server_that_hangs_up_did_not_keep_up(tmp_path: Path) -> None:
    model = load_model(audio_file(tmp_path))
    assert isinstance(model, Head)
    sounds = Sounds.make(model, "float32", 1, messages=3, samples=64)

    async def measure() -> Any:
        async def converse(socket: ServerConnection) -> None:
            await socket.recv()
            await socket.send(json.dumps({"type": "opened"}))
            await socket.recv()

        async with serve(converse, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            return await run(Load(f"ws://127.0.0.1:{port}", "audio", 1, 0, False), sounds)

    assert asyncio.run(measure()) is None
