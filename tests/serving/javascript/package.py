"""The npm package of the JavaScript client."""

import json
import shutil
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[3] / "streamdrnn" / "client" / "js"
CLIENT = PACKAGE / "streamdrnn.js"
MANIFEST: dict[str, Any] = json.loads((PACKAGE / "package.json").read_text(encoding="utf-8"))


def install(folder: Path) -> None:
    """Put the files that the package names into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", *MANIFEST["files"]):
        shutil.copy(PACKAGE / name, folder)
