"""Servers under load, one more loaded than the last, until they no longer keep up."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, Optional

from streamdrnn.apps.bench.process_usage import cpu_seconds
from streamdrnn.apps.bench.serving.sounds import SAMPLE_RATE, Sounds
from streamdrnn.apps.bench.tables import Row, Say, Table
from streamdrnn.apps.speaker_id.model import asset
from streamdrnn.apps.weights import load_to_run
from streamdrnn.errors import InputError, installing
from streamdrnn.heads import Head
from streamdrnn.kernels import AS_THEY_ARE


class Contender(NamedTuple):
    """A server.

    Attributes:
        calls: what the plain server is told to call; empty for ours.
        weights: how ours holds them.
    """

    calls: str = ""
    weights: str = AS_THEY_ARE


SERVERS = {
    "ours": Contender(),
    "ours, int8": Contender(weights="int8"),
    "per stream, our kernels": Contender("kernels"),
    "per stream, torch": Contender("torch"),
    "per stream, onnxruntime": Contender("onnxruntime"),
}
_NEEDED = {
    "fastapi": "serve",
    "picows": "bench",
    "prometheus_client": "serve",
    "uvicorn": "serve",
    "websockets": "serve",
}
"""Packages, and the extras that have them."""
FAST, LATE = 20.0, 50.0
"""Milliseconds: the latencies for which the streams are counted. A server that is later has no more to show."""
SOUNDS = 4


class ServeSizes(NamedTuple):
    """What is sent.

    Attributes:
        milliseconds: of sound in a message.
        messages, warm_up: of each stream, and those at first that are not counted.
        streams: how many at a time, rising.
    """

    milliseconds: int
    messages: int
    warm_up: int
    streams: tuple[int, ...]


SERVE = ServeSizes(100, 100, 20, (25, 50, 75, 100, 125, 150, 200, 300, 400, 500, 600, 700, 800, 900, 1000, 1100))
QUICK_SERVE = ServeSizes(40, 8, 2, (2,))


class Measured(NamedTuple):
    """A server under one load: latencies in milliseconds, and the cores that the two processes took."""

    p50: float
    p95: float
    p99: float
    server_cores: Optional[float]
    load_cores: float


def measure(sizes: ServeSizes, say: Say) -> list[Table]:
    """Load each server with more and more streams of sound, until its 99th percentile is late twice.

    Raises:
        ValueError: a result is not that of the whole sound offline; or what serving needs is not installed.
    """
    path = asset("speaker.safetensors")
    model = load_to_run(path).eval()
    assert isinstance(model, Head)
    for package, extra in _NEEDED.items():
        if find_spec(package) is None:
            raise InputError(f"the suite serve needs {package}: {installing(extra)}")
    running = [name for name in SERVERS if SERVERS[name].calls != "onnxruntime" or find_spec("onnxruntime") is not None]
    rows: list[Row] = []
    with TemporaryDirectory() as folder:
        for weights in {contender.weights for contender in SERVERS.values()}:
            sounds = Sounds.make(model, weights, SOUNDS, sizes.messages, SAMPLE_RATE * sizes.milliseconds // 1000)
            sounds.write(_sounds(Path(folder), weights))
        for streams in sizes.streams:
            for name in list(running):
                for attempt in (1, 2):  # what else the machine does must not end the search
                    say(f"serve: {name}, {streams} streams" + (" again" if attempt == 2 else ""))
                    measured = under_load(SERVERS[name], path, Path(folder), sizes, streams)
                    if measured is not None and measured.p99 <= LATE:
                        break
                rows.append(_row(name, streams, measured))
                if measured is None or measured.p99 > LATE:
                    running.remove(name)
    return [_table(rows, sizes), _most_streams(rows, sizes)]


def _sounds(folder: Path, weights: str) -> Path:
    return folder / f"{weights}.npz"


def under_load(server: Contender, model: Path, folder: Path, sizes: ServeSizes, streams: int) -> Optional[Measured]:
    """One server in a process, the load in another; None if the server cannot keep up at all.

    Args:
        folder: with the sounds, and for files of the server's own.

    Raises:
        ValueError: it answered something wrong.
    """
    with TemporaryDirectory(dir=folder) as own, _server(server, model, Path(own), streams) as (process, url):
        command = [sys.executable, "-m", "streamdrnn.apps.bench.serving.load", url, model.stem]
        command += [str(_sounds(folder, server.weights)), str(streams), str(sizes.warm_up)]
        command += [] if server.calls else ["--exact"]
        before = cpu_seconds(process.pid)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        after = cpu_seconds(process.pid)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ValueError(f"serve, {server.calls or 'ours'}, {streams} streams: {reason}")
    told = json.loads(done.stdout)
    if told is None:
        return None
    cores = None if before is None or after is None else (after - before) / told["seconds"]
    return Measured(1e3 * told["p50"], 1e3 * told["p95"], 1e3 * told["p99"], cores, told["cores"])


@contextmanager
def _server(
    server: Contender, model: Path, folder: Path, streams: int
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A server on a free port, and its URL."""
    if server.calls:
        command = ["streamdrnn.apps.bench.serving.plain_server", server.calls, str(model), str(folder)]
    else:
        command = ["streamdrnn.apps.cli", "serve", str(model), "--port", "0", "--max-streams", str(streams)]
        command += ["--store", str(folder / "streams.sqlite3"), "--log-level", "warning"]
        command += ["--weights", server.weights]
    process = subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise ValueError(f"serve, {server.calls or 'ours'}: the server did not start")
        yield process, line.split()[-1]
    finally:
        process.kill()
        process.communicate()


