"""The screen: it listens in a thread of its own, and is drawn anew ten times a second."""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Optional

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Footer, Header, Input, Label, Static

from streamdrnn.apps.speaker_id.conversation import Conversation
from streamdrnn.apps.speaker_id.enrolment import Enrolled, NotEnrolled
from streamdrnn.apps.speaker_id.session import Sink, Summary, listen
from streamdrnn.apps.speaker_id.sources.source import Source
from streamdrnn.apps.speaker_id.terminal import pictures
from streamdrnn.apps.speaker_id.terminal.board import Board
from streamdrnn.errors import InputError

REFRESH_SECONDS = 0.1
_MARGIN = 4


class AskName(ModalScreen[Optional[str]]):
    """Asks whose voice is to be enrolled."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Back")]

    def compose(self) -> ComposeResult:
        with Vertical(id="ask"):
            yield Label("Whose voice is heard from now on? (Enter to begin, Escape to go back)")
            yield Input(placeholder="name", max_length=64)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value.strip() or None)


class ListenApp(App[None]):
    """Shows who speaks.

    Args:
        source: what is listened to.
        conversation: what hears it.
        sinks: what else gets the results.
        seconds: how much is listened to; None is to the source's end.

    Attributes:
        error: what ended the sound, if not its end.
        summary: of the session, once it is over.
    """

    TITLE = "streamdrnn listen"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { layout: vertical; }
    #picture { padding: 1 2; }
    #now { height: 2; }
    #level, #enrolling { height: 2; }
    #voices { height: auto; }
    #health { dock: bottom; height: 1; margin-bottom: 1; padding: 0 2; }
    AskName { align: center middle; }
    #ask { width: 80; max-width: 95%; height: auto; padding: 1 2; border: round $primary; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("e", "enrol", "Enrol a voice"),
        Binding("escape", "stop_enrolling", "Stop enrolling"),
        Binding("r", "restart", "Begin afresh"),
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", "Quit", show=False, priority=True),
    ]

    def __init__(
        self, source: Source, conversation: Conversation, sinks: Iterable[Sink], seconds: Optional[float]
    ) -> None:
        super().__init__()
        self.sub_title = Path(source.name).name
        self.error: Optional[Exception] = None
        self._source, self._conversation, self._seconds = source, conversation, seconds
        self._board = Board()
        self._sinks = [self._board, *sinks]
        self._over = False
        self._shown: dict[str, Text] = {}

    @property
    def summary(self) -> Optional[Summary]:
        """Of the session, once it is over."""
        return self._board.summary

    def compose(self) -> ComposeResult:
        yield Header(show_clock=True, icon="")
        with VerticalScroll(id="picture"):
            yield Static(id="now")
            yield Static(id="level")
            yield Static(id="enrolling")
            yield Static(id="voices")
        yield Static(id="health")
        yield Footer()

    def on_mount(self) -> None:
        self.run_worker(self._listen, thread=True)
        self.set_interval(REFRESH_SECONDS, self._show)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> Optional[bool]:
        """Enrolling can be stopped only where somebody is enrolled."""
        return action != "stop_enrolling" or self._board.enrolling is not None

    def action_enrol(self) -> None:
        self.push_screen(AskName(), self._enrol)

    def action_stop_enrolling(self) -> None:
        self._conversation.cancel_enrolment()

    def action_restart(self) -> None:
        self._conversation.restart()
        self._board.clear()

    def on_unmount(self) -> None:
        self._source.end()  # whatever ended the screen, the thread that listens is not left behind

    async def action_quit(self) -> None:
        self._source.end()
        await self.workers.wait_for_complete()
        self.exit()

    def _enrol(self, name: Optional[str]) -> None:
        if name is None:
            return
        try:
            self._conversation.enrol(name)
        except InputError as error:
            self.notify(str(error), severity="error", markup=False)

    def _listen(self) -> None:
        try:
            listen(self._source, self._conversation, self._sinks, self._seconds)
        except (OSError, ValueError) as error:  # it is shown, and raised when the screen is left
            self.error = error
        finally:
            self._over = True

    def _show(self) -> None:
        board, names = self._board, self._conversation.names
        was_enrolling = board.enrolling is not None
        board.update()
        if was_enrolling != (board.enrolling is not None):
            self.refresh_bindings()
        while board.news:
            self._tell(board.news.popleft())
        width = self.size.width - 2 * _MARGIN
        show = {
            "now": pictures.now(board.report, names),
            "level": pictures.level(board.level, min(width - 16, 40)),
            "enrolling": pictures.enrolling(board.enrolling),
            "voices": pictures.voices(names, board.report, board.timeline, width),
            "health": pictures.health(self._conversation.summary, self._source.depth),
        }
        if self._over:
            show["now"] = pictures.over(self.error)
        for name, picture in show.items():
            shown = self._shown.get(name, Text())
            if picture != shown:  # to draw what is there already would be half of the work, and to lay it out the most
                same_size = len(picture.plain.splitlines()) == len(shown.plain.splitlines())
                self._shown[name] = picture
                self.screen_stack[0].query_one(f"#{name}", Static).update(picture, layout=not same_size)

    def _tell(self, news: object) -> None:
        if isinstance(news, Enrolled):
            self.notify(f"{news.name}: {news.seconds:.1f} s of speech enrolled", markup=False)
            for warning in news.warnings:
                self.notify(f"{news.name}: {warning}", severity="warning", timeout=15, markup=False)
        elif isinstance(news, NotEnrolled):
            self.notify(f"{news.name}: {news.reason}", severity="warning", markup=False)
