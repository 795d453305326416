"""The benchmark of live listening: processes that are watched, and that are believed only if they heard right."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamdrnn.apps.bench.listening import suite
from streamdrnn.apps.bench.listening.process import Heard, listen
from streamdrnn.apps.bench.process_usage import measurable
from streamdrnn.apps.cli import main
from tests.apps.speaker_id.demo_voices import conversation_samples, enrolled, model


@pytest.mark.full
def test_the_command_measures_live_and_fast(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["bench", "--suite", "listen", "--quick", "--json", "--out", str(tmp_path)])
    tables = json.loads(capsys.readouterr().out)["tables"]
    live, fast = tables["listen"]["rows"]
    assert 100 <= live["p50_ms"] <= live["p95_ms"] <= live["p99_ms"]
    assert fast["p50_ms"] is None
    if measurable():
        for row in (live, fast):
            assert row["cores"] > 0
            assert row["resident_at_a_tenth_mib"] > 0
            assert row["resident_at_the_end_mib"] > 0
    assert [row["how"] for row in tables["listen_windows"]["rows"]] == ["carried on (ours)", "window afresh"]
    assert "listen --json" in (tmp_path / "results.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("profiles") / "profiles.sqlite3"
    enrolled(path)
    return path


def test_only_what_was_heard_right_is_believed(profiles: Path) -> None:
    pcm = suite.repeated(conversation_samples(6), 6 * 16000)
    heard = listen(["-"], profiles, pcm)
    suite.check_heard("here", heard, pcm, model(), profiles)
    suite.check_heard("here", heard, pcm[: 4 * 16000], model(), profiles)  # the beginning of it

    def told(change: dict[str, Any], kind: str) -> Heard:
        return heard._replace(events=[event | change if event["event"] == kind else event for event in heard.events])

    with pytest.raises(ValueError, match=r"listen, here: 0\.5 s of sound were lost"):
        suite.check_heard("here", told({"dropped": 0.5}, "summary"), pcm, model(), profiles)
    with pytest.raises(ValueError, match="listen, here: other segments than those of the sound offline"):
        suite.check_heard("here", told({"speaker": "Nobody"}, "segment"), pcm, model(), profiles)


def test_a_process_that_fails_says_why(profiles: Path) -> None:
    with pytest.raises(ValueError, match=r"^listen: streamdrnn: gone.wav: no such file$"):
        listen(["gone.wav"], profiles, np.zeros(100_000, np.int16))
