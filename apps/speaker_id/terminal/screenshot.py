"""The picture of `listen` in the README: its screen after half a minute of the demo's conversation.

Usage: python -m streamdrnn.apps.speaker_id.terminal.screenshot docs/listen.svg
"""

import asyncio
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from textual.widgets import Static

from streamdrnn.apps.speaker_id.conversation import Conversation
from streamdrnn.apps.speaker_id.enrolment import listen_to
from streamdrnn.apps.speaker_id.model import asset, load_speaker_model, use_one_thread
from streamdrnn.apps.speaker_id.profiles import ProfileStore
from streamdrnn.apps.speaker_id.scores import THRESHOLD
from streamdrnn.apps.speaker_id.sources.file import FileSource
from streamdrnn.apps.speaker_id.terminal.app import ListenApp

SECONDS = 32.5
SIZE = (96, 17)


async def screenshot(app: ListenApp, conversation: Conversation, seconds: float) -> str:
    """The screen as SVG, some seconds after the sound began."""
    async with app.run_test(size=SIZE) as pilot:
        voices = app.query_one("#voices", Static)
        while conversation.summary.seconds < seconds or not str(voices.render()):
            await pilot.pause(0.1)
        await pilot.pause()  # what was shown is drawn
        picture = app.export_screenshot()
        await app.action_quit()
    return picture


def main(path: Path) -> None:
    use_one_thread()
    script = json.loads(asset("demo.json").read_text(encoding="utf-8"))
    model = load_speaker_model()
    with TemporaryDirectory() as folder:
        store = ProfileStore(Path(folder) / "profiles.sqlite3")
        for voice in script["voices"]:
            store.add(voice["name"], model.id, [listen_to(asset(voice["file"]), model)])
        source = FileSource(asset(script["file"]), realtime=True)
        conversation = Conversation(model, store, THRESHOLD, source.sample_rate)
        picture = asyncio.run(screenshot(ListenApp(source, conversation, [], None), conversation, SECONDS))
    path.write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
