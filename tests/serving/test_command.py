"""`streamdrnn serve` as its users call it, wrongly too."""

import socket
from pathlib import Path

import pytest

from streamdrnn.apps.cli import main
from tests.serving.servers import tagger_file


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
        ((model, "--snapshot-seconds", 0), "snapshot_seconds: expected above 0"),
        ((model, "--token-file", tmp_path / "short"), "fewer than 16 characters"),
        ((model, "--ssl-certfile", tmp_path / "missing.pem"), "missing.pem: no such file"),
        ((model, "--ssl-keyfile", tmp_path / "short"), "expected with an ssl_certfile"),
        ((model, "--host", "256.0.0.1"), ""),
        ((model, "--host", "\N{LATIN SMALL LETTER A WITH DIAERESIS}" * 70), "host, port: "),
        ((model, "--port", 65536), "host, port: "),
    ]:
        assert problem in fails(capsys, *arguments, *store)
    assert "cannot be used as a store" in fails(capsys, model, "--store", tmp_path / "no store")
    assert "store: " in fails(capsys, model, "--store", "redis://host:port")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "Address already in use" in fails(capsys, model, *store, "--port", taken.getsockname()[1])