def _row(name: str, streams: int, measured: Optional[Measured]) -> Row:
    return {
        "streams": streams,
        "server": name,
        "p50_ms": None if measured is None else measured.p50,
        "p95_ms": None if measured is None else measured.p95,
        "p99_ms": None if measured is None else measured.p99,
        "server_cores": None if measured is None else measured.server_cores,
        "load_cores": None if measured is None else measured.load_cores,
    }


def _most(rows: Sequence[Row], name: str, within: float) -> int:
    """The most streams that a server answered in time, as it did with all fewer ones."""
    most = 0
    for row in rows:
        if row["server"] == name:
            p99 = row["p99_ms"]
            if not isinstance(p99, float) or p99 > within:
                break
            most = int(str(row["streams"]))
    return most


def _table(rows: list[Row], sizes: ServeSizes) -> Table:
    counted = sizes.messages - sizes.warm_up
    notes = (
        f"Every stream sends {sizes.milliseconds} ms of 16 kHz sound as it would be heard, {counted} times that are "
        "counted, to the shipped speaker model (log-mel). Latency: from the moment when the message's last sample "
        "would have been heard to its result at the client. The load generator is a process of its own on the same "
        "cores. "
        "Every result was compared with that of the whole sound in one push, with weights held in the same way: ours "
        "is the same to the last bit, the others within 1e-4. -: the server fell behind by seconds.",
        "ours: streamdrnn serve as it is by default, its streams saved every five seconds; int8: with --weights int8. "
        "The others: one model call for each message, in a plain asyncio server of the same protocol that saves "
        "nothing.",
    )
    return Table("serve", "Live streams on a server", rows, notes)


def _most_streams(rows: list[Row], sizes: ServeSizes) -> Table:
    within: list[Row] = []
    for name in dict.fromkeys(str(row["server"]) for row in rows):
        fast, late = _most(rows, name, FAST), _most(rows, name, LATE)
        cores = next((row["server_cores"] for row in rows if (row["server"], row["streams"]) == (name, fast)), None)
        ours = _most(rows, "ours", LATE)
        within.append(
            {
                "server": name,
                f"streams_within_{FAST:g}_ms": fast,
                "of_them_per_core": fast / cores if isinstance(cores, float) and cores else None,
                f"streams_within_{LATE:g}_ms": late,
                "ours_times_this": ours / late if late else None,
            }
        )
    counts = ", ".join(map(str, sizes.streams))
    note = f"The most of {counts} streams whose 99th percentile is within the limit; per core: of what the server took."
    return Table("serve_most", "How many live streams a server answers in time", within, (note,))
