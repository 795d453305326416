"""The speaker model is judged by voices that it never heard, as people use it."""

from pathlib import Path

import pytest
import soundfile
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from streamdrnn import DilatedRNN, SpeakerEmbedder, save_model
from streamdrnn.apps.speaker_id.scores import cosine_scorer
from streamdrnn.apps.training import embedder_judgement, embedder_peers, score_calibration
from streamdrnn.apps.training.children import CHILDREN
from streamdrnn.apps.training.embedder_judgement import (
    Comparison,
    Part,
    embedding,
    fold_models,
    judge,
    markdown,
    milliseconds,
)
from streamdrnn.apps.training.embedder_peers import Resemblyzer
from streamdrnn.apps.training.voices import CORPORA, RATE, Voice
from streamdrnn.audio import LogMel
from tests.apps.test_cli import Run, run
from tests.audio.signals import voice_like

__all__ = ["run"]


@pytest.fixture(autouse=True)
def few_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedder_judgement, "SECONDS", ((3.0, 3.0), (10.0, 1.1), embedder_judgement.IN_USE))
    monkeypatch.setattr(embedder_judgement, "DIFFERENT", 500)


def voices(corpus: str, speakers: int, sessions: int = 1, seconds: float = 17.0) -> list[Voice]:
    """Everybody's samples are all the same number, a multiple of 100."""
    return [
        Voice(
            corpus,
            f"w{speaker}",
            {str(n): [torch.full((round(seconds * RATE),), 100 * speaker, dtype=torch.int16)] for n in range(sessions)},
        )
        for speaker in range(speakers)
    ]


