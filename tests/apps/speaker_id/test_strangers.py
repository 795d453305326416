"""Voices that nobody enrolled keep a number, and can be kept and named."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from streamdrnn.apps.speaker_id.commands.options import keep_heard
from streamdrnn.apps.speaker_id.confirmed import Confirmed, keep_confirmed
from streamdrnn.apps.speaker_id.ear import Ear
from streamdrnn.apps.speaker_id.gathering import Gathering
from streamdrnn.apps.speaker_id.identifier import Identifier
from streamdrnn.apps.speaker_id.profiles import ProfileStore, Recording
from streamdrnn.apps.speaker_id.strangers import Strangers
from streamdrnn.apps.speaker_id.ticks import Tick, tick_zero
from streamdrnn.apps.speaker_id.turns import FixedLagViterbi
from tests.apps.speaker_id.demo_voices import model, recording, speech_of, voices


def ticks_of(*numbers: int) -> list[Tick]:
    """Turns of five seconds of the demo's voices."""
    ear = Ear(model().embedder)
    return ear.push(torch.cat([speech_of(number, 5) for number in numbers])) + ear.finish()


def test_strangers_keep_their_numbers_and_can_be_named(tmp_path: Path) -> None:
    known = {voices()[1].name: recording(voices()[1].path)}
    identifier = Identifier(model(), known, number_strangers=True)
    ticks = ticks_of(0, 1, 3, 0)  # the third voice sounds much like the first, which is another matter
    segments, labels = [], []
    for tick in ticks:
        segments += identifier.hear([tick])
        labels.append(identifier.now().label)
    segments += identifier.finish(20.0)
    middles = [next(one.label for one in segments if one.start <= time < one.end) for time in (2.5, 7.5, 14.0, 18.5)]
    assert middles == ["Speaker 1", voices()[1].name, "Speaker 2", "Speaker 1"]
    assert {one.speaker for one in segments if one.label.startswith("Speaker")} == {None}
    assert labels[-1] == "Speaker 1"
    for before, after in pairwise(segments):
        assert before.end == after.start
    store = ProfileStore(tmp_path / "p.sqlite3")
    keep_heard(identifier, store, model(), "keep")
    store.rename("Speaker 1", "Zoe")
    found = store.voices(model().id)
    assert set(found) == {"Zoe", "Speaker 2"}
    assert found["Zoe"].seconds >= 6, "of both turns"
    assert float(found["Zoe"].embedding @ recording(voices()[0].path).embedding) > 0.8


def test_whoever_is_enrolled_has_no_number() -> None:
    known = {name: recording(path) for name, path in voices()[:2]}
    identifier = Identifier(model(), known, number_strangers=True)
    identifier.hear(ticks_of(0, 1))
    assert identifier.labels == list(known)


def spoken(count: int, total: Tensor) -> Tick:
    return tick_zero(model().embedder)._replace(total=total, frames=count, spoken=count, speech=1.0)


def test_speech_is_gathered_without_pauses_and_by_voice() -> None:
    gathering = Gathering(model().embedder)
    ones = torch.ones_like(tick_zero(model().embedder).total)
    ticks = [spoken(count, count * ones) for count in range(60)]
    assert not any(gathering.take(ticks[i], ticks[i + 1], None) for i in range(19))
    enough = gathering.take(ticks[19], ticks[20], None)
    assert enough is not None
    assert enough.seconds == 2.0
    assert not any(gathering.take(ticks[i], ticks[i + 1], None) for i in range(20, 35))
    gathering.pause()
    assert not any(gathering.take(ticks[i], ticks[i + 1], None) for i in range(35, 50))
    assert not any(gathering.take(ticks[i], ticks[i + 1], "Speaker 1") for i in range(50, 59))


def test_what_enrolled_voices_say_beyond_doubt_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {name: recording(path) for name, path in voices()[:2]}
    identifier = Identifier(model(), known, learn=True)
    identifier.hear(ticks_of(0, 2, 0))
    identifier.finish(15.0)
    assert identifier.confirmed is not None
    assert set(identifier.confirmed.voices) == {voices()[0].name}, "a stranger's speech is nobody's"
    learned = identifier.confirmed.voices[voices()[0].name]
    assert 4.0 <= learned.seconds <= 10.0
    assert float(learned.embedding @ known[voices()[0].name].embedding) > 0.8
    assert Identifier(model(), known).confirmed is None
    monkeypatch.setattr("streamdrnn.apps.speaker_id.identifier.SURE", 1.0)
    doubting = Identifier(model(), known, learn=True)
    doubting.hear(ticks_of(0))
    assert doubting.confirmed is not None
    assert not doubting.confirmed.voices, "a name alone is not enough"


def test_what_is_learned_counts_for_no_more_than_what_was_enrolled(tmp_path: Path) -> None:
    store, (one, other) = ProfileStore(tmp_path / "p.sqlite3"), torch.eye(model().embedder.embedding_size)[:2]
    store.add("Anna", model().id, [Recording(8.0, one)])
    store.add("Bert", model().id, [Recording(8.0, one)])
    confirmed = Confirmed(model().embedder)
    confirmed.voices = {"Anna": Recording(30.0, other), "Bert": Recording(4.9, other), "Gone": Recording(9.0, other)}
    assert keep_confirmed(confirmed, store, model().id) == {"Anna": 8.0}
    found = store.voices(model().id)
    assert {name: voice.seconds for name, voice in found.items()} == {"Anna": 16.0, "Bert": 8.0}
    assert found["Anna"].embedding[:2].tolist() == pytest.approx([0.5**0.5, 0.5**0.5])


def test_names_of_strangers_are_nobodys_and_they_are_not_endless() -> None:
    strangers = Strangers(model().embedder)
    voice = Recording(2.0, torch.eye(4)[0])
    assert strangers.add(voice, ["Speaker 1", "Anna"]) == "Speaker 2"
    names = [strangers.add(voice, ["Speaker 1", "Anna"]) for _ in range(30)]
    assert names[:2] == ["Speaker 3", "Speaker 4"]
    assert names[-1] is None
    strangers.join("Speaker 2", Recording(6.0, torch.eye(4)[1]))
    assert strangers.voices["Speaker 2"].seconds == 8.0
    assert strangers.voices["Speaker 2"].embedding.tolist() == pytest.approx([1 / 10**0.5, 3 / 10**0.5, 0, 0])


def test_a_new_state_takes_what_was_the_firsts() -> None:
    path = FixedLagViterbi(2, 1.0, 4)
    for scores in ([0.0, 2.0], [0.0, 2.0], [2.0, 0.0], [2.0, 0.0]):
        assert path.push(np.array(scores)) is None
    assert path.undecided() == [1, 1, 0, 0]
    path.split_first_state()
    assert path.undecided() == [1, 1, 2, 2]
    assert path.push(np.array([0.0, 0.0, 2.0])) == 1
    assert path.undecided() == [1, 2, 2, 2]
