"""The page decides as the package does: the same ticks in, the same decisions out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from streamdrnn.apps.speaker_id.ear import Ear
from streamdrnn.apps.speaker_id.enrolment import Enrolment, likenesses
from streamdrnn.apps.speaker_id.identifier import Identifier
from streamdrnn.apps.speaker_id.profiles import ProfileStore, Recording
from streamdrnn.apps.speaker_id.scores import Scorer, read_scorer, scorer_notes
from streamdrnn.apps.speaker_id.ticks import Tick
from streamdrnn.apps.speaker_id.turns import FixedLagViterbi
from streamdrnn.audio import StreamingResampler
from tests.apps.speaker_id.demo_voices import conversation_samples, model, recording, voices
from tests.apps.speaker_id.page_folder import modules_in
from tests.node import needs_node, run_node

pytestmark = needs_node
DECISIONS, RESAMPLE = (Path(__file__).with_name(name) for name in ("decisions.mjs", "resample.mjs"))


def heard() -> tuple[list[Tick], float]:
    """The ticks of a conversation with a loss, a silence, a part that is too loud, and two voices at times."""
    samples = conversation_samples(16)
    samples[160_000:176_000] *= 40
    ear = Ear(model().embedder)
    ticks = ear.push(samples[:112_345].clamp(-1, 1)) + ear.skip(20_000) + ear.push(torch.zeros(24_000))
    ticks += ear.push(samples[112_345:]) + ear.finish()
    random = np.random.default_rng(4)
    both = np.repeat(random.random(len(ticks) // 10 + 1) < 0.25, 10)
    both[:NAMING] = False
    ticks = [tick._replace(overlap=float(two * random.uniform(0.3, 1))) for tick, two in zip(ticks, both, strict=False)]
    return ticks, ear.seconds


def test_ticks_lead_to_the_same_decisions(tmp_path: Path) -> None:
    ticks, seconds = heard()
    known = [{voice.name: recording(voice.path) for voice in some} for some in (voices()[:2], voices()[1:])]
    random = np.random.default_rng(1)
    size = model().embedder.embedding_size
    cohort = normalize(torch.randn(30, size, generator=torch.Generator().manual_seed(1)))
    scorer = Scorer(cohort, 10, torch.tensor([-12.0, 1.0, 0.5, 0.2, 0.1]))
    scorer = read_scorer(scorer_notes(scorer), size)
    path = {"states": 4, "lag": 3, "switchCost": 0.6, "scores": random.normal(size=(60, 4)).tolist()}
    projection = model().embedder.projection
    answer = run_node(
        DECISIONS,
        {
            "ticks": [{**tick._asdict(), "total": tick.total.tolist()} for tick in ticks],
            "seconds": seconds,
            "naming": NAMING,
            "voices": [[[name, as_object(voice)] for name, voice in some.items()] for some in known],
            "notes": scorer_notes(scorer),
            "projection": {"weight": projection.weight.tolist(), "bias": projection.bias.tolist()},
            "path": path,
        },
        modules_in(tmp_path / "page"),
    )

    numbers_are_the_same(Identifier(model()._replace(scorer=scorer), {}, number_strangers=True), ticks, seconds, answer)

    identifier, enrolment = Identifier(model()._replace(scorer=scorer), known[0]), Enrolment(model(), True)
    segments, now, progress = [], [], []
    for number, tick in enumerate(ticks):
        if number == len(ticks) // 2:
            segments += identifier.replace_voices(known[1])
        segments += identifier.hear([tick])
        now.append(identifier.now())
        enrolment.hear([tick])
        progress.append(enrolment.progress)
    segments += identifier.finish(seconds)

    assert {segment.speaker for segment in segments} >= {None, *(voice.name for voice in voices()[:2])}
    assert {one.label for one in now} >= {"(silence)", "(listening)"}
    assert any(one.clipped for one in progress)
    assert {one.overlap for one in now} == {True, False}
    assert any(segment.overlap for segment in segments)
    same([segment.as_object() for segment in segments], answer["segments"])
    same([one._asdict() for one in now], answer["now"])
    same([one._asdict() for one in progress], answer["progress"])
    end = enrolment.finish()
    enrolled = {"seconds": end.seconds, "embedding": end.embedding.tolist(), "warnings": list(end.warnings)}
    same(enrolled, answer["enrolled"])
    assert any("more than one person" in warning for warning in end.warnings)
    assert any("another voice speaks at the same time" in warning for warning in end.warnings)
    store = ProfileStore(tmp_path / "p.sqlite3")
    for name, voice in known[0].items():
        store.add(name, model().id, [voice])
    assert answer["like"] == likenesses(model()._replace(scorer=scorer), "Zoe", end, store)

    viterbi = FixedLagViterbi(path["states"], path["switchCost"], path["lag"])
    assert answer["path"] == [viterbi.push(np.array(scores)) for scores in path["scores"]]
    assert len(set(answer["path"])) == 5, "four states, and none at first"
    assert answer["undecided"] == viterbi.undecided()


NAMING = 34
"""The tick at which the first stranger is named."""


def numbers_are_the_same(identifier: Identifier, ticks: list[Tick], seconds: float, answer: Any) -> None:
    """What the page makes of strangers."""
    assert identifier.strangers is not None
    segments, now, strangers = [], [], []
    for number, tick in enumerate(ticks):
        if number == NAMING:
            # The page decides, and who is under way has the name, before it forgets the stranger.
            segments += identifier.replace_voices({})
            identifier._turns.relabel("Speaker 1", "Anna", "(unknown)")
            recording = identifier.strangers.voices.pop("Speaker 1")
            segments += identifier.replace_voices({"Anna": recording})
            same(as_object(recording), answer["numbered"]["recording"])
        segments += identifier.hear([tick])
        now.append(identifier.now())
        strangers.append(list(identifier.strangers.voices))
    segments += identifier.finish(seconds)
    assert {one.label for one in segments} >= {"Anna", "Speaker 2"}
    assert any(one.label.endswith("Anna") for one in now)
    same([segment.as_object() for segment in segments], answer["numbered"]["segments"])
    same([one._asdict() for one in now], answer["numbered"]["now"])
    assert strangers == answer["numbered"]["strangers"]


def as_object(voice: Recording) -> dict[str, Any]:
    return {"seconds": voice.seconds, "embedding": voice.embedding.tolist()}


def same(ours: Any, theirs: Any) -> None:
    """Equal, but for float32's rounding in scores; times that differ do so by a tick or more."""
    if isinstance(ours, float) and isinstance(theirs, int | float):
        assert theirs == pytest.approx(ours, abs=2e-4)
    elif isinstance(ours, dict):
        assert set(ours) == set(theirs)
        for key, value in ours.items():
            same(value, theirs[key])
    elif isinstance(ours, list):
        assert len(ours) == len(theirs)
        for value, other in zip(ours, theirs, strict=True):
            same(value, other)
    else:
        assert ours == theirs


