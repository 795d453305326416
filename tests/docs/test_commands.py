"""The commands that pages show are there, and take the options that are shown."""

import re
import tomllib
from pathlib import Path

import pytest

from streamdrnn.apps.cli import parse
from tests.docs.blocks import ROOT, Block, blocks, commands

OTHERS = {
    ".": "the shell's own",
    "./example": "the C folder's: tests/export/test_c.py builds and runs it",
    "./stream": "examples/c/stream.c: tests/kernels/test_library.py builds and runs it",
    "build/stream": "examples/torchscript_cpp: tests/test_examples.py builds and runs it",
    "cc": "builds an example: tests/kernels/test_library.py",
    "cmake": "builds the library and an example: tests/kernels/test_library.py, tests/test_examples.py",
    "export": "the shell's own",
    "ffmpeg": "Debian's",
    "git": "clones a peer that has to be fetched",
    "hf": "huggingface_hub's",
    "seq": "the system's",
    "serve": "Ray's",
    "speaker/example": "the C folder's: tests/export/test_c.py builds and runs it",
    "torchrun": "torch's; tests/training runs trainings on two processes",
}
"""Programs that are not ours, or that other tests build and run."""
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]


def check_streamdrnn(words: list[str]) -> None:
    parse([word for word in words if word != "--debug"])


def check_pip(words: list[str]) -> None:
    assert words[0] in ("install", "download")
    for extra in re.findall(r"\.\[([\w,]+)\]", " ".join(words)):
        assert set(extra.split(",")) <= EXTRAS.keys()


def check_make(words: list[str]) -> None:
    folder = Path(words[words.index("-C") + 1]) if "-C" in words else Path()
    if folder == Path("speaker") or not words:
        return  # a folder that `export --format c` wrote
    targets = [word for word in words if "=" not in word and word not in ("-C", str(folder))]
    rules = re.findall(r"^(\w[\w -]*):", (ROOT / folder / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(targets) <= {target for rule in rules for target in rule.split()}


def check_python(words: list[str]) -> None:
    if words[0] == "-m":
        assert words[1] in ("venv", "http.server")
    else:
        assert words[0] in ("recall.py", "live.py"), "a program that the page does not show"


OURS = {
    "streamdrnn": check_streamdrnn,
    "pip": check_pip,
    "make": check_make,
    "python": check_python,
    "python3": check_python,
}


@pytest.mark.parametrize("block", blocks("sh"), ids=str)
def test_a_shown_command_is_there_and_takes_its_options(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    shown = commands(block)
    assert shown
    for program, *words in shown:
        words = words[: next((place for place, word in enumerate(words) if word in "<>"), len(words))]
        if program in OURS:
            OURS[program](words)
        else:
            assert program in OTHERS, f"{block}: {program} {words}"


def test_no_program_is_listed_for_nothing() -> None:
    shown = {words[0] for block in blocks("sh") for words in commands(block)}
    assert shown == OTHERS.keys() | OURS.keys()


def test_an_option_that_is_not_there_is_refused() -> None:
    with pytest.raises(SystemExit):
        check_streamdrnn(["demo", "--nonsense"])
    with pytest.raises(AssertionError):
        check_make(["nonsense"])
    with pytest.raises(AssertionError):
        check_pip(["install", ".[nonsense]"])
