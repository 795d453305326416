"""The C library's sources as one file, which is compiled once as it is and once for each level of instructions."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Dict, List, Optional

import streamdrnn
from streamdrnn.kernels import cpu

SOURCES = Path(cpu.__file__).parent / "src"
INTERFACE = "streamdrnn.h"
"""The library's header, which stays a file of its own."""

_LEVEL = "entry_points.h"  # with all that it includes: what is compiled once per level
_NOT_IN_THE_LIBRARY = "interface.cpp"

_FILE = """\
// The C library of streamdrnn {version} in one file. SPDX-License-Identifier: Apache-2.0
//
// Compile it once as it is, and once with -DSTREAMDRNN_LEVEL=portable; for x86-64 also with -DSTREAMDRNN_LEVEL=avx2 and
// -DSTREAMDRNN_LEVEL=avx512, and those with the instructions of their names: see the Makefile beside it.
#define STREAMDRNN_LIBRARY
#include "{interface}"

{shared}
#ifdef STREAMDRNN_LEVEL

{level}
#else

{once}
#endif
"""

_INCLUDE = re.compile(r'#include "(.+)"')
_DIRECTIVES = {"#ifdef STREAMDRNN_LIBRARY": True, "#ifndef STREAMDRNN_LIBRARY": False}


def amalgamated() -> str:
    """The one file."""
    sources = [path for path in SOURCES.iterdir() if path.suffix in (".h", ".cpp")]
    texts = {path.name: _for_the_library(path.read_text("utf-8")) for path in sources}
    once = [name for name, text in texts.items() if name.endswith(".cpp") and _LEVEL not in _INCLUDE.findall(text)]
    once = _with_includes(sorted(set(once) - {_NOT_IN_THE_LIBRARY}), texts)
    level = _with_includes([_LEVEL], texts)
    shared = [name for name in level if name in once and name != INTERFACE]

    def joined(names: Iterable[str]) -> str:
        return "\n".join(f"// ---- {name}\n\n{_body(texts[name])}\n" for name in names if name != INTERFACE)

    return _FILE.format(
        version=streamdrnn.__version__,
        interface=INTERFACE,
        shared=joined(shared),
        level=joined(name for name in level if name not in shared),
        once=joined(name for name in once if name not in shared),
    )


def _with_includes(names: Iterable[str], texts: Mapping[str, str]) -> List[str]:
    """These files and all of ours that they include, each after those that it includes."""
    found: Dict[str, None] = {}

    def visit(name: str) -> None:
        if name not in found:
            for included in _INCLUDE.findall(texts[name]):
                visit(included)
            found[name] = None

    for name in names:
        visit(name)
    return list(found)


def _body(text: str) -> str:
    """A file without its includes of ours."""
    lines = [line for line in text.splitlines() if line != "#pragma once" and not _INCLUDE.fullmatch(line)]
    return "\n".join(lines).strip()


def _for_the_library(text: str) -> str:
    """A file without what STREAMDRNN_LIBRARY leaves out."""
    kept: List[str] = []
    conditions: List[Optional[bool]] = []  # the open #if: whether their lines are kept; None if not about the library
    for line in text.splitlines():
        about = None
        if line.startswith("#if"):
            about = _DIRECTIVES.get(line)
            conditions.append(about)
        elif line.startswith("#else"):
            about = conditions[-1]
            conditions[-1] = about if about is None else not about
        elif line.startswith("#endif"):
            about = conditions.pop()
        if about is None and False not in conditions:
            kept.append(line)
    return "\n".join(kept)
