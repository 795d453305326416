"""JavaScript in Node, for tests."""

import json
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Optional, Self

import pytest

from tests.waiting import PATIENCE

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="needs Node, and none is installed")


def run_node(script: Path, request: Any, *arguments: object, folder: Optional[Path] = None) -> Any:
    """What a script answers to a request, both as JSON; it reads standard input and writes standard output.

    Args:
        folder: where it runs.
    """
    assert NODE is not None
    command = [NODE, str(script), *map(str, arguments)]
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Node:
    """A script that answers one request after another, each a line of JSON, until its input ends."""

    def __init__(self, script: Path, *arguments: object) -> None:
        assert NODE is not None
        command = [NODE, str(script), *map(str, arguments)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, request: Any) -> Any:
        """The answer to a request."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        """Wait until it ends by itself."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._process.stdin, self._process.stdout:
            self._process.stdin.close()
            assert self._process.wait(PATIENCE) == 0