@pytest.mark.parametrize("rate_in", [48_000, 44_100, 8_000, 16_000])
def test_resampling_is_soxrs_below_the_filters_edge_in_any_chunks(rate_in: int, tmp_path: Path) -> None:
    rate_out = 16_000
    time = np.arange(rate_in) / rate_in
    tones = sum(np.sin(2 * np.pi * tone * time + tone) for tone in (50, 440, 1234.5, 3000, 3400))
    if rate_in > 22_000:
        tones += np.sin(2 * np.pi * 11_000 * time)  # above half of the rate that comes out: it must be silenced
    x = np.float32(0.1) * np.asarray(tones, np.float32)
    answer = run_node(
        RESAMPLE,
        {"rates": [rate_in, rate_out], "samples": x.tolist(), "chunks": [[rate_in], [1, 0, 777, 20_000, 128]]},
        modules_in(tmp_path / "page"),
    )
    assert answer[0] == answer[1]
    stream = StreamingResampler(rate_in, rate_out)
    wanted = torch.cat([stream.push(torch.from_numpy(x)), stream.flush()]).numpy()
    ours = np.array(answer[0], np.float32)[: len(wanted)]
    assert len(ours) == len(wanted) == rate_out
    inside = slice(rate_out // 20, -rate_out // 20)  # where no edge is near
    assert np.abs(ours - wanted)[inside].max() < 1e-3
