"""The page that hears by itself as a folder, for any file server.

``python -m streamdrnn.apps.speaker_id.web.static_page FOLDER`` writes it.
"""

import json
import shutil
import sys
from pathlib import Path

from streamdrnn.apps.speaker_id.model import asset
from streamdrnn.apps.speaker_id.web.files import SETUP, model_files, page_files


def write_page(folder: Path) -> None:
    """Write the page with the shipped models, in the place of what is in the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    found = page_files() | model_files(asset("speaker.safetensors"))
    for address, path in found.items():
        (folder / address).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / address)
    (folder / SETUP).write_text(json.dumps({"local": True, "files": sorted(found)}, indent=1) + "\n")


if __name__ == "__main__":
    write_page(Path(sys.argv[1]))
