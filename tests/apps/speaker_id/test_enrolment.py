"""Enrolment hears clear speech only, tells how much, and calibration measures with the same ears."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch.nn.functional import normalize

from streamdrnn.apps.speaker_id.activity import SPEECH, SpeechDetector
from streamdrnn.apps.speaker_id.calibration import (
    ENROLMENT_SHARE,
    _hear,
    calibrate,
    check_calibration,
    error_rates,
    recordings_by_speaker,
)
from streamdrnn.apps.speaker_id.ear import Ear
from streamdrnn.apps.speaker_id.enrolment import Enrolment, Progress, enrol, likenesses, listen_to, record
from streamdrnn.apps.speaker_id.exchange import FORMAT, export_profiles, import_profiles
from streamdrnn.apps.speaker_id.model import asset, load_speaker_model
from streamdrnn.apps.speaker_id.profiles import ProfileStore, Recording, clean_name
from streamdrnn.apps.speaker_id.sources.source import Source
from streamdrnn.audio import load_audio

MODEL = load_speaker_model()
PAUL = load_audio(asset("paul.flac"))


def test_speech_is_told_from_silence_and_noise_whatever_the_chunks() -> None:
    noise = 0.01 * torch.randn(16000, generator=torch.Generator().manual_seed(0))
    sound = torch.cat([torch.zeros(16000), PAUL[:32000], noise])
    whole = SpeechDetector(16000).push(sound)
    detector = SpeechDetector(16000)
    assert [p for chunk in sound.split(777) for p in detector.push(chunk)] == whole
    detector.push(PAUL[32000:40000])
    detector.reset()
    assert detector.push(sound) == whole
    assert len(whole) == (len(sound) - 512) // 320 + 1, "a window of 32 ms every 20 ms"
    assert max(whole[:48]) < SPEECH
    assert sum(p >= SPEECH for p in whole[52:145]) > 55
    assert max(whole[-25:]) < SPEECH


def test_it_ends_when_enough_clear_speech_was_heard_not_after_a_time() -> None:
    sound = torch.cat([torch.zeros(32000), PAUL])
    source = Source("test", 16000, capacity=60)
    for block in sound.split(320):
        source.push(block)
    source.end()
    shown: list[Progress] = []
    enrolment = Enrolment(MODEL)
    record(source, MODEL, enrolment, 2.0, shown.append)
    assert enrolment.progress.seconds == 2.0
    assert len(shown) * 0.02 >= 4.0, "two seconds of silence do not count"
    assert source.depth > 0.5, "the rest was not listened to"
    assert not shown[50].speaking
    assert shown[50].level < -100 < shown[-1].level
    recording = enrolment.finish()
    assert recording.seconds == 2.0
    assert float(recording.embedding @ listen_to(asset("paul.flac"), MODEL).embedding) > 0.8


def test_what_is_too_loud_is_not_clear() -> None:
    enrolment = Enrolment(MODEL)
    enrolment.hear(Ear(MODEL.embedder).push((PAUL * 100).clamp(-1, 1)))
    assert enrolment.progress.seconds < 0.5
    with pytest.raises(ValueError, match=r"s of clear speech, expected 1 s or more"):
        enrolment.finish()


def units(seed: int) -> torch.Tensor:
    return normalize(torch.randn(8, generator=torch.Generator().manual_seed(seed)), dim=0)


def test_profiles_go_elsewhere_and_come_back_once(tmp_path: Path) -> None:
    store, other = ProfileStore(tmp_path / "a.sqlite3"), ProfileStore(tmp_path / "b.sqlite3")
    store.add("Ünal", "0" * 16, [Recording(3.0, units(0)), Recording(1.0, units(1))])
    export_profiles(store, tmp_path / "voices.json")
    for _ in range(2):
        import_profiles(other, tmp_path / "voices.json")
    assert other.profiles() == store.profiles()
    assert torch.equal(other.voices("0" * 16)["Ünal"].embedding, store.voices("0" * 16)["Ünal"].embedding)


GOOD = {"name": "a", "model": "0" * 16, "seconds": 1.0, "embedding": [1.0, 0.0]}


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"name": "two\nlines"}, "name: expected"),
        ({"name": 3}, "name: expected text"),
        ({"model": "../../etc"}, "hexadecimal"),
        ({"seconds": -1}, "a number above 0"),
        ({"seconds": True}, "a number above 0"),
        ({"embedding": [2.0, 0.0]}, "expected length 1"),
        ({"embedding": []}, "finite numbers"),
        ({"embedding": [float("nan")]}, "finite numbers"),
        ({"more": 1}, "expected an object with"),
    ],
    ids=str,
)
def test_an_import_of_nonsense_is_refused_as_a_whole(tmp_path: Path, wrong: dict[str, object], problem: str) -> None:
    path = tmp_path / "voices.json"
    path.write_text(json.dumps({"format": FORMAT, "recordings": [GOOD, {**GOOD, **wrong}]}))
    store = ProfileStore(tmp_path / "p.sqlite3")
    with pytest.raises(ValueError, match=problem):
        import_profiles(store, path)
    assert store.profiles() == []


@pytest.mark.parametrize("text", ["", "no json", "[]", "{}", '{"format": "other"}', "[" * 100_000])
def test_what_is_no_export_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "voices.json").write_text(text)
    with pytest.raises(ValueError, match=r"voices\.json: no profiles that can be imported"):
        import_profiles(ProfileStore(tmp_path / "p.sqlite3"), tmp_path / "voices.json")


def test_an_export_of_nobody_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nobody is enrolled"):
        export_profiles(ProfileStore(tmp_path / "p.sqlite3"), tmp_path / "voices.json")
    assert list(tmp_path.iterdir()) == []


def test_renaming_and_offsets(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path / "p.sqlite3")
    assert store.offset("m") == 0
    store.set_offset("m", -0.4)
    store.set_offset("m", 0.5)
    assert (store.offset("m"), store.offset("n")) == (0.5, 0.0)
    store.add("a", "m", [Recording(1.0, units(0))])
    store.add("b", "m", [Recording(1.0, units(1))])
    with pytest.raises(ValueError, match="there is a profile 'b' already"):
        store.rename("a", "b")
    with pytest.raises(ValueError, match="no profile 'c'"):
        store.rename("c", "d")
    store.rename("a", "c")
    assert [profile.name for profile in store.profiles()] == ["b", "c"]


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_error_rates_of_known_ratios() -> None:
    own = [np.array([4.0, 3.0]), np.array([2.0, -3.0])]
    others = [np.array([-4.0, -4.0]), np.array([-1.0, -6.0])]
    result = error_rates(own, others)
    assert (result.speakers, result.windows) == (2, 4)
    assert result.eer == pytest.approx(0.25, abs=0.126)
    shown = zip(result.thresholds, result.far, result.frr, strict=True)
    at = {threshold: errors for threshold, *errors in shown}
    for threshold in (0.5, 0.9, 0.05):
        reached = logit(threshold) - result.offset
        assert at[threshold] == [np.mean(np.concatenate(others) >= reached), np.mean(np.concatenate(own) < reached)]
    assert result.far == sorted(result.far, reverse=True)
    assert result.frr == sorted(result.frr)


@pytest.mark.parametrize("shift", [-6.0, 0.0, 3.0])
def test_the_offset_is_inside_the_gap(shift: float) -> None:
    """Own ratios of 6 to 9, others' of -8 to -4: right is what is in between, not the lowest of the own."""
    random = np.random.default_rng(0)
    own = [random.uniform(6, 9, 30) + shift for _ in range(3)]
    others = [random.uniform(-8, -4, 60) + shift for _ in range(3)]
    result = error_rates(own, others)
    assert -4 + shift < -result.offset < 6 + shift
    assert result.low <= result.offset <= result.high
    assert result.high - result.low < 3
    assert result.eer == 0
    check_calibration(result)


