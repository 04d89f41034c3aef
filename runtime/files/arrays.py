"""Arrays in files: .npy read, .npy and .npz made."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.errors import RequestError

__all__ = ["load_array", "npy", "npz"]


def load_array(path: str | Path, what: str) -> NDArray[Any]:
    """An array from a .npy file, never a pickle. Raises `RequestError` when there is none."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else "it is empty"
        raise RequestError(f"{what}: {path} cannot be read as a .npy array ({reason}).") from error
    if not isinstance(array, np.ndarray):
        raise RequestError(f"{what}: {path} is an archive of arrays, expected one array saved with numpy.save.")
    return array


def npy(array: NDArray[Any]) -> bytes:
    """The bytes of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The bytes of a .npz file, compressed; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # numpy.savez takes no array called `file`
        for name, array in arrays.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), npy(array), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
