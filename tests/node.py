"""JavaScript in Node, for tests."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Optional

import pytest

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
