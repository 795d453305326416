"""Who speaks when, and who speaks now, from a stream of ticks, in constant memory."""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple, Optional

import numpy as np

from streamdrnn.apps.speaker_id.confirmed import SURE, Confirmed
from streamdrnn.apps.speaker_id.model import SpeakerModel
from streamdrnn.apps.speaker_id.overlap import NEAR_TICKS, is_overlapped
from streamdrnn.apps.speaker_id.profiles import Recording
from streamdrnn.apps.speaker_id.scores import THRESHOLD, Scores, Voices, log_odds, probabilities
from streamdrnn.apps.speaker_id.strangers import Strangers
from streamdrnn.apps.speaker_id.ticks import TICK_SECONDS, Tick, mean_embedding, tick_zero
from streamdrnn.apps.speaker_id.turns import Decision, FixedLagViterbi, Segment, TurnBuilder
from streamdrnn.errors import InputError

REACH_TICKS = 5
"""A moment is judged by the outputs from this long before it to this long after it."""
WINDOW_SECONDS = (2 * REACH_TICKS + 1) * TICK_SECONDS
LAG_TICKS = 8
EVIDENCE_PER_TICK = 1 / 3
"""The windows of neighbouring ticks overlap: each adds this part of what its log likelihood ratio says."""
SWITCH_COST = 1.4
"""Of a change of speakers, in the unit of log likelihood ratios."""
SILENCE_TICKS = 5
"""A moment is silent if nobody speaks so near to it."""
FORGET_TICKS = 30
"""Who speaks now is judged by the speech of the present turn that is no older than this."""
PROBABLE_SECONDS, CERTAIN_SECONDS = 1.0, 1.5
"""With less speech nobody is named yet, and with less nobody for certain."""
CERTAIN = 0.9
"""With a lower probability a name is said to be probable."""
LOUD_DBFS = -45.0
"""Sound without speech is no silence if all of it is as loud as this."""
UNKNOWN, LISTENING, SILENCE, NO_SPEECH = "(unknown)", "(listening)", "(silence)", "(no speech)"
PROBABLY = "probably "
ANOTHER = " + another voice"


class Now(NamedTuple):
    """Who speaks at the moment, as far as it can be told.

    Attributes:
        time: seconds from the stream's beginning.
        speaker: a profile's name, if it is certain; else None.
        label: for people: the speaker, "probably" one, "(unknown)", "(listening)" (it cannot be told yet),
            "(no speech)" or "(silence)".
        scores: the cosine of each profile; empty without evidence.
        evidence: the seconds of speech that the scores rest on.
        level: the last tick's level in dBFS.
        probability: how probable each profile is, and under "(unknown)" that it is nobody's; empty without evidence.
        overlap: whether another voice speaks at the same time; the label is the louder one's.
    """

    time: float
    speaker: Optional[str]
    label: str
    scores: dict[str, float]
    evidence: float
    level: float
    probability: dict[str, float]
    overlap: bool = False

    @property
    def text(self) -> str:
        """The label for people, and whether another voice speaks at the same time."""
        return self.label + ANOTHER if self.overlap and self.label != LISTENING else self.label

    @property
    def mark(self) -> str:
        """The label that a picture of the past keeps: a name only if it is certain."""
        return LISTENING if self.speaker is None and self.label.startswith(PROBABLY) else self.label


class _Moment(NamedTuple):
    """What a tick is judged by.

    Attributes:
        cosines, probabilities: of each voice, and of nobody and each voice; None where nobody speaks.
        nobody: the label if nobody who is enrolled speaks.
    """

    cosines: Optional[np.ndarray]
    probabilities: Optional[np.ndarray]
    nobody: str


