"""The corpora of voices: whose a recording is, and which voices judge which model."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamdrnn.apps.training.voices import CORPORA, Voice, fold_of, load_voices


@pytest.mark.parametrize(
    ("corpus", "recordings", "speakers"),
    [
        ("librispeech", ["103-1240-0000.flac", "train/26/495/26-495-0001.flac"], {"103": {"1240"}, "26": {"495"}}),
        ("wuw2", ["s01/call7_001.wav", "s01/call8_001.wav"], {"s01": {"call7", "call8"}}),
        ("speechocean762", ["a/1.wav", "a/2.wav", "b/1.wav"], {"a": {"1"}, "b": {"1"}}),
    ],
)
def test_a_recording_is_its_speakers(
    corpus: str, recordings: list[str], speakers: dict[str, set[str]], tmp_path: Path
) -> None:
    for name in recordings:
        path = tmp_path / CORPORA[corpus].folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.zeros(1600, np.int16), 16000)
    found = load_voices(tmp_path, [corpus])
    assert {voice.speaker: set(voice.sessions) for voice in found} == speakers
    assert sum(len(said) for voice in found for said in voice.sessions.values()) == len(recordings)
    assert {voice.corpus for voice in found} == {corpus}


def test_folds_are_dealt_out_within_each_corpus() -> None:
    voices = [Voice(corpus, str(i), {}) for corpus, count in (("librispeech", 5), ("wuw2", 3)) for i in range(count)]
    assert fold_of(voices, 4) == [0, 1, 2, 3, 0, 0, 1, 2]
