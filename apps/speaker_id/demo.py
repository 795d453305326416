"""`streamdrnn demo`: several speakers take turns, and the model says who speaks while it listens."""

import json
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from streamdrnn.errors import installing

if TYPE_CHECKING:
    from streamdrnn.apps.speaker_id.demo_score import Score
    from streamdrnn.apps.speaker_id.turns import Segment

FRAME_SECONDS = 0.02
PICTURE = "streamdrnn-demo.png"


@dataclass
class Demo:
    """Enrol the shipped sample's speakers, stream the sample, and say who speaks when.

    The sample is a conversation cut together from LibriSpeech: four enrolled voices and a stranger, through two
    microphones in a room and a telephone, with music in a pause. It is heard in frames of 20 ms, as from a microphone.
    Beside each line stands who really speaks.

    Example: streamdrnn demo --realtime
    """

    realtime: Annotated[bool, tyro.conf.arg(help="Hear the sample at the pace of speech, not as fast as possible.")] = (
        False
    )
    plot: Annotated[Path, tyro.conf.arg(metavar="FILE", help="Where to draw who spoke when.")] = Path(PICTURE)
    json: Annotated[bool, tyro.conf.arg(help="Print one JSON object a line, the last a summary; draw nothing.")] = False

    def run(self) -> None:
        self._say("loading the models")  # torch alone takes seconds
        import numpy as np

        from streamdrnn.apps.speaker_id.demo_score import Score
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
            voices[voice["name"]] = recording
            self._say(f"enrolled {voice['name']:<9} from {recording.seconds:.1f} s")
        samples = load_audio(asset(script["file"]), model.sample_rate)
        score = Score(script)
        self._say(f"\nlistening to {len(samples) / model.sample_rate:.1f} s of conversation in frames of 20 ms")
        self._say(f"\n    from      to  {'heard as':<12}sure  who really speaks")

        ear, identifier = Ear(model.embedder), Identifier(model, voices)
        frames = samples.split(round(FRAME_SECONDS * model.sample_rate))
        decided: list[Segment] = []
        seconds = []
        started = time.perf_counter()
        for number, frame in enumerate(frames):
            if self.realtime:
                time.sleep(max(0.0, started + number * FRAME_SECONDS - time.perf_counter()))
            before = time.perf_counter()
            segments = identifier.hear(ear.push(frame))
            seconds.append(time.perf_counter() - before)
            decided += self._print(segments, score)
        decided += self._print([*identifier.hear(ear.finish()), *identifier.finish(ear.seconds)], score)

        p50, p95, p99 = np.percentile(np.array(seconds) * 1e3, [50, 95, 99])
        factor = sum(seconds) / (len(samples) / model.sample_rate)
        if self.json:
            summary = {"right": round(score.right, 4), "turns_right": score.turns_right, "turns": len(score.turns)}
            times = {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "real_time_factor": factor}
            print(json.dumps({**summary, **times, "decision_delay_s": identifier.latency}))
            return
        print(f"\nturns right       {score.turns_right} of {len(score.turns)}")
        print(f"speech time right {score.right:.1%}")
        print(f"per 20 ms frame   {p50:.2f} ms p50, {p95:.2f} ms p95, {p99:.2f} ms p99 of computing")
        print(f"real-time factor  {factor:.3f} (1 would be just in time)")
        print(f"decided           {identifier.latency:.1f} s after the moment, when what follows has been heard")
        print(f"drawn             {self._draw(decided, score)}")
        print(f"\nNow your own voice: {installing('live')}, then streamdrnn enroll YOU, then streamdrnn listen.")

    def _say(self, line: str) -> None:
        if not self.json:
            print(line, flush=True)

    def _print(self, segments: "list[Segment]", score: "Score") -> "list[Segment]":
        for segment in segments:
            truths = score.add(segment)
            if self.json:
                really = [truth._asdict() for truth in truths]
                print(json.dumps({**segment.as_object(), "really": really}), flush=True)
                continue
            sure = f"{segment.probability:4.0%}" if segment.probability else ""
            said = f"{segment.start:6.1f} s {segment.end:6.1f} s  {segment.label:<12}{sure}"
            for truth in truths:
                print(f"{said:<37}{truth.who:<24}{'right' if truth.right else 'wrong'}", flush=True)
                said = ""
        return segments

    def _draw(self, decided: "list[Segment]", score: "Score") -> str:
        """Draw who spoke when; give the picture's path, or why there is none."""
        if find_spec("matplotlib") is None:
            return f"nothing: matplotlib is missing; {installing('demo')}"
        from streamdrnn.apps.speaker_id.demo_plot import draw

        try:
            draw(decided, score, self.plot)
        except OSError as error:
            return f"nothing: {error}"
        return str(self.plot.resolve())
