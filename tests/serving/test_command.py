"""`streamdrnn serve` as its users call it, wrongly too."""

import signal
import socket
import ssl
from pathlib import Path

import numpy as np
import pytest

from streamdrnn import DilatedRNN, Tagger, save_model
from streamdrnn.apps.cli import main
from streamdrnn.apps.serving import logs, service
from streamdrnn.apps.serving.limits import Limits
from streamdrnn.apps.serving.origins import checked_origins
from streamdrnn.apps.serving.server import allow_files
from streamdrnn.client import RefusedError, connect
from tests.serving.servers import ServerProcess, tagger_file, trusting_anybody, write_certificate
from tests.waiting import wait_for


@pytest.fixture(autouse=True)
def the_log_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command writes the log in its own way, in place of whatever was set up."""
    monkeypatch.setattr(logs, "configure", lambda *_: None)


def fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that the command says before it ends with 1."""
    with pytest.raises(SystemExit) as end:
        main(["serve", *map(str, arguments)])
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("streamdrnn: ")
    assert said.count("\n") == 1
    return said


def test_what_cannot_be_served_is_said_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = tagger_file(tmp_path)
    wide = tmp_path / "wide.safetensors"
    save_model(Tagger(DilatedRNN(3, 2, 1).double(), 2), wide)
    (tmp_path / "other").mkdir()
    same = tagger_file(tmp_path / "other")
    (tmp_path / "short").write_text("secret\n")
    (tmp_path / "no store").write_text("no database, " * 99)
    store = ("--store", tmp_path / "streams.sqlite3")
    for arguments, problem in [
        ((tmp_path / "missing.safetensors",), "no such file"),
        ((tmp_path / "short",), "not a safetensors file"),
        ((model, same), "another model of the name 'tagger'; rename the file"),
        ((model, "--max-streams", 0), "streams: expected above 0, got 0"),
        ((model, "--max-wait-ms", -1), "max_wait: expected 0 seconds or more"),
        ((wide, "--weights", "int8"), "weights: got 'int8', expected 'float32'"),
        ((model, "--snapshot-seconds", 0), "snapshot_seconds: expected above 0"),
        ((model, "--token-file", tmp_path / "short"), "fewer than 16 characters"),
        ((model, "--ssl-certfile", tmp_path / "missing.pem"), "missing.pem: no such file"),
        ((model, "--ssl-keyfile", tmp_path / "short"), "expected with an ssl_certfile"),
        ((model, "--ssl-certfile", tmp_path / "short"), "ssl_certfile, ssl_keyfile: expected a certificate"),
        ((model, "--host", "256.0.0.1"), ""),
        ((model, "--host", "\N{LATIN SMALL LETTER A WITH DIAERESIS}" * 70), "host: "),
        ((model, "--port", 65536), "port: expected 0 (any that is free) to 65535, got 65536"),
        ((model, "--allow-origin", "https://x/"), "allow_origin: expected as in https://example.org"),
        ((model, "--allow-origin", "*"), "allow_origin: expected as in https://example.org"),
        ((model, "--store-mb", 0), "store_mb: expected above 0, got 0"),
        ((model, "--max-rate", 1), "rate: expected 3.33333 or more for messages of 100 steps, got 1"),
    ]:
        assert problem in fails(capsys, *arguments, *store)
    assert "cannot be used as a store" in fails(capsys, model, "--store", tmp_path / "no store")
    for wrong in ("redis://host:port", "postgres://host/streams"):
        assert "store: " in fails(capsys, model, "--store", wrong)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "Address already in use" in fails(capsys, model, *store, "--port", taken.getsockname()[1])


def test_a_server_has_as_many_open_files_as_it_may_need(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource", reason="Windows has no such limit")
    limits = list[tuple[int, int]]()
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: limits.append(limit))
    for soft, hard, raised in [(300, 500, [(400, 500)]), (300, -1, [(400, -1)]), (400, 400, []), (-1, -1, [])]:
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=(soft, hard): limit)
        limits.clear()
        allow_files(Limits(streams=62), 1)  # 400 files
        assert limits == raised
    monkeypatch.setattr(resource, "getrlimit", lambda _: (300, 300))
    monkeypatch.setattr(service, "Service", None)  # it is not reached, as it takes memory for every stream
    said = fails(capsys, tagger_file(tmp_path), "--store", tmp_path / "s", "--max-streams", 100)
    assert "max_streams: connections and store may need 514 open files, and the system allows 300" in said


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("https://example.org", "https://example.org"),
        ("HTTPS://Example.org:443", "https://example.org"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://[::1]:80", "http://[::1]"),
    ],
)
def test_origins_are_compared_as_browsers_send_them(given: str, sent: str) -> None:
    assert checked_origins([given]) == [sent]


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "*",
        "null",
        "example.org",
        "https://",
        "https://x/",
        "https://x/a",
        "https://x?a",
        "ftp://x",
        "https://x:y",
        "https://*.x",
        "https://me@x",
        "https://münchen.de",
    ],
)
def test_origins_that_would_never_match_are_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="allow_origin: expected as in"):
        checked_origins([wrong])


def test_the_shipped_model_is_served_by_its_name_and_tokens_are_read_again(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("a token of before\n")
    server = ServerProcess("speaker", "--store", tmp_path / "s", "--port", 0, "--token-file", tokens)
    try:
        url = server.url()
        with connect(url, "speaker", "pcm16", "a token of before") as stream:
            tokens.write_text("too short\n")
            server.signal(signal.SIGHUP)
            assert len(stream.push(np.zeros(16000, np.int16))) > 0
            connect(url, "speaker", "pcm16", "a token of before").close()
            tokens.write_text("a token of afterwards\n")
            server.signal(signal.SIGHUP)
            wait_for(lambda: is_let_in(url, "a token of afterwards"))
            assert not is_let_in(url, "a token of before")
            assert len(stream.push(np.zeros(16000, np.int16))) > 0
    finally:
        server.terminate()


def test_a_certificate_that_does_not_fit_its_key_leaves_the_one_before(tmp_path: Path) -> None:
    certfile, keyfile = write_certificate(tmp_path)
    files = ("--ssl-certfile", certfile, "--ssl-keyfile", keyfile)
    server = ServerProcess("speaker", "--store", tmp_path / "s", "--port", 0, *files)

    def certificate() -> str:
        host, _, port = url.removeprefix("wss://").rpartition(":")
        return ssl.get_server_certificate((host, int(port)))

    try:
        url = server.url()
        with connect(url, "speaker", "pcm16", ssl=trusting_anybody()) as stream:
            key, before = (tmp_path / "key.pem").read_bytes(), certificate()
            write_certificate(tmp_path)
            right = (tmp_path / "key.pem").read_bytes()
            (tmp_path / "key.pem").write_bytes(key)
            server.signal(signal.SIGHUP)
            assert len(stream.push(np.zeros(16000, np.int16))) > 0
            assert certificate() == before
            (tmp_path / "key.pem").write_bytes(right)
            server.signal(signal.SIGHUP)
            wait_for(lambda: certificate() != before)
            assert len(stream.push(np.zeros(16000, np.int16))) > 0
    finally:
        server.terminate()


def is_let_in(url: str, token: str) -> bool:
    try:
        connect(url, "speaker", "pcm16", token).close()
    except RefusedError:
        return False
    return True