class Identifier:
    """Attributes a stream of ticks to enrolled voices.

    A decision about a moment is made ``latency`` seconds after it, when what follows has been heard. :meth:`now` does
    not wait for that.

    Args:
        model: what heard the ticks.
        voices: who is enrolled, by name; without any, every voice is unknown.
        threshold: the probability from which a voice is named.
        number_strangers: voices that nobody enrolled have numbers: "Speaker 1", "Speaker 2", ...
        learn: what enrolled voices say beyond doubt is gathered.

    Attributes:
        ticks: how many ticks have been heard.
        names: who is enrolled.
        strangers: what has been heard of voices that nobody enrolled, if they have numbers.
        confirmed: what has been heard of enrolled voices beyond doubt, if it is gathered.

    Raises:
        ValueError: a profile is of another size than the model's embeddings.
    """

    latency = (REACH_TICKS + LAG_TICKS) * TICK_SECONDS

    def __init__(
        self,
        model: SpeakerModel,
        voices: dict[str, Recording],
        threshold: float = THRESHOLD,
        number_strangers: bool = False,
        learn: bool = False,
    ) -> None:
        self.model = model
        self.strangers = Strangers(model.embedder) if number_strangers else None
        self.confirmed = Confirmed(model.embedder) if learn else None
        self.threshold = threshold
        self._notes: deque[Tick] = deque([tick_zero(model.embedder)], maxlen=FORGET_TICKS + REACH_TICKS + 2)
        self.ticks = 0
        self._judged = 0  # ticks that have been scored
        self._undecided: deque[_Moment] = deque()  # the ticks that have been scored
        self._turns = TurnBuilder(TICK_SECONDS)
        self._use(voices)

    def hear(self, ticks: Iterable[Tick]) -> list[Segment]:
        """The segments that have ended, by the ticks that follow, in order of time."""
        ended: list[Segment] = []
        for tick in ticks:
            self._notes.append(tick)
            self.ticks += 1
            if self.ticks - self._judged > REACH_TICKS:
                ended += self._judge()
        return ended

    def replace_voices(self, voices: dict[str, Recording]) -> list[Segment]:
        """Go on with other voices; what is undecided is decided now, and returned as by :meth:`hear`."""
        ended = [segment for state in self._path.undecided() for segment in self._decide(state)]
        self._use(voices)
        return ended

    def finish(self, seconds: float) -> list[Segment]:
        """The stream is over, after so many seconds: the segments that are left."""
        ended: list[Segment] = []
        while self._judged < self.ticks:
            ended += self._judge()
        for state in self._path.undecided():
            ended += self._decide(state)
        last = self._turns.finish(seconds)
        return ended if last is None else [*ended, last]

    def now(self) -> Now:
        """Who speaks now: by the running embedding of the present turn, the last three seconds of it."""
        last = self._notes[-1]
        first = self._note(max(self._turn_start(), self.ticks - FORGET_TICKS) - 1)
        evidence = round((last.spoken - first.spoken) * TICK_SECONDS, 3)
        scores: dict[str, float] = {}
        probability: dict[str, float] = {}
        if last.frames > first.frames:
            cosines, ratios = self._compare(first, last)
            nobody, *known = probabilities(ratios).tolist()
            scores = dict(zip(self.labels, cosines.tolist(), strict=True))
            probability = dict(zip(self.labels, known, strict=True)) | {UNKNOWN: nobody}
        speaker = None
        if not self._speech_near(self.ticks - SILENCE_TICKS, self.ticks - 1):
            label = self._sound(self.ticks - SILENCE_TICKS, self.ticks - 1)
        else:
            speaker, label = self._judgement(probability, evidence)
        time = round(self.ticks * TICK_SECONDS, 3)
        latest = (self.ticks - 1 - 2 * NEAR_TICKS, self.ticks - 1)
        overlap = label not in (SILENCE, NO_SPEECH) and self._overlapped(*latest)
        return Now(time, speaker, label, scores, evidence, last.level, probability, overlap)

    def _judgement(self, probability: dict[str, float], evidence: float) -> tuple[Optional[str], str]:
        """Who speaks, if that is certain, and the label."""
        if evidence < PROBABLE_SECONDS:
            return None, LISTENING
        best = max(self.labels, key=probability.__getitem__, default=None)
        is_certain = evidence >= CERTAIN_SECONDS
        if best is None or probability[best] < self.threshold:
            is_nobodys = is_certain and probability[UNKNOWN] >= 1 - self.threshold
            return None, UNKNOWN if is_nobodys else LISTENING
        if is_certain and probability[best] >= CERTAIN:
            return (best if best in self.names else None), best
        return None, PROBABLY + best

    @property
    def labels(self) -> list[str]:
        """Whose voices are told apart: who is enrolled, and strangers who have a number."""
        return [*self.names, *(() if self.strangers is None else self.strangers.voices)]

    def _use(self, voices: dict[str, Recording]) -> None:
        self.names = list(voices)
        self._known = voices
        size = self.model.embedder.embedding_size
        for name, (_, embedding, _) in voices.items():
            if tuple(embedding.shape) != (size,):
                raise InputError(
                    f"profile {name!r}: an embedding of shape {tuple(embedding.shape)}, expected ({size},)"
                )
        self._compare_with_all()
        self._path = FixedLagViterbi(1 + len(self.labels), SWITCH_COST, LAG_TICKS)
        self._decided_state, self._decided_start = 0, self._judged - len(self._undecided)

    def _compare_with_all(self) -> None:
        strangers = {} if self.strangers is None else self.strangers.voices
        self._voices = Voices(self.model.scorer, [*self._known.values(), *strangers.values()])

    def _note(self, tick: int) -> Tick:
        """The note at the end of a tick, or the nearest there is."""
        oldest = self.ticks - len(self._notes)
        return self._notes[min(max(tick - oldest, 0), len(self._notes) - 1)]

    def _speech_near(self, first: int, last: int) -> bool:
        return any(self._note(tick).has_speech for tick in range(first, last + 1))

    def _overlapped(self, first: int, last: int) -> bool:
        return is_overlapped([self._note(tick).overlap for tick in range(first, last + 1)])

    def _sound(self, first: int, last: int) -> str:
        """The label of ticks without speech."""
        return NO_SPEECH if all(self._note(tick).level >= LOUD_DBFS for tick in range(first, last + 1)) else SILENCE

    def _compare(self, first: Tick, last: Tick) -> Scores:
        """The speech between two ticks against each voice; there must be some."""
        seconds = (last.spoken - first.spoken) * TICK_SECONDS
        return self._voices.compare(mean_embedding(self.model.embedder, first, last), seconds)

    def _turn_start(self) -> int:
        """The tick with which the present turn began, as it looks now."""
        states = [self._decided_state, *self._path.undecided()]
        start = self._judged
        while len(states) > 1 and states[-1] == states[-2]:
            states.pop()
            start -= 1
        return start - 1 if len(states) > 1 else self._decided_start

    def _judge(self) -> list[Segment]:
        """Score the next tick; give the segments that this decides."""
        tick = self._judged
        self._judged += 1
        first, last = self._note(tick - REACH_TICKS - 1), self._note(tick + REACH_TICKS)
        near = (tick - SILENCE_TICKS, tick + SILENCE_TICKS)
        if last.frames == first.frames or not self._speech_near(*near):
            moment = _Moment(None, None, self._sound(*near))
            evidence = np.zeros(1 + len(self.labels))  # for nobody and for everybody the same
        else:
            cosines, ratios = self._compare(first, last)
            moment = _Moment(cosines, probabilities(ratios), UNKNOWN)
            evidence = EVIDENCE_PER_TICK * log_odds(ratios, self.threshold)
        self._undecided.append(moment)
        state = self._path.push(evidence)
        return [] if state is None else self._decide(state)

    def _decide(self, state: int) -> list[Segment]:
        """Take the path's decision for the oldest undecided tick."""
        if state != self._decided_state:
            self._decided_state, self._decided_start = state, self._judged - len(self._undecided)
        cosines, shares, nobody = self._undecided.popleft()
        tick = self._judged - len(self._undecided) - 1
        if cosines is None or shares is None:
            decision = Decision(None, nobody)
        else:
            label = self.labels[state - 1] if state else nobody
            speaker = label if label in self.names else None
            # With nobody enrolled the nearest voice is as far as can be.
            score = cosines[state - 1] if state else cosines.max(initial=-1.0)
            overlap = self._overlapped(tick - NEAR_TICKS, tick + NEAR_TICKS)
            decision = Decision(speaker, label, float(score), float(shares[state]), overlap)
        ended = self._turns.push(decision)
        if self.strangers is not None:
            self._gather(self.strangers, tick, decision)
        if self.confirmed is not None:
            if decision.speaker is not None and decision.probability >= SURE and not decision.overlap:
                self.confirmed.hear(self._note(tick - 1), self._note(tick), decision.speaker)
            else:
                self.confirmed.pause()
        return [] if ended is None else [ended]

    def _gather(self, strangers: Strangers, tick: int, decision: Decision) -> None:
        """Give a stranger a number when a decided tick completes enough speech, or learn more of one who has it."""
        if decision.speaker is not None or decision.label in (SILENCE, NO_SPEECH) or decision.overlap:
            strangers.gathering.pause()
            return
        whose = None if decision.label == UNKNOWN else decision.label
        recording = strangers.gathering.take(self._note(tick - 1), self._note(tick), whose)
        if recording is None:
            return
        if whose is not None:
            strangers.join(whose, recording)
        else:
            ratios = self._voices.compare(recording.embedding, recording.seconds).log_ratios
            name = strangers.add(recording, self.names) if probabilities(ratios)[0] >= 1 - self.threshold else None
            if name is None:
                return
            self._path.split_first_state()
            self._undecided = deque(
                one
                if one.cosines is None or one.probabilities is None
                else _Moment(
                    np.append(one.cosines, 0.0), np.append(one.probabilities, one.probabilities[0]), one.nobody
                )
                for one in self._undecided
            )
            self._turns.relabel(UNKNOWN, None, name)
        self._compare_with_all()
