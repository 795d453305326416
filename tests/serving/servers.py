"""Servers on free loopback ports, in a thread of the test or in a process of their own."""

import datetime
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import pytest
import torch
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as connect_websocket

from streamdrnn import Tagger, load_model, save_model
from streamdrnn.apps.serving.limits import Limits
from streamdrnn.apps.serving.server import Server
from streamdrnn.apps.serving.service import Service
from streamdrnn.apps.serving.sqlite_store import SQLiteStore
from streamdrnn.apps.serving.tokens import Tokens
from streamdrnn.audio import RawWaveform
from streamdrnn.client.protocol import PATH, Input, Result, pack_input, unpack_result
from streamdrnn.heads import Head
from streamdrnn.kernels import cpu
from tests.strategies import Network
from tests.waiting import PATIENCE, wait_for

LIMITS = Limits(streams=4, frame_steps=20, rate=100.0, burst_seconds=10.0, window=4, idle_seconds=30.0)
"""Of those servers that have no limits of their own to test."""
FEATURES = Network(3, (5, 4), (1, 3), "gru", dtype=torch.float32)


def tagger_file(folder: Path, name: str = "tagger", outputs: int = 2) -> Path:
    """A model that takes features."""
    path = folder / f"{name}.safetensors"
    torch.manual_seed(1)
    save_model(Tagger(FEATURES.build("auto"), outputs), path)
    return path


def audio_file(folder: Path, name: str = "audio") -> Path:
    """A model that takes samples, four a step."""
    path = folder / f"{name}.safetensors"
    torch.manual_seed(2)
    rnn = Network(4, 5, (2, 3), "lstm", dtype=torch.float32).build("auto")
    save_model(Tagger(rnn, 2, RawWaveform(4, sample_rate=8000)), path)
    return path


def inputs(steps: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((steps, 3)).astype(np.float32)


def offline(path: Path, x: np.ndarray) -> np.ndarray:
    """The outputs ``(steps, E)`` for a whole sequence ``(T, I)`` or ``(N,)``."""
    model = load_model(path)
    assert isinstance(model, Head)
    with torch.no_grad():
        y: np.ndarray = model(torch.from_numpy(x)[:, None])[0][:, 0].numpy()
    return y


def assert_same(got: np.ndarray, want: np.ndarray) -> None:
    """The same bits, where the native kernels compute."""
    assert got.dtype == want.dtype == np.float32
    if cpu.why_not():
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    else:
        np.testing.assert_array_equal(got, want)


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """The files of one that nobody signed but itself, and of its key."""
    x509 = pytest.importorskip("cryptography.x509", reason="makes the certificate; Ray brings it")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(pem))
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(secret)
    return folder / "cert.pem", folder / "key.pem"


def trusting_anybody() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Running:
    """A server that runs in a thread."""

    def __init__(self, server: Server, service: Service, port: int, thread: threading.Thread) -> None:
        self._server, self.service, self.port, self._thread = server, service, port, thread
        self.url = f"ws://127.0.0.1:{port}"
        self.http = f"http://127.0.0.1:{port}"

    def stop(self) -> None:
        """What SIGTERM does."""
        self._server.should_exit = True
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    @property
    def connections(self) -> list[Any]:
        """uvicorn's, of HTTP and of WebSockets."""
        return list(self._server.server_state.connections)

    def wait_until_let_go(self) -> None:
        """Until no stream of the tagger is open: all are saved, or closed."""
        wait_for(lambda: self.count("streamdrnn_streams", model="tagger") == 0)

    def count(self, name: str, **labels: str) -> float:
        """A metric's value."""
        value = self.service.metrics.registry.get_sample_value(name, labels)
        return 0.0 if value is None else value


