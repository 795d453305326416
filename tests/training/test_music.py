"""Music that is synthesised to train detectors: it has pitch and onsets, and no voice."""

import numpy as np
import pytest

from streamdrnn.apps.speaker_id.activity import SPEECH
from streamdrnn.apps.training.labelled_speech import RATE, judge, root_mean_square
from streamdrnn.apps.training.music import MAJOR, SCALES, Instrument, _pitch, _play, music
from streamdrnn.apps.training.silero import Silero

CLIPS = music(np.random.default_rng(0), 20)


def test_clips_are_of_one_loudness_and_differ() -> None:
    for clip in CLIPS:
        assert clip.shape == (5 * RATE,)
        assert clip.dtype == np.float32
        assert root_mean_square(clip) == pytest.approx(1, rel=1e-5)
    spectra = np.stack([np.abs(np.fft.rfft(clip))[: 5 * 4000].reshape(-1, 100).mean(1) for clip in CLIPS])
    assert np.median(np.corrcoef(spectra)[~np.eye(len(CLIPS), dtype=bool)]) < 0.85


def test_the_same_numbers_make_the_same_music() -> None:
    again = music(np.random.default_rng(0), 2)
    assert all(np.array_equal(one, other) for one, other in zip(again, CLIPS, strict=False))


def test_a_large_detector_hears_hardly_any_voice() -> None:
    detector = Silero()
    heard = [float((judge(0.05 * clip, detector) >= SPEECH).mean()) for clip in CLIPS]
    assert np.mean(heard) < 0.08


def test_degrees_are_those_of_a_scale() -> None:
    assert _pitch(MAJOR, 220.0, 5) == pytest.approx(220 * 2 ** (9 / 12))
    for scale in SCALES:
        assert _pitch(scale, 50.0, 2 * len(scale)) == pytest.approx(200)


def test_a_note_has_the_harmonics_of_its_instrument() -> None:
    heard = np.zeros(RATE)
    _play(heard, Instrument(np.array([1.0, 0.0, 0.5]), 0.0, 0.01, 0.0, 0.0, 5.0), 200.0, 0.0, 1.0)
    spectrum = np.abs(np.fft.rfft(heard))
    assert sorted(np.argsort(spectrum)[-2:]) == [200, 600]
    assert spectrum[600] / spectrum[200] == pytest.approx(0.5, rel=0.01)


def test_a_note_ends_with_the_clip_and_keeps_below_half_the_rate() -> None:
    heard = np.zeros(RATE // 2)
    _play(heard, Instrument(np.ones(24), 5e-4, 0.001, 1.0, 0.01, 6.0), 3000.0, 0.25, 1.0)
    assert not heard[: RATE // 4].any()
    assert heard[RATE // 4 + 100 :].any()
    assert np.isfinite(heard).all()
    _play(heard, Instrument(np.ones(2), 0.0, 0.001, 1.0, 0.0, 6.0), 300.0, 0.5, 1.0)