def test_a_calibration_that_says_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="6 windows of speech to test with, expected 20 or more"):
        check_calibration(error_rates([np.full(3, 5.0)] * 2, [np.full(3, -5.0)] * 2))
    same = [np.random.default_rng(0).normal(size=50)] * 2
    with pytest.raises(ValueError, match=r"equal error rate 5\d\.\d%.*is each folder of one person"):
        check_calibration(error_rates(same, same))


def test_calibration_of_a_folder(tmp_path: Path) -> None:
    for name in ("paul", "heather", "deborah"):
        (tmp_path / name).mkdir()
        samples = load_audio(asset(f"{name}.flac"))
        soundfile.write(tmp_path / name / "a.wav", samples.numpy(), 16000)
    found = recordings_by_speaker(tmp_path)
    assert sorted(found) == ["deborah", "heather", "paul"]
    result = calibrate(MODEL, found)
    assert result.speakers == 3
    assert result.windows >= 3
    assert result.eer <= 0.2
    assert result.low <= result.offset <= result.high


def test_calibration_enrols_the_first_part_of_all_recordings() -> None:
    both = torch.cat([PAUL, PAUL])
    profile, _, _ = _hear(MODEL, "paul", [asset("paul.flac")] * 2)
    enrolled = enrol([both[: int(ENROLMENT_SHARE * len(both))]], MODEL)
    assert torch.equal(profile.embedding, enrolled.embedding)


