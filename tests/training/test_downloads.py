"""Data sets are fetched when asked for only, checked, and put where they are looked for."""

import gzip
import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from streamdrnn.apps.training import downloads
from streamdrnn.apps.training.data import data_folder
from streamdrnn.apps.training.downloads import SOURCES, Source, download
from streamdrnn.apps.training.mnist_files import MD5 as UNPACKED
from streamdrnn.apps.training.tasks import ptb
from tests.apps.test_cli import Run, run
from tests.training.interrupted import accept_texts
from tests.training.texts import TEXTS

__all__ = ["run"]

TEXT = ("--window", "10", "--hidden-size", "4", "--dilations", "1", "--steps", "2", "--batch-size", "8")


class Quiet(SimpleHTTPRequestHandler):
    asked: list[str]

    def log_message(self, *arguments: object) -> None:
        self.asked.append(self.path)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A server that has the texts of the tests for the Penn Treebank: what it was asked for."""
    (tmp_path / "server").mkdir()
    for split, text in TEXTS.items():
        (tmp_path / "server" / f"ptb.{split}.txt").write_text(text)
    monkeypatch.setattr(ptb, "MD5", dict(ptb.MD5))
    accept_texts()
    Quiet.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "server")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    md5 = {f"ptb.{split}.txt": hashlib.md5(text.encode()).hexdigest() for split, text in TEXTS.items()}
    monkeypatch.setitem(SOURCES, "ptb", Source(f"http://127.0.0.1:{server.server_port}/", md5))
    monkeypatch.setattr(downloads, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr("streamdrnn.apps.training.data.cache_folder", lambda: tmp_path / "cache")
    monkeypatch.delenv("STREAMDRNN_DATA", raising=False)
    yield Quiet.asked
    server.shutdown()
    server.server_close()


def test_a_data_set_is_fetched_into_the_data_folder_once(run: Run, tmp_path: Path, asked: list[str]) -> None:
    data = ("--data-dir", tmp_path / "data")
    refused = run("train", "ptb", *TEXT, *data, "--out", tmp_path / "run")
    refused.is_one_line_about("expected the data set 'ptb'")
    assert asked == [], "it was not asked to fetch"
    outcome = run("train", "ptb", *TEXT, *data, "--out", tmp_path / "run", "--download")
    assert outcome.code == 0, outcome.err
    assert len(asked) == 3
    for split, text in TEXTS.items():
        assert (tmp_path / "data" / "ptb" / f"ptb.{split}.txt").read_text() == text
    assert run("train", "ptb", *TEXT, *data, "--out", tmp_path / "again", "--download").code == 0
    assert len(asked) == 3, "what is there is not fetched again"


def test_without_a_data_folder_it_is_kept_in_the_cache_and_found_there(
    run: Run, tmp_path: Path, asked: list[str]
) -> None:
    with pytest.raises(FileNotFoundError, match="no data folder: give --data-dir, or set STREAMDRNN_DATA"):
        data_folder(None, "ptb")
    assert run("train", "ptb", *TEXT, "--out", tmp_path / "run", "--download").code == 0
    assert data_folder(None, "ptb") == tmp_path / "cache" / "ptb"
    assert run("evaluate", tmp_path / "run").code == 0
    assert len(asked) == 3


def test_the_folder_that_the_variable_names_gets_it(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMDRNN_DATA", str(tmp_path / "mine"))
    download("ptb", None)
    assert len(list((tmp_path / "mine" / "ptb").iterdir())) == len(asked) == 3


def test_a_file_that_is_another_is_refused_and_not_kept(run: Run, tmp_path: Path, asked: list[str]) -> None:
    (tmp_path / "server" / "ptb.valid.txt").write_text("something else")
    outcome = run("train", "ptb", *TEXT, "--data-dir", tmp_path, "--out", tmp_path / "run", "--download")
    assert outcome.code == 1
    assert outcome.err.splitlines()[-1].startswith("streamdrnn: http://127.0.0.1:")
    assert "ptb.valid.txt: not the expected file" in outcome.err
    assert [path.name for path in (tmp_path / "ptb").iterdir()] == ["ptb.train.txt"]
    assert not (tmp_path / "run").exists()


def test_what_is_there_is_never_replaced(tmp_path: Path, asked: list[str]) -> None:
    (tmp_path / "ptb").mkdir()
    (tmp_path / "ptb" / "ptb.train.txt").write_text("mine")
    download("ptb", tmp_path)
    assert (tmp_path / "ptb" / "ptb.train.txt").read_text() == "mine"
    assert len(asked) == 2


def test_what_cannot_be_fetched_gets_one_line(
    run: Run, tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = ("--data-dir", tmp_path, "--out", tmp_path / "run", "--download")
    (tmp_path / "server" / "ptb.train.txt").unlink()
    run("train", "ptb", *TEXT, *out).is_one_line_about("ptb.train.txt: cannot be fetched (the server says 404")
    # Nothing listens on port 9, which is for what is to be discarded.
    monkeypatch.setitem(SOURCES, "ptb", SOURCES["ptb"]._replace(url="http://127.0.0.1:9/"))
    run("train", "ptb", *TEXT, *out).is_one_line_about("http://127.0.0.1:9/ptb.train.txt: cannot be fetched (")
    assert not (tmp_path / "run").exists()
    assert not list((tmp_path / "ptb").iterdir())


def test_a_task_without_a_data_set_of_its_own_has_none_to_fetch(run: Run, tmp_path: Path) -> None:
    outcome = run("train", "copy", "--out", tmp_path / "run", "--download")
    outcome.is_one_line_about("--download: expected one of the tasks on mnist and ptb")


def test_the_sources_are_those_of_the_files_that_the_tasks_take(data_dir: Path) -> None:
    assert SOURCES["ptb"].md5 == {f"ptb.{split}.txt": md5 for split, md5 in ptb.MD5.items()}
    assert SOURCES["mnist"].md5.keys() == {f"{name}.gz" for name in UNPACKED}
    for name, md5 in UNPACKED.items():
        unpacked = gzip.decompress((data_dir / "mnist" / f"{name}.gz").read_bytes())
        assert hashlib.md5(unpacked).hexdigest() == md5
