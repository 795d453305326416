"""Where data sets are."""

import os
from pathlib import Path
from typing import Optional

import platformdirs

DATA_VARIABLE = "STREAMDRNN_DATA"


def data_folder(data_dir: Optional[Path], name: str) -> Path:
    """The folder of one data set, in ``data_dir`` or else in that which ``STREAMDRNN_DATA`` names.

    Where neither is given it is that which was downloaded, if it was.

    Raises:
        FileNotFoundError: neither is given, or there is no such data set in it.
    """
    if data_dir is None:
        value = os.environ.get(DATA_VARIABLE)
        if not value and (cache_folder() / name).is_dir():
            return cache_folder() / name
        if not value:
            raise FileNotFoundError(f"no data folder: give --data-dir, or set {DATA_VARIABLE}")
        data_dir = Path(value)
    folder = data_dir / name
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; expected the data set {name!r} in {data_dir}")
    return folder


def cache_folder() -> Path:
    """Where downloaded data sets are kept for a user who names no other place."""
    return platformdirs.user_cache_path("streamdrnn", appauthor=False)
