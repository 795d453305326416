"""The demo: what is really true stands beside what was decided, and is counted."""

import json
from pathlib import Path

import pytest
import soundfile
from pyannote.core import Annotation, Timeline
from pyannote.core import Segment as Stretch
from pyannote.database.util import load_rttm
from pyannote.metrics.diarization import DiarizationErrorRate
from pyannote.metrics.identification import IdentificationErrorRate

from streamdrnn.apps.cli import main
from streamdrnn.apps.speaker_id import demo
from streamdrnn.apps.speaker_id.demo import Demo
from streamdrnn.apps.speaker_id.demo_score import Score, Truth
from streamdrnn.apps.speaker_id.turns import Segment
from tests.apps.speaker_id.demo_voices import CONVERSATION, enrolled, script

SCRIPT = {
    "turns": [
        {"start": 0.0, "end": 2.0, "speaker": "a", "heard": "table"},
        {"start": 3.0, "end": 4.0, "speaker": None, "heard": "laptop"},
    ],
    "music": {"start": 4.2, "end": 6.0},
}


def test_the_score_is_the_share_of_the_speech_that_was_attributed_right() -> None:
    score = Score(SCRIPT)
    assert score.right == 0.0, "nobody has spoken yet"
    assert score.add(Segment(0.0, 1.5, "a", 0.5)) == [Truth("a (table)", True)]
    assert score.right == 1.0
    assert score.add(Segment(1.5, 2.5, "b", 0.5)) == [Truth("a (table)", False)]
    assert score.right == pytest.approx(0.75)
    assert score.add(Segment(2.5, 3.8, None, 0.1)) == [Truth("a stranger (laptop)", True)]
    assert score.right == pytest.approx(2.3 / 2.8)
    assert score.turns_right == 2


def test_silence_in_a_strangers_turn_is_not_right() -> None:
    score = Score(SCRIPT)
    assert score.add(Segment(2.9, 4.1, None, 0.0, nobody="(silence)")) == [Truth("a stranger (laptop)", False)]
    assert (score.right, score.turns_right) == (0.0, 0)


def test_music_and_pauses_are_nobody() -> None:
    score = Score(SCRIPT)
    assert score.add(Segment(2.1, 2.9, None, 0.0, nobody="(silence)")) == [Truth("nobody", True)]
    assert score.add(Segment(4.1, 5.0, None, 0.3)) == [Truth("nobody (music)", False)]
    assert score.add(Segment(5.0, 6.0, None, 0.0, nobody="(no speech)")) == [Truth("nobody (music)", True)]


def test_the_demo_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    Demo(json=True).run()
    *segments, summary = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert summary["turns"] == len(script()["turns"])
    assert summary["right"] >= 0.7
    assert summary["turns_right"] >= 9
    assert {turn["speaker"] for turn in script()["turns"]} == {segment["speaker"] for segment in segments}
    score = Score(script())
    for one in segments:
        segment = Segment(one["start"], one["end"], one["speaker"], one["score"], nobody=one["label"])
        assert one["really"] == [truth._asdict() for truth in score.add(segment)]
    assert (round(score.right, 4), score.turns_right) == (summary["right"], summary["turns_right"])


def test_the_demo_for_people(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Demo().run()
    out = capsys.readouterr().out
    for words in (
        "enrolled Heather",
        "who really speaks",
        "a stranger (laptop)  ",
        "turns right",
        "of 12",
        "enroll YOU",
    ):
        assert words in out
    assert str(tmp_path / "streamdrnn-demo.png") in out
    assert (tmp_path / "streamdrnn-demo.png").read_bytes().startswith(b"\x89PNG")
    assert max(map(len, out.splitlines()[:-4])) <= 80


def test_a_picture_that_cannot_be_drawn_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    score = Score(script())
    decided = [Segment(0.0, 47.0, "Heather", 0.5)]
    assert "No such file" in Demo(plot=tmp_path / "gone" / "a.png")._draw(decided, score)
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    assert "pip install '.[demo]'" in Demo(plot=tmp_path / "a.png")._draw(decided, score)


def test_pyannote_counts_as_much_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its error rates of our RTTM against the turns."""
    enrolled(tmp_path / "p.sqlite3")
    main(["identify", str(CONVERSATION), "--profiles", str(tmp_path / "p.sqlite3"), "--format", "rttm"])
    (tmp_path / "demo.rttm").write_text(capsys.readouterr().out, encoding="utf-8")
    ours = load_rttm(tmp_path / "demo.rttm")["conversation"]

    score, turns = Score(script()), Annotation()
    for turn in score.turns:
        turns[Stretch(turn.start, turn.end)] = turn.label
    for stretch, _, name in ours.itertracks(yield_label=True):
        score.add(Segment(stretch.start, stretch.end, None if name == "(unknown)" else name, 0.5))
    whole = Timeline([Stretch(0, soundfile.info(CONVERSATION).duration)])
    within_turns = IdentificationErrorRate()(turns, ours, uem=turns.get_timeline())
    assert 1 - within_turns == pytest.approx(score.right, abs=1e-6)
    # Beside what is wrong within turns, what is named in pauses and in the music.
    errors = DiarizationErrorRate(collar=0.5)(turns, ours, uem=whole, detailed=True)
    assert errors["false alarm"] / errors["total"] < 0.15, errors  # the music alone would add 0.09


def test_the_readers_are_named_for_training_to_leave_out() -> None:
    numbers = {reader.partition("(")[2].partition("-")[0] for reader in script()["readers"]}
    assert set(script()["speakers"]) == numbers
    assert len(numbers) == 5
