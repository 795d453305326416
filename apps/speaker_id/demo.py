"""`streamdrnn demo`: several speakers take turns, and the model says who speaks while it listens."""

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Optional

import tyro

if TYPE_CHECKING:
    from streamdrnn.apps.speaker_id.turns import Segment

FRAME_SECONDS = 0.02


@dataclass
class Demo:
    """Enrol the shipped sample's speakers, stream the sample, and say who speaks when.

    The sample is a conversation cut together from LibriSpeech. It is heard in frames of 20 ms, as from a microphone.

    Example: streamdrnn demo --realtime
    """

    realtime: Annotated[bool, tyro.conf.arg(help="Hear the sample at the pace of speech, not as fast as possible.")] = (
        False
    )
    json: Annotated[bool, tyro.conf.arg(help="Print one JSON object a line, the last a summary.")] = False

    def run(self) -> None:
        import numpy as np

        from streamdrnn.apps.speaker_id.ear import Ear
        from streamdrnn.apps.speaker_id.enrolment import listen_to
        from streamdrnn.apps.speaker_id.identifier import Identifier
        from streamdrnn.apps.speaker_id.model import asset, load_speaker_model, use_one_thread
        from streamdrnn.audio import load_audio

        use_one_thread()
        script = json.loads(asset("demo.json").read_text(encoding="utf-8"))
        model = load_speaker_model()
        voices = {}
        for voice in script["voices"]:
            recording = listen_to(asset(voice["file"]), model)
            voices[voice["name"]] = recording.embedding
            self._say(f"enrolled {voice['name']:<9} from {recording.seconds:.1f} s")
        samples = load_audio(asset(script["file"]), model.sample_rate)
        score = Score(script["turns"])
        self._say(f"\nlistening to {len(samples) / model.sample_rate:.1f} s of conversation in frames of 20 ms")
        self._say("\n    from      to  speaks     cosine  right so far")

        ear, identifier = Ear(model.embedder), Identifier(model.embedder, voices, model.threshold)
        frames = samples.split(round(FRAME_SECONDS * model.sample_rate))
        seconds = []
        started = time.perf_counter()
        for number, frame in enumerate(frames):
            if self.realtime:
                time.sleep(max(0.0, started + number * FRAME_SECONDS - time.perf_counter()))
            before = time.perf_counter()
            segments = identifier.hear(ear.push(frame))
            seconds.append(time.perf_counter() - before)
            for segment in segments:
                self._print(segment, score)
        for segment in [*identifier.hear(ear.finish()), *identifier.finish(ear.seconds)]:
            self._print(segment, score)

        p50, p95, p99 = np.percentile(np.array(seconds) * 1e3, [50, 95, 99])
        factor = sum(seconds) / (len(samples) / model.sample_rate)
        if self.json:
            summary = {"right": round(score.right, 4), "p50_ms": p50, "p95_ms": p95, "p99_ms": p99}
            print(json.dumps({**summary, "real_time_factor": factor, "decision_delay_s": identifier.latency}))
        else:
            print(f"\nright            {score.right:.1%} of the speech time")
            print(f"per 20 ms frame  {p50:.2f} ms p50, {p95:.2f} ms p95, {p99:.2f} ms p99 of computing")
            print(f"real-time factor {factor:.3f} (1 would be just in time)")
            print(f"decided          {identifier.latency:.1f} s after the moment, when what follows has been heard")

    def _say(self, line: str) -> None:
        if not self.json:
            print(line, flush=True)

    def _print(self, segment: "Segment", score: "Score") -> None:
        right = score.add(segment)
        if self.json:
            print(json.dumps({**segment._asdict(), "right_so_far": right}), flush=True)
            return
        so_far = "" if right is None else f"{right:11.1%}"
        print(
            f"{segment.start:6.1f} s {segment.end:6.1f} s  {segment.label:<9} {segment.score:7.2f} {so_far}", flush=True
        )


class Score:
    """The share of the speech time that was attributed right, as decisions come in.

    Args:
        turns: who really speaks: objects with ``start``, ``end`` (seconds) and ``speaker``; null is a voice that nobody
            enrolled.
    """

    def __init__(self, turns: list[dict[str, Any]]) -> None:
        self._turns = turns
        self._right = 0.0
        self._spoken = 0.0

    def add(self, segment: "Segment") -> Optional[float]:
        """Count a segment in; give the share so far."""
        for turn in self._turns:
            overlap = max(0.0, min(segment.end, turn["end"]) - max(segment.start, turn["start"]))
            self._spoken += overlap
            self._right += overlap * (segment.speaker == turn["speaker"])
        return self.right if self._spoken else None

    @property
    def right(self) -> float:
        """The share so far, from 0 to 1."""
        return self._right / self._spoken if self._spoken else 0.0
