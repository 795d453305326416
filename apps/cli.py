"""The command line, `streamdrnn`: one subcommand per job, one line per error."""

import difflib
import logging
import os
import shutil
import sys
import textwrap
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple, NoReturn, Optional, Protocol

import streamdrnn
from streamdrnn.errors import InputError

logger = logging.getLogger("streamdrnn")


class Command(Protocol):
    """A command with its options, a dataclass."""

    def run(self) -> None: ...


class Entry(NamedTuple):
    """Where a command is, and what it does.

    Attributes:
        module: below ``streamdrnn.apps``; it is imported when the command is chosen, and imports what is slow to load
            (torch) when the command runs.
        name: of the command's class there.
        summary: the first sentence of the class's docstring.
    """

    module: str
    name: str
    summary: str

    def load(self) -> type[Command]:
        command: type[Command] = getattr(import_module(f"streamdrnn.apps.{self.module}"), self.name)
        return command


COMMANDS = {
    "demo": Entry(
        "speaker_id.demo", "Demo", "Enrol the shipped sample's speakers, stream the sample, and say who speaks when."
    ),
    "identify": Entry(
        "speaker_id.commands.identify",
        "Identify",
        "Say who speaks when in a recording, by the voices that are enrolled.",
    ),
    "enroll": Entry(
        "speaker_id.commands.enroll", "Enroll", "Enrol a voice from recordings or the microphone, or add to it."
    ),
    "profiles": Entry(
        "speaker_id.commands.profiles",
        "ListProfiles",
        "List the voices that are enrolled; or remove, rename, export or import some first.",
    ),
    "listen": Entry("speaker_id.commands.listen", "Listen", "Say who speaks, while they speak."),
    "calibrate": Entry(
        "speaker_id.commands.calibrate",
        "Calibrate",
        "Measure how well voices are told apart, and make the probabilities right for them.",
    ),
    "train": Entry("training.train", "Train", "Train a model, and measure it."),
    "evaluate": Entry(
        "training.commands", "Evaluate", "Measure a trained model on the data that its training held back."
    ),
    "generate": Entry(
        "training.commands",
        "Generate",
        "Write text with a model that was trained on the Penn Treebank, character by character.",
    ),
    "reproduce": Entry(
        "training.commands",
        "Reproduce",
        "Train all that a table or figure of the paper needs, and write the report of all tables.",
    ),
    "export": Entry(
        "export",
        "Export",
        "Write a model as files that run without this package, live or in chunks, with its state going in and out.",
    ),
    "score": Entry(
        "scoring.command",
        "ScoreFolder",
        "Write what a model says of every recording in a folder: embeddings of voices, or the logits of classes.",
    ),
    "serve": Entry(
        "serving.command", "Serve", "Answer live streams over WebSockets, each as if it had the model for itself."
    ),
    "bench": Entry("bench.command", "Bench", "Measure the network beside other ways to compute the same numbers."),
    "info": Entry(
        "info", "Info", "Show versions and backends, or what is in a model file and how far back it remembers."
    ),
}

USAGE = "usage: streamdrnn [-h] [--version] [--debug] COMMAND ..."


def overview() -> str:
    """The help of the program: its options, and a line for each command."""
    lines = [f"{name:<11} {entry.summary}" for name, entry in COMMANDS.items()]
    width = shutil.get_terminal_size().columns
    wrapped = [textwrap.fill(line, width, initial_indent="  ", subsequent_indent=" " * 14) for line in lines]
    return "\n".join(
        [
            USAGE,
            "",
            "Dilated recurrent networks that stream. Try: streamdrnn demo",
            "",
            *("commands (streamdrnn COMMAND --help has each one's options and an example):", *wrapped),
            "",
            "options:",
            "  -h, --help  Show this.",
            "  --version   Show the version.",
            "  --debug     Log to standard error, and print errors with their tracebacks; of every command.",
        ]
    )


def parse(arguments: Sequence[str]) -> Command:
    """The command that the arguments name; wrong ones end the process with 2, and a request for help with 0."""
    name, *options = arguments or [""]
    if name in ("-h", "--help"):
        _end(0, overview())
    if name == "--version":
        _end(0, f"streamdrnn {streamdrnn.__version__}")
    if not name:
        _end(2, f"{USAGE}\nstreamdrnn: expected a command; see streamdrnn --help")
    if name not in COMMANDS:
        kind = "option" if name.startswith("-") else "command"
        close = difflib.get_close_matches(name, COMMANDS)
        _end(2, f"streamdrnn: no {kind} {name!r}{f', perhaps {close[0]}' if close else ''}; see streamdrnn --help")
    # Here, as the help above has no need of it.
    import tyro

    from streamdrnn.apps.option_style import OPTION_STYLE

    return tyro.cli(
        COMMANDS[name].load(),
        prog=f"streamdrnn {name}",
        args=options,
        config=OPTION_STYLE,
    )


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Run the command that the arguments name, and exit: 0 done, 1 the work failed, 2 wrong usage."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in words
    if debug:
        words = [word for word in words if word != "--debug"]
        logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
        logger.setLevel(logging.DEBUG)
    logger.debug("version %s, called with %s", streamdrnn.__version__, words)
    try:
        parse(words).run()
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone (as in `| head`); nothing is to be said to it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        bug = _is_bug(error)
        if bug or debug:
            traceback.print_exc()
        line = "this looks like a bug of streamdrnn; please report it with the lines above" if bug else _line(error)
        _end(1, f"streamdrnn: {' '.join(line.split()) or type(error).__name__}")


def _line(error: Exception) -> str:
    """An error for people; the operating system's without its number, and with the file in front as ours have it."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror.lower()}"
    return str(error)


def _is_bug(error: Exception) -> bool:
    """Whether an error is neither about what the user gave nor about a file, a device or a connection."""
    if isinstance(error, OSError):
        # The operating system's have a number, ours a class. Python's own, as of inspect.getsource, have neither.
        return type(error) is OSError and error.errno is None
    return not isinstance(error, InputError)


def _end(code: int, text: str) -> NoReturn:
    print(text, file=sys.stderr if code else sys.stdout, flush=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
