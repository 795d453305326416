"""Profiles are kept whole: several recordings add up, and nothing is half written."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from streamdrnn.apps.speaker_id.profiles import ProfileStore, Recording


def unit(seed: int) -> Tensor:
    return normalize(torch.randn(8, generator=torch.Generator().manual_seed(seed)), dim=0)


@pytest.fixture
def store(tmp_path: Path) -> ProfileStore:
    return ProfileStore(tmp_path / "new folder" / "profiles.sqlite3")


def test_reading_makes_no_file(store: ProfileStore) -> None:
    assert store.profiles() == []
    assert store.voices("m") == {}
    assert not store.path.parent.exists()


def test_recordings_add_up_by_their_lengths(store: ProfileStore) -> None:
    store.add("Ünal", "m", [Recording(3.0, unit(0))])
    store.add("Ünal", "m", [Recording(1.0, unit(1)), Recording(2.0, unit(2))])
    store.add("bo", "m", [Recording(1.0, unit(3))])
    assert [(p.name, p.recordings, p.seconds) for p in store.profiles()] == [("bo", 1, 1.0), ("Ünal", 3, 6.0)]
    voices = ProfileStore(store.path).voices("m")
    assert torch.allclose(voices["Ünal"].embedding, normalize(3 * unit(0) + unit(1) + 2 * unit(2), dim=0))
    assert torch.allclose(voices["bo"].embedding, unit(3))
    assert voices["Ünal"].seconds == 6.0


def test_removing(store: ProfileStore) -> None:
    with pytest.raises(ValueError, match="no profile 'a'"):
        store.remove("a")
    store.add("a", "m", [Recording(1.0, unit(0))])
    with pytest.raises(ValueError, match="no profile 'b' in"):
        store.remove("b")
    store.remove("a")
    assert store.profiles() == []


def test_another_models_profiles_are_noticed(store: ProfileStore) -> None:
    store.add("a", "m", [Recording(1.0, unit(0))])
    with pytest.raises(ValueError, match="profile 'a' was enrolled with another model"):
        store.add("a", "other", [Recording(1.0, unit(1))])
    with pytest.raises(ValueError, match="profile 'a' was enrolled with another model"):
        store.voices("other")
    assert [p.recordings for p in store.profiles()] == [1]


@pytest.mark.parametrize("name", ["", "  ", "x" * 65, "two\nlines", "bell\a"])
def test_names_that_cannot_be_shown_are_refused(store: ProfileStore, name: str) -> None:
    with pytest.raises(ValueError, match="name: expected 1 to 64 printable characters"):
        store.add(name, "m", [Recording(1.0, unit(0))])
    assert not store.path.exists()


def test_names_are_data(store: ProfileStore) -> None:
    name = "Robert'); DROP TABLE recordings;--"
    store.add(name, "m", [Recording(1.0, unit(0))])
    assert [p.name for p in store.profiles()] == [name]


def test_all_recordings_or_none(store: ProfileStore) -> None:
    store.add("a", "m", [Recording(1.0, unit(0))])
    with pytest.raises(ValueError, match="CHECK constraint failed"):
        store.add("a", "m", [Recording(1.0, unit(1)), Recording(0.0, unit(2))])
    assert [p.recordings for p in store.profiles()] == [1]


def test_what_is_no_profile_file_is_named_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, " * 100)
    with pytest.raises(ValueError, match=r"notes\.txt: cannot be used as a profile file"):
        ProfileStore(path).add("a", "m", [Recording(1.0, unit(0))])
    assert path.read_text() == "not a database, " * 100


def test_writers_at_the_same_time_lose_nothing(store: ProfileStore) -> None:
    def enrol(n: int) -> None:
        ProfileStore(store.path).add(f"voice {n % 3}", "m", [Recording(1.0, unit(n))])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(enrol, range(24)))
    assert [p.recordings for p in store.profiles()] == [8, 8, 8]
