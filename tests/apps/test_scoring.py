"""`streamdrnn score`: the same file from one process and from several, and recordings that cannot be read."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from streamdrnn import Classifier, DilatedRNN, Tagger, load_model, save_model
from streamdrnn.apps.cli import main
from streamdrnn.audio import RawWaveform, load_audio
from streamdrnn.heads import Head


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "model.safetensors"
    save_model(Classifier(DilatedRNN(8, 5, 3), 3, "mean", RawWaveform(8, 8000)), path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    random = np.random.default_rng(0)
    for name, seconds in {"b/two.flac": 1.3, "b/one.wav": 0.4, "a.flac": 0.1, "c/d/e.WAV": 2.1}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, 0.1 * random.standard_normal(int(8000 * seconds)), 8000)
    (folder / "notes.txt").write_text("no sound")
    return folder


def read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        found: dict[str, np.ndarray] = dict(file)
    assert found["recordings"].tolist() == ["a.flac", "b/one.wav", "b/two.flac", "c/d/e.WAV"]
    return found


def score(model: object, folder: Path, out: Path, *options: object) -> None:
    main(["score", str(model), str(folder), "--out", str(out), *map(str, options)])


def test_every_recording_is_scored_as_a_whole(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "scores.npz"
    score(model, folder, out, "--json")
    assert json.loads(capsys.readouterr().out) == {"out": str(out), "scored": 4, "failed": 0}
    scores, loaded = read(out), load_model(model)
    assert isinstance(loaded, Head)
    for name, output in zip(scores["recordings"], scores["outputs"], strict=True):
        with torch.no_grad():
            y, _ = loaded(load_audio(folder / name, 8000)[:, None])
        torch.testing.assert_close(torch.from_numpy(output), y[-1, 0])


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::Warning:ray.data.context")  # it warns of itself
def test_several_processes_write_the_same_file(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("streamdrnn.apps.scoring.on_ray", reason="several processes need the extra scale")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # else a token is written into the home folder
    (folder / "broken.wav").write_bytes(b"RIFF")
    for workers in (1, 2):
        with pytest.raises(SystemExit, match="1"):
            score(model, folder, tmp_path / f"{workers}.npz", "--workers", workers)
        err = capsys.readouterr().err.splitlines()
        assert len(err) == 2, err
        assert "broken.wav: " in err[0]
        assert err[1] == "streamdrnn: 1 of 5 recordings could not be scored"
    one, two = read(tmp_path / "1.npz"), read(tmp_path / "2.npz")
    np.testing.assert_array_equal(one["outputs"], two["outputs"])


def test_what_cannot_be_scored_is_one_line(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, tagger = tmp_path / "x.npz", tmp_path / "tagger.safetensors"
    save_model(Tagger(DilatedRNN(3, 4, 2), 2), tagger)
    (tmp_path / "empty").mkdir()
    wrong: list[tuple[tuple[object, ...], str]] = [
        ((model, tmp_path / "none", out), "none: no such folder"),
        ((model, tmp_path / "empty", out), "no recordings"),
        ((model, folder, tmp_path / "x.csv"), "expected a name that ends in .npz"),
        ((model, folder, out, "--workers", 0), "workers: expected 1 or more"),
        ((tagger, folder, out), "expected a model that judges samples"),
        ((tmp_path / "no.safetensors", folder, out), "no such file"),
    ]
    for (which, where, target, *options), problem in wrong:
        with pytest.raises(SystemExit, match="1"):
            score(which, Path(str(where)), Path(str(target)), *options)
        err = capsys.readouterr().err
        assert problem in err
        assert err.count("\n") == 1
    assert not out.exists()