def test_calibration_passes_over_no_format(tmp_path: Path) -> None:
    names = ["1.wav", "2.M4A", "3.opus", "4.aiff", "5.webm", "6.wma", "7.mp4"]
    for name in ("anna", "bob"):
        (tmp_path / name).mkdir()
        for recording in (*names, "notes.txt"):
            (tmp_path / name / recording).touch()
    assert [path.name for path in recordings_by_speaker(tmp_path)["anna"]] == names


def test_calibration_needs_two_speakers(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="recordings of 0 speakers, expected two or more"):
        recordings_by_speaker(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        recordings_by_speaker(tmp_path / "gone")


def heard(*samples: torch.Tensor) -> Recording:
    return enrol(samples, MODEL)


def test_two_people_in_one_recording_are_noticed() -> None:
    heather = load_audio(asset("heather.flac"))
    both = heard(PAUL[:80000], heather[:80000])
    assert [warning for warning in both.warnings if "more than one person" in warning]
    for alone in (PAUL, heather):
        assert not heard(alone).warnings


def test_what_makes_a_recording_poor_is_told() -> None:
    assert heard(PAUL[:48000]).warnings == ("2.1 s of clear speech, 5 s or more would be surer",)
    assert any("is quiet" in warning for warning in heard(0.002 * PAUL).warnings)
    loud = heard(PAUL[:60000], (PAUL[60000:] * 100).clamp(-1, 1))
    assert any("too loud" in warning for warning in loud.warnings)


def test_a_voice_under_two_names_and_two_under_one_are_told(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path / "p.sqlite3")
    heather = listen_to(asset("heather.flac"), MODEL)
    assert likenesses(MODEL, "Paul", heard(PAUL[:80000]), store) == []
    store.add("Paul", MODEL.id, [heard(PAUL[:80000])])
    more = heard(PAUL[80000:])
    assert likenesses(MODEL, "paul", more, store) == []
    assert likenesses(MODEL, "Carla", more, store) == ["it sounds like Paul, who is enrolled already"]
    assert likenesses(MODEL, "Carla", heather, store) == []
    assert likenesses(MODEL, "Paul", heather, store) == ["it does not sound like the earlier recordings of Paul"]


def test_one_person_is_one_profile_however_the_name_is_written(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path / "p.sqlite3")
    for number, name in enumerate(("Zoë", " Zoë ", "zoe\u0308", "ZOË")):
        assert store.add(name, "m", [Recording(1.0, units(number))]) == "Zoë"
    [profile] = store.profiles()
    assert (profile.name, profile.recordings) == ("Zoë", 4)
    store.rename("zoë", "ZOË")
    store.remove("Zoë")
    assert store.profiles() == []


@pytest.mark.parametrize("name", ["(unknown)", " (silence) ", "(Anna)"])
def test_labels_are_no_names(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="could be a label"):
        ProfileStore(tmp_path / "p").add(name, "m", [Recording(1.0, units(0))])
    assert clean_name("Anna (CEO)") == "Anna (CEO)"
