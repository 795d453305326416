"""A session that is steered while it listens."""

from pathlib import Path

import pytest
import torch

from streamdrnn.apps.speaker_id.conversation import Conversation
from streamdrnn.apps.speaker_id.enrolment import Enrolled, Enrolling, NotEnrolled
from streamdrnn.apps.speaker_id.profiles import ProfileStore
from streamdrnn.apps.speaker_id.scores import THRESHOLD
from streamdrnn.apps.speaker_id.session import Event, Report, Session
from streamdrnn.apps.speaker_id.sources.source import Chunk
from tests.apps.speaker_id.demo_voices import chunks, conversation_samples, enrolled, model, speech_of


def hear(conversation: Conversation, seconds: float, number: int = 0) -> list[Event]:
    return [event for chunk in chunks(speech_of(number, seconds)) for event in conversation.push(chunk)]


def begin(store: ProfileStore, enough: float = 3.0) -> Conversation:
    return Conversation(model(), store, THRESHOLD, model().sample_rate, enough)


def test_unsteered_it_is_a_session(tmp_path: Path) -> None:
    store = enrolled(tmp_path / "p.sqlite3")
    session = Session(model(), store.voices(model().id), THRESHOLD, model().sample_rate)
    conversation = begin(store)
    for chunk in chunks(conversation_samples(6)):
        assert conversation.push(chunk) == session.push(chunk)
    assert conversation.finish() == session.finish()


def test_a_voice_is_enrolled_while_it_is_heard_and_known_from_then_on(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path / "p.sqlite3")
    conversation = begin(store)
    before = [event for event in hear(conversation, 3) if isinstance(event, Report)]
    assert before[-1].now.label == "(unknown)"
    conversation.enrol("Anna")
    events = hear(conversation, 6)
    under_way = [event for event in events if isinstance(event, Enrolling)]
    assert under_way[0].name == "Anna"
    assert [event.progress.seconds for event in under_way] == sorted(event.progress.seconds for event in under_way)
    assert under_way[-1].progress.seconds < under_way[-1].enough == 3
    (done,) = [event for event in events if isinstance(event, Enrolled)]
    assert done.name == "Anna"
    assert 3 <= done.seconds < 3.3
    assert [(profile.name, profile.recordings) for profile in store.profiles()] == [("Anna", 1)]
    assert conversation.names == ["Anna"]
    after = [event for event in hear(conversation, 4) if isinstance(event, Report)]
    assert after[-1].now.label == "Anna"
    assert after[-1].now.time == pytest.approx(13, abs=0.6), "the clock has gone on"


def test_losses_count_for_an_enrolments_clock_but_not_as_speech(tmp_path: Path) -> None:
    conversation = begin(ProfileStore(tmp_path / "p.sqlite3"))
    conversation.enrol("Anna")
    hear(conversation, 1)
    lost = conversation.push(Chunk(torch.zeros(1600), 160_000, None))
    (progress,) = [event.progress for event in lost if isinstance(event, Enrolling)]
    assert progress.seconds <= 1


def test_an_enrolment_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path / "p.sqlite3")
    conversation = begin(store)
    conversation.enrol("Anna")
    hear(conversation, 1)
    conversation.cancel_enrolment()
    assert next(event for event in hear(conversation, 1) if isinstance(event, NotEnrolled)).name == "Anna"
    assert not any(isinstance(event, Enrolling) for event in hear(conversation, 1))
    conversation.enrol("Ben")
    hear(conversation, 1)
    conversation.enrol("Cleo")
    events = hear(conversation, 1)
    assert isinstance(events[0], NotEnrolled)
    assert {event.name for event in events if isinstance(event, Enrolling)} == {"Cleo"}
    assert [event.name for event in conversation.finish() if isinstance(event, NotEnrolled)] == ["Cleo"]
    assert store.profiles() == []


def test_what_cannot_be_kept_is_told_and_listening_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "p.sqlite3"
    conversation = begin(ProfileStore(path))
    conversation.enrol("Anna")
    path.mkdir()
    (told,) = [event for event in hear(conversation, 5) if isinstance(event, NotEnrolled)]
    assert told.name == "Anna"
    assert str(path) in told.reason
    assert any(isinstance(event, Report) for event in hear(conversation, 2))


@pytest.mark.parametrize("name", ["", " ", "a" * 65, "a\nb"])
def test_a_name_that_cannot_be_is_refused_at_once(tmp_path: Path, name: str) -> None:
    conversation = begin(ProfileStore(tmp_path / "p.sqlite3"))
    with pytest.raises(ValueError, match="name: expected 1 to 64 printable characters"):
        conversation.enrol(name)
    assert not any(isinstance(event, Enrolling) for event in hear(conversation, 0.5))


def test_begun_afresh_it_knows_new_profiles_and_forgets_the_evidence(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path / "p.sqlite3")
    conversation = begin(store)
    reports = [event for event in hear(conversation, 4) if isinstance(event, Report)]
    assert reports[-1].now.evidence > 2
    enrolled(tmp_path / "p.sqlite3")
    conversation.restart()
    reports = [event for event in hear(conversation, 4) if isinstance(event, Report)]
    assert conversation.names == sorted(conversation.names)
    assert len(conversation.names) == 4
    assert reports[0].now.evidence < 1.5
    assert reports[-1].now.label in conversation.names
    assert reports[-1].now.time > 7