def knows_all(samples: Tensor) -> Tensor:
    """Embeddings that are alike for segments of one voice only."""
    return one_hot((samples[:, len(samples[0]) // 2] * 327.68).round().long().clamp(0, 99), 100).float()


def knows_none(samples: Tensor) -> Tensor:
    """Embeddings that are all alike."""
    return torch.ones(len(samples), 1)


@pytest.mark.parametrize(
    ("embed", "threshold", "accepted", "refused", "confused"),
    [(knows_all, 0.5, 0, 0, 0), (knows_all, 1.5, 0, 1, 0), (knows_none, 0.5, 1, 0, 0.9), (knows_none, 1.5, 0, 1, 0)],
)
def test_names_given_to_ten_and_to_strangers(
    embed: embedder_judgement.Embed, threshold: float, accepted: float, refused: float, confused: float
) -> None:
    (found,) = judge([Part(embed, voices("wuw2", 24, sessions=2))], threshold).open_set
    assert (found.corpus, found.enrolled) == ("wuw2", 10)
    assert found.accepted.value == accepted
    assert found.refused.value == refused
    assert found.confused.value == pytest.approx(confused, abs=0.05)


@pytest.mark.parametrize(("cosine", "refused"), [(0.5, 0), (0.8, 0), (0.99, 1), (1.5, 1), (-1.5, 0)])
def test_names_are_given_by_probability_where_there_are_scorers(cosine: float, refused: float) -> None:
    """The scorer's odds are even at a cosine; of ten voices that are as probable none is named."""
    scorers = {"wuw2": cosine_scorer(cosine, 100)}
    judgement = judge([Part(knows_all, voices("wuw2", 24, sessions=2), scorers)], threshold=7.0)
    assert (judgement.decides, judgement.threshold) == ("probability", 0.5)
    (found,) = judgement.open_set
    assert (found.accepted.value, found.refused.value) == (0, refused)


def test_strangers_are_other_voices_where_a_part_has_few() -> None:
    (found,) = judge([Part(knows_all, voices("wuw2", 7, sessions=2))], 0.5).open_set
    assert found.enrolled == 3
    assert found.accepted.value == 0


def test_trials_are_made_within_a_part_and_counted_together() -> None:
    some = voices("wuw2", 12, sessions=2)
    judgement = judge([Part(knows_all, some[:6]), Part(knows_all, some[6:])])
    assert 0 < judgement.threshold <= 1
    assert all(row.errors.speakers == 12 for row in judgement.verification)
    assert all(row.errors.eer == (0, 0, 0) for row in judgement.verification)
    # Each model takes the voices of the other part for its own; no trial asks it.
    again = judge([Part(knows_all, some[:6]), Part(knows_all, some[:6])])
    assert all(row.errors.eer.value == 0 for row in again.verification)


def test_telephones_and_children_are_told_apart() -> None:
    speakers = sorted(speaker for _, speaker in CHILDREN)[:6]
    wideband = [
        voice._replace(speaker=speakers[number // 2] if number % 2 else voice.speaker)
        for number, voice in enumerate(voices("speechocean762", 12))
    ]
    judgement = judge([Part(knows_all, [*wideband, *voices("wuw2", 6, sessions=2)])], 0.5)
    rows = {
        (row.corpus, row.voices, row.own, row.enrolled, row.tried): row.errors.speakers
        for row in judgement.verification
    }
    assert rows["speechocean762", "children", "same session", 3, 3] == 6
    assert rows["speechocean762", "adults", "same session", 3, 3] == 6
    assert rows["speechocean762", "all", "over a telephone", 10, 3] == 12
    assert rows["wuw2", "all", "another session", 10, 1.1] == 6
    assert not any(corpus == "wuw2" and own == "over a telephone" for corpus, _, own, *_ in rows)
    assert not any(corpus != "wuw2" and own == "another session" for corpus, _, own, *_ in rows)


def small_model(seed: int = 0) -> SpeakerEmbedder:
    torch.manual_seed(seed)
    frontend = LogMel(RATE, hop_length=320, n_mels=16)
    return SpeakerEmbedder(DilatedRNN(16, 8, num_layers=1), 4, frontend)


def test_many_voices_are_embedded_as_each_alone() -> None:
    model, samples = (
        small_model(),
        torch.stack([voice_like(8000, seed) for seed in range(embedder_judgement.BATCH + 3)]),
    )
    together = embedding(model)(samples)
    torch.testing.assert_close(together[-1:], embedding(model)(samples[-1:]))
    assert together.shape == (embedder_judgement.BATCH + 3, 4)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(len(together)))


def save_folds(folder: Path, folds: int, there: tuple[int, ...]) -> None:
    for fold in there:
        notes = {"fold": str(fold), "folds": str(folds)}
        save_model(small_model(fold), folder / f"fold-{fold + 1}.safetensors", notes)


def test_each_fold_is_judged_by_its_own_voices(tmp_path: Path) -> None:
    everybody = [*voices("wuw2", 5), *voices("arabic_sc", 4)]
    with pytest.raises(FileNotFoundError, match=r"no fold-1\.safetensors"):
        fold_models(tmp_path, everybody)
    save_folds(tmp_path, 3, (0, 2))
    (first, of_first), (third, of_third) = fold_models(tmp_path, everybody)
    assert [voice.speaker for voice in of_first] == ["w0", "w3", "w0", "w3"]
    assert [voice.speaker for voice in of_third] == ["w2", "w2"]
    samples = voice_like(4000)[None]
    torch.testing.assert_close(embedding(third)(samples), embedding(small_model(2))(samples))
    assert not torch.allclose(embedding(first)(samples), embedding(third)(samples))
    save_model(small_model(1), tmp_path / "fold-2.safetensors")
    with pytest.raises(ValueError, match=r"fold-2.*expected the model of a fold"):
        fold_models(tmp_path, everybody)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with some voices of two corpora."""
    for speaker in range(6):
        for name in (
            f"librispeech/{speaker}-1-0000.flac",
            f"voices/wuw2/w{speaker}/call1_1.flac",
            f"voices/wuw2/w{speaker}/call2_1.flac",
        ):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, voice_like(14 * RATE, speaker).numpy(), RATE)
    return tmp_path


def test_the_command_judges_models_beside_a_peer(
    run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folds = tmp_path / "folds"
    folds.mkdir()
    save_folds(folds, 2, (0, 1))
    monkeypatch.setitem(embedder_peers.PEERS, "resemblyzer", lambda: embedding(small_model(3)))
    monkeypatch.setattr(score_calibration, "NEAREST", 3)
    ours = ("evaluate", "embedder", "--data-dir", data, "--folds", folds, "--peer", "resemblyzer")
    outcome = run(*ours, "--json")
    assert outcome.code == 0, outcome.err
    (found,) = outcome.objects()
    decided = {name: judgement["decides"] for name, judgement in found["judgements"].items()}  # type: ignore[attr-defined]
    assert decided == {"streamdrnn": "probability", "resemblyzer": "cosine"}
    assert set(found["judgements"]) == set(found["milliseconds"]) == {"streamdrnn", "resemblyzer"}  # type: ignore[call-overload]
    rows = found["judgements"]["resemblyzer"]["verification"]  # type: ignore[index]
    assert {row["corpus"] for row in rows} == {"librispeech", "wuw2"}
    low, high = rows[0]["errors"]["eer"][1:]
    assert 0 <= low <= high <= 1
    shown = run(*ours).out
    assert "| another session" in shown
    assert "resemblyzer min DCF" in shown
    # A model whose notes say whom it never heard is judged by those, as its fold is.
    (folds / "fold-2.safetensors").unlink()
    alone = ("evaluate", "embedder", "--data-dir", data, "--model", folds / "fold-1.safetensors")
    of_fold, of_model = (run(*options, "--json").objects()[0] for options in (ours[:6], alone))
    assert of_fold["judgements"] == of_model["judgements"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--folds", "nowhere"), "nowhere: no fold-1.safetensors in it"),
        (("--folds", "x", "--model", "y"), "--folds: has its own models, expected no --model"),
        (("--peer", "resemblyzer"), "--peer resemblyzer: not installed: pip install --no-deps resemblyzer==0.1.4"),
        (("--stream",), "--stream: the embedder is always measured"),
    ],
)
def test_a_wrong_call_is_one_line(
    run: Run, data: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], problem: str
) -> None:
    monkeypatch.setattr(embedder_peers, "find_spec", lambda name: None)
    run("evaluate", "embedder", "--data-dir", data, *options).is_one_line_about(problem)
    run("evaluate", "activity", "--peer", "resemblyzer").is_one_line_about("--peer: only for evaluate embedder")


def test_models_take_turns_and_cost_what_they_cost() -> None:
    turns: list[str] = []

    def slow(samples: Tensor) -> Tensor:
        turns.append("slow")
        for _ in range(30):
            samples = samples.sort().values.flip(1)
        return samples

    def quick(samples: Tensor) -> Tensor:
        turns.append("quick")
        return samples

    costs = milliseconds({"slow": slow, "quick": quick}, rounds=3)
    assert turns == ["slow", "quick"] * 3
    assert costs["slow"] > costs["quick"] >= 0


def test_tables_have_a_row_for_each_kind_of_trial() -> None:
    judgement = judge([Part(knows_all, voices("wuw2", 6, sessions=2))], 0.5)
    text = markdown(Comparison({"streamdrnn": judgement, "other": judgement}, {"streamdrnn": 1.26, "other": 20.0}))
    lines = [line for line in text.splitlines() if line.startswith("| wuw2")]
    assert len(lines) == len(judgement.verification) + len(judgement.open_set)
    assert len({len(line) for line in lines[:-1]}) == 1, "columns are aligned"
    assert "streamdrnn 1.3 ms, other 20.0 ms" in text


def test_resemblyzer_hears_windows_at_a_level(tmp_path: Path) -> None:
    torch.manual_seed(0)
    untrained = torch.nn.ModuleDict({"lstm": torch.nn.LSTM(40, 256, num_layers=3), "linear": torch.nn.Linear(256, 256)})
    torch.save(
        {"model_state": {**untrained.state_dict(), "similarity_bias": torch.zeros(1)}}, tmp_path / "pretrained.pt"
    )
    model = Resemblyzer(tmp_path / "pretrained.pt")
    samples = torch.stack([0.01 * voice_like(3 * RATE, seed) for seed in range(2)])
    found = model(samples)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(model(samples[1:] / 10), found[1:], atol=1e-5, rtol=0)
    # Windows begin each 0.77 s: the last of 3 s begins at 1.54 s, and what it lacks is silence.
    filled = torch.nn.functional.pad(samples, (0, round(0.14 * RATE)))
    loud = 10 ** (-1.5) / samples.square().mean(1, keepdim=True).sqrt() * filled
    torch.testing.assert_close(model(loud), found, atol=1e-3, rtol=0)


def test_every_child_is_of_a_corpus() -> None:
    assert {corpus for corpus, _ in CHILDREN} <= set(CORPORA)
    assert ("speechocean762", "speaker0001") in CHILDREN