@contextmanager
def running(
    models: Sequence[Path],
    store: Path,
    limits: Optional[Limits] = None,
    tokens: Sequence[str] = (),
    origins: Sequence[str] = (),
    port: int = 0,
    certificate: Optional[tuple[Path, Path]] = None,
    **options: Any,
) -> Iterator[Running]:
    service = Service(models, SQLiteStore(store, 3600.0), limits or Limits(), **options)
    server = Server(service, Tokens(list(tokens)), origins, certificate)
    listener = socket.create_server(("127.0.0.1", port))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    server_running = Running(server, service, listener.getsockname()[1], thread)
    try:
        wait_for(lambda: server.started and bool(server._door._accepting))
        yield server_running
    finally:
        server_running.stop()


def serve_one_and_refuse_one(url: str, token: str) -> str:
    """A stream that is saved and closed as its client asks, then a client with a wrong token; gives the stream's id."""
    with Wire(url) as wire:
        stream: str = wire.open(token=token)["stream"]
        wire.send(1, inputs(4))
        wire.result()
        wire.say(type="snapshot")
        assert wire.hear()["type"] == "snapshot"
        wire.say(type="close")
        assert wire.hear()["type"] == "closed"
    with Wire(url) as wire:
        assert wire.open(token="wrong")["type"] == "error"
    return stream


class ServerProcess:
    """`streamdrnn serve` in a process."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "streamdrnn.apps.cli", "serve", *map(str, arguments)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ})

    def url(self) -> str:
        """Where it listens; waits until it does."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().split()[-1]

    def kill(self) -> None:
        """As a machine dies: nothing is saved any more."""
        self._process.kill()
        self._wait()

    def terminate(self) -> None:
        """Ask it to leave, and wait until it has."""
        self.signal(signal.SIGTERM)
        self._wait()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def _wait(self) -> None:
        self._process.wait(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()


class Wire:
    """A client that says what a test tells it to, right or wrong."""

    def __init__(self, url: str, **options: Any) -> None:
        self._held = ExitStack()
        self.socket: ClientConnection = self._held.enter_context(
            connect_websocket(url + PATH, compression=None, max_size=None, **options)
        )

    def say(self, **fields: Any) -> None:
        self.socket.send(json.dumps(fields))

    def open(self, model: str = "tagger", format: str = "features", **fields: Any) -> dict[str, Any]:
        self.say(type="open", version=1, model=model, format=format, **fields)
        return self.hear()

    def restore(self, stream: str, ack: int, **fields: Any) -> dict[str, Any]:
        self.say(type="restore", version=1, stream=stream, ack=ack, **fields)
        return self.hear()

    def send(self, seq: int, x: np.ndarray, ack: int = 0) -> None:
        self.socket.send(pack_input(Input(seq, ack, x.tobytes())))

    def message(self) -> str | bytes:
        """The next message."""
        return self.socket.recv(timeout=PATIENCE)

    def hear(self) -> dict[str, Any]:
        """The next text message."""
        message = self.message()
        assert isinstance(message, str)
        fields: dict[str, Any] = json.loads(message)
        return fields

    def result(self, outputs: int = 2) -> tuple[int, np.ndarray]:
        """The next result; notices of snapshots are passed over."""
        message = self.message()
        while isinstance(message, str):
            assert json.loads(message)["type"] == "snapshot", message
            message = self.message()
        result: Result = unpack_result(message)
        return result.seq, np.frombuffer(result.payload, "<f4").reshape(-1, outputs)

    def close(self) -> None:
        self._held.close()

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def refused(wire: Wire, code: int, what: str) -> None:
    """After results at most, one error says what, and the connection is closed with its code; nothing else comes."""
    message = wire.message()
    while isinstance(message, bytes):
        message = wire.message()
    error = json.loads(message)
    assert error["type"] == "error"
    assert error["code"] == code, error
    assert what in error["message"], error
    with pytest.raises(ConnectionClosed) as closed:
        wire.message()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == code
    assert closed.value.rcvd.reason == error["message"].encode(errors="replace")[:120].decode()


def get(url: str, **headers: Union[str, bytes]) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=dict[str, Any](headers)), timeout=PATIENCE
        ) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
