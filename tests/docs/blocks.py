"""The blocks of code in what people read, and what runs each kind."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    {
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "kernels" / "wasm" / "README.md",
        ROOT / "streamdrnn" / "client" / "js" / "README.md",
        ROOT / "streamdrnn" / "export" / "c_files" / "README.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "apps" / "speaker_id" / "assets").glob("*.md"),
    }
)

OF_THE_SITE = {
    "{code-cell} python": "run when the site is built: test_site.py",
    "{code-block} python": "of a library that we do not install; parsed: test_blocks.py",
    "{eval-rst}": "the site's",
    "{toctree}": "the site's",
    "{include}": "the site's",
}
KINDS = {
    **OF_THE_SITE,
    "python": "run: test_python.py, test_readme.py, tests/core/test_sharing.py",
    "sh": "each command is one that there is, with options that it has: test_commands.py",
    "json": "parsed: test_blocks.py",
    "yaml": "parsed, and its names are looked up: test_blocks.py",
    "html": "an import map, parsed: test_blocks.py",
    "c": "compiled and run: tests/kernels/test_library.py",
    "cmake": "a project that has these lines is built: tests/kernels/test_library.py",
    "js": "run in Node or a browser: tests/kernels/test_wasm.py, tests/serving",
    "javascript": "run in a browser: tests/serving/test_docs.py",
}
"""The languages of blocks, each with what holds its blocks to be right."""


class Block(NamedTuple):
    """A block of code.

    Attributes:
        page: its file.
        line: where it begins.
        language: what stands after the fence.
        text: what it holds.
    """

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path, *languages: str) -> list[Block]:
    """The blocks of a page in its order; those in some languages, or all."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, found.start()) + 1, found[2].strip(), found[3])
        for found in re.finditer(r"^(`{3,})([^\n]*)\n(.*?)^\1$", text, re.MULTILINE | re.DOTALL)
        if not languages or found[2].strip() in languages
    ]


def blocks(*languages: str) -> list[Block]:
    """The blocks of all pages."""
    return [block for page in PAGES for block in blocks_of(page, *languages)]


def commands(block: Block) -> list[list[str]]:
    """The words of each command of a block of shell: lines that go on are one, pipes and `&&` are between two."""
    found = []
    for line in block.text.replace("\\\n", " ").splitlines():
        line = re.sub(r"\$\([^)]*\)", "RESULT", line)
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, "&&"]:
            if word in ("|", "&&"):
                found += [words] if words else []
                words = []
            else:
                words.append(word)
    return found
