"""A session that people steer while it listens: they enrol a voice, or begin again."""

from collections.abc import Callable
from queue import Empty, SimpleQueue

from streamdrnn.apps.speaker_id.enrolment import Enrolled, Enrolling, Enrolment, NotEnrolled, likenesses
from streamdrnn.apps.speaker_id.identifier import Identifier
from streamdrnn.apps.speaker_id.model import SpeakerModel
from streamdrnn.apps.speaker_id.profiles import ProfileStore, clean_name
from streamdrnn.apps.speaker_id.session import Event, Session, Summary
from streamdrnn.apps.speaker_id.sources.source import Chunk
from streamdrnn.errors import InputError

ENOUGH_SECONDS = 10.0
"""Clear speech that an enrolment waits for."""


class Conversation:
    """A session, and what can be asked of it meanwhile.

    Requests may come from any thread; they are served where the sound is heard, before the next chunk.

    Args:
        model: the speaker model.
        store: the profiles; whoever is enrolled is kept there.
        threshold: the probability from which a voice is named.
        sample_rate: of the chunks.
        enough: seconds of clear speech for an enrolment.
        number_strangers, learn: as for :class:`Identifier`.

    Raises:
        ValueError: a profile is of another model.
    """

    def __init__(
        self,
        model: SpeakerModel,
        store: ProfileStore,
        threshold: float,
        sample_rate: int,
        enough: float = ENOUGH_SECONDS,
        number_strangers: bool = False,
        learn: bool = False,
    ) -> None:
        self._model, self._store = model, store
        self._enough = enough
        self._session = Session(model, store.voices(model.id), threshold, sample_rate, number_strangers, learn)
        self._requests: SimpleQueue[Callable[[], list[Event]]] = SimpleQueue()
        self._enrolling = ""  # whose voice, while one is enrolled

    @property
    def names(self) -> list[str]:
        """Whose voices are known, strangers with a number included."""
        return self._session.identifier.labels

    @property
    def identifier(self) -> Identifier:
        """What decides."""
        return self._session.identifier

    @property
    def summary(self) -> Summary:
        """What it was like so far."""
        return self._session.summary

    def enrol(self, name: str) -> None:
        """Enrol the voice that is heard from now on, or add to it; replaces an enrolment that is under way.

        Raises:
            ValueError: the name cannot be one, or the profile was made with another model.
        """
        name = clean_name(name)
        self._store.check_model(name, self._model.id)
        self._requests.put(lambda: self._begin_enrolment(name))

    def cancel_enrolment(self) -> None:
        """Stop enrolling; nothing is kept."""
        self._requests.put(self._drop_enrolment)

    def restart(self) -> None:
        """Forget what was heard; read the profiles again."""
        self._requests.put(lambda: self._session.restart(self._store.voices(self._model.id)))

    def push(self, chunk: Chunk, waiting: float = 0.0) -> list[Event]:
        """Serve requests and hear a chunk; as :meth:`Session.push`."""
        events: list[Event] = []
        while True:
            try:
                request = self._requests.get_nowait()
            except Empty:
                break
            events += request()
        events += self._session.push(chunk, waiting)
        return events + self._enrol()

    def finish(self) -> list[Event]:
        """The sound is over: what is left."""
        return [*self._session.finish(), *self._drop_enrolment()]

    def _begin_enrolment(self, name: str) -> list[Event]:
        events = self._drop_enrolment()
        self._session.enrolment, self._enrolling = Enrolment(self._model, mid_stream=True), name
        return events

    def _drop_enrolment(self) -> list[Event]:
        if self._session.enrolment is None:
            return []
        self._session.enrolment = None
        return [NotEnrolled(self._enrolling, "stopped before enough clear speech was heard")]

    def _enrol(self) -> list[Event]:
        name, enrolment = self._enrolling, self._session.enrolment
        if enrolment is None:
            return []
        if enrolment.progress.seconds < self._enough:
            return [Enrolling(name, enrolment.progress, self._enough)]
        self._session.enrolment = None
        try:
            recording = enrolment.finish()
            warnings = [*recording.warnings, *likenesses(self._model, name, recording, self._store)]
            name = self._store.add(name, self._model.id, [recording])
            voices = self._store.voices(self._model.id)
        except (OSError, InputError) as error:  # the disk is full, say; listening goes on
            return [NotEnrolled(name, str(error))]
        return [*self._session.replace_voices(voices), Enrolled(name, recording.seconds, warnings)]
