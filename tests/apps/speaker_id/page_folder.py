"""The page that hears by itself, as a folder for Node."""

import json
from pathlib import Path

from streamdrnn.apps.speaker_id.web.static_page import write_page


def modules_in(folder: Path) -> Path:
    """A folder with the page, as Node takes its modules."""
    write_page(folder)
    (folder / "package.json").write_text(json.dumps({"type": "module"}))  # Node asks; browsers know from the page
    return folder
