"""The four files of MNIST, checked."""

import gzip
import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamdrnn.errors import InputError

MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
"""Of the official files, unpacked."""


class Images(NamedTuple):
    """N images: pixels ``(N, 784)`` from 0 to 255, row by row, and labels ``(N,)``; both uint8."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def read_mnist(folder: Path, part: str) -> Images:
    """The images of a part, ``"train"`` or ``"t10k"``.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged or not the official one.
    """
    pixels = _read_idx(folder, f"{part}-images-idx3-ubyte")
    return Images(pixels.reshape(len(pixels), -1), _read_idx(folder, f"{part}-labels-idx1-ubyte"))


def _read_idx(folder: Path, name: str) -> NDArray[np.uint8]:
    """A file of unsigned bytes in the idx format: 0, 0, 8, the number of dimensions, and each as a big-endian int32."""
    path = folder / f"{name}.gz"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        content = gzip.decompress(path.read_bytes())
    except (EOFError, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: damaged ({error})") from None
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if digest != MD5[name]:
        raise InputError(f"{path}: not the official file (its md5 is {digest}, expected {MD5[name]})")
    dimensions = content[3]
    shape = np.frombuffer(content, ">i4", dimensions, offset=4)
    # Copied, as torch takes no memory that cannot be written.
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape).copy()
