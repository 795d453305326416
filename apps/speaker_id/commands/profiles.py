"""`streamdrnn profiles`: the voices that are enrolled."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Optional

import tyro

from streamdrnn.apps.speaker_id.commands.options import Json, ProfileFile, profile_store
from streamdrnn.errors import InputError


@dataclass
class ListProfiles:
    """List the voices that are enrolled; or remove, rename, export or import some first.

    Example: streamdrnn profiles --remove "Anna Example"
    """

    remove: Annotated[Optional[str], tyro.conf.arg(metavar="NAME", help="Remove this voice.")] = None
    rename: Annotated[
        Optional[tuple[str, str]], tyro.conf.arg(metavar="NAME NEW", help="Give a voice another name.")
    ] = None
    export_to: Annotated[
        Optional[Path], tyro.conf.arg(name="export", metavar="FILE", help="Write all voices to a JSON file.")
    ] = None
    import_from: Annotated[
        Optional[Path], tyro.conf.arg(name="import", metavar="FILE", help="Add the voices of such a file.")
    ] = None
    profiles: ProfileFile = None
    json: Json = False

    def run(self) -> None:
        from streamdrnn.apps.speaker_id.exchange import export_profiles, import_profiles

        asked = {"remove": self.remove, "rename": self.rename, "export": self.export_to, "import": self.import_from}
        named = [f"--{name}" for name, value in asked.items() if value is not None]
        if len(named) > 1:
            raise InputError(f"{', '.join(named)}: expected one of them at a time")
        store = profile_store(self.profiles)
        if self.import_from is not None:
            import_profiles(store, self.import_from)
        if self.rename is not None:
            store.rename(*self.rename)
        if self.remove is not None:
            store.remove(self.remove)
        if self.export_to is not None:
            export_profiles(store, self.export_to)
        for profile in store.profiles():
            if self.json:
                print(json.dumps(profile._asdict(), ensure_ascii=False))
            else:
                print(f"{profile.name:<24} {profile.seconds:8.1f} s, recordings: {profile.recordings}")
        if not self.json and not store.profiles():
            print(f"nobody is enrolled in {store.path}")
