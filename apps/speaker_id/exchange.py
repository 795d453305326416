"""Profiles as a JSON file, to take them elsewhere."""

import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from streamdrnn.apps.speaker_id.profiles import ProfileStore, Recording, StoredRecording, clean_name
from streamdrnn.errors import InputError

FORMAT = "streamdrnn profiles 1"
MAX_BYTES = 64 << 20
_MAX_SIZE = 65536
_MODEL_DIGITS = 16


def export_profiles(store: ProfileStore, path: Path) -> None:
    """Write all profiles to a file, or leave what is there as it was.

    Raises:
        FileExistsError: another file than one of exported profiles is there, such as a recording.
        ValueError: nobody is enrolled.
        OSError: the file cannot be written.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder")
    if path.exists() and not _is_export(path):
        raise FileExistsError(f"{path}: is there already and holds no exported profiles, expected another name")
    stored = store.recordings()
    if not stored:
        raise InputError(f"{store.path}: nobody is enrolled")
    recordings = [as_object(one) for one in stored]
    with tempfile.NamedTemporaryFile("w", dir=path.parent, encoding="utf-8", delete=False) as file:
        try:
            json.dump({"format": FORMAT, "recordings": recordings}, file, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def _is_export(path: Path) -> bool:
    if not path.is_file():
        return False
    beginning = json.dumps({"format": FORMAT})[:-1].encode()
    with path.open("rb") as file:
        return file.read(len(beginning)) == beginning


def as_object(stored: StoredRecording) -> dict[str, Any]:
    """A recording as JSON has it; :func:`parse_recording` reads it."""
    name, model, (seconds, embedding, _) = stored
    return {"name": name, "model": model, "seconds": seconds, "embedding": embedding.tolist()}


def import_profiles(store: ProfileStore, path: Path) -> None:
    """Add the recordings of a file; those that are there already are not added again. All, or none.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file, or a profile of the same name was made with another model.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path}: {path.stat().st_size} bytes, expected {MAX_BYTES} at most")
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise InputError(f"expected the format {FORMAT!r}")
        found = content.get("recordings")
        if not isinstance(found, list):
            raise InputError("recordings: expected a list")
        stored = [parse_recording(value) for value in found]
    except (ValueError, RecursionError) as error:  # what is no JSON or no text is a ValueError too
        raise InputError(f"{path}: no profiles that can be imported ({error})") from None
    store.restore(stored)


def parse_recording(value: Any) -> StoredRecording:
    """A recording of which JSON has been read.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, dict) or set(value) != {"name", "model", "seconds", "embedding"}:
        raise InputError("a recording: expected an object with name, model, seconds and embedding")
    name, model, seconds, embedding = (value[key] for key in ("name", "model", "seconds", "embedding"))
    if not isinstance(name, str):
        raise InputError(f"name: expected text, got {name!r}")
    name = clean_name(name)
    if not (isinstance(model, str) and len(model) == _MODEL_DIGITS and set(model) <= set("0123456789abcdef")):
        raise InputError(f"model of {name!r}: expected {_MODEL_DIGITS} hexadecimal digits")
    if not (_is_number(seconds) and seconds > 0):
        raise InputError(f"seconds of {name!r}: expected a number above 0, got {seconds!r}")
    if not (isinstance(embedding, list) and 0 < len(embedding) <= _MAX_SIZE and all(map(_is_number, embedding))):
        raise InputError(f"embedding of {name!r}: expected 1 to {_MAX_SIZE} finite numbers")
    vector = torch.tensor(embedding, dtype=torch.float64)
    if abs(float(vector.norm()) - 1) > 1e-3:
        raise InputError(f"embedding of {name!r}: expected length 1, got {float(vector.norm()):.3g}")
    return StoredRecording(name, model, Recording(float(seconds), vector.float()))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9 and math.isfinite(value)
