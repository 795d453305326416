"""Identification is a stream: the chunks do not matter, and memory does not grow."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from streamdrnn import DilatedRNN, SpeakerEmbedder
from streamdrnn.apps.speaker_id.identifier import Identifier, level_dbfs
from streamdrnn.apps.speaker_id.turns import Segment
from streamdrnn.audio import LogMel
from tests.audio.signals import voice_like
from tests.strategies import examples

torch.manual_seed(0)
MODEL = SpeakerEmbedder(DilatedRNN(40, 8, num_layers=2), 4, LogMel()).eval()
VOICES = {"a": normalize(torch.tensor([1.0, 0, 0, 0]), dim=0), "b": normalize(torch.tensor([0, 1.0, 0, 1.0]), dim=0)}
CONVERSATION = torch.cat([voice_like(20000), torch.zeros(24000), voice_like(17123, 1)])


def identify(chunks: list[Tensor], threshold: float = -0.2) -> list[Segment]:
    identifier = Identifier(MODEL, VOICES, threshold)
    return [segment for chunk in chunks for segment in identifier.push(chunk)] + identifier.finish()


WHOLE = identify([CONVERSATION])


def test_segments_cover_the_stream_without_gaps() -> None:
    assert WHOLE[0].start == 0
    assert WHOLE[-1].end == pytest.approx(len(CONVERSATION) / 16000, abs=1e-3)
    for before, after in pairwise(WHOLE):
        assert before.end == after.start
        assert before.speaker != after.speaker


def test_silence_is_nobodys() -> None:
    silent = [segment for segment in WHOLE if segment.speaker is None and segment.score == 0]
    assert any(segment.start < 2.2 and segment.end > 1.9 for segment in silent)


@examples(15)
@given(cuts=st.lists(st.integers(0, len(CONVERSATION)), max_size=12))
def test_chunks_do_not_matter(cuts: list[int]) -> None:
    chunks = list(CONVERSATION.tensor_split(sorted(cuts)))
    assert identify(chunks) == WHOLE


def test_decisions_come_within_the_stated_time() -> None:
    identifier = Identifier(MODEL, VOICES, -0.2)
    heard = 0
    for block in CONVERSATION.split(320):
        heard += len(block)
        for segment in identifier.push(block):
            # A segment is known to have ended when the tick after it has been decided.
            assert heard / 16000 - segment.end <= identifier.latency + 0.2


def test_memory_does_not_grow() -> None:
    identifier = Identifier(MODEL, VOICES, -0.2)

    def size() -> tuple[int, ...]:
        parts = (identifier._notes, identifier._undecided, identifier._levels, identifier._path._came_from)
        return tuple(len(part) for part in parts)

    identifier.push(voice_like(64000))
    before = size()
    identifier.push(voice_like(160000))
    assert size() == before


def test_nan_is_refused_and_nothing_has_been_heard() -> None:
    identifier = Identifier(MODEL, VOICES, -0.2)
    segments = identifier.push(CONVERSATION[:30000])
    with pytest.raises(ValueError, match="samples: expected finite values"):
        identifier.push(torch.full((1000,), float("nan")))
    segments += identifier.push(CONVERSATION[30000:])
    assert segments + identifier.finish() == WHOLE


def test_nothing_heard_is_no_segment() -> None:
    assert identify([]) == []
    assert identify([torch.zeros(100)]) == []


def test_without_profiles_there_is_nobody_to_identify() -> None:
    with pytest.raises(ValueError, match="profiles: expected one or more"):
        Identifier(MODEL, {}, 0.5)


def test_levels() -> None:
    assert level_dbfs(torch.ones(10)) == pytest.approx(0)
    assert level_dbfs(torch.full((10,), 0.1)) == pytest.approx(-20)
    assert level_dbfs(torch.zeros(0)) == pytest.approx(-120)
