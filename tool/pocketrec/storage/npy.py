"""Arrays on disk, opened with care: a file that is not a whole .npy of the dtype and shape asked for is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from pocketrec.errors import DatasetError
from pocketrec.schema import Array
from pocketrec.storage.repair import rebuild_command_of, unreadable


def open_array(
    path: Path,
    *,
    dtype: npt.DTypeLike = np.int32,
    shape: tuple[int | None, ...] = (None, None),
    do: str = "pocketrec batches",
) -> Array:
    """A .npy file, mapped and read-only, not loaded.

    It must have this dtype and shape, None for any length: (None, B) for batches of shape (steps, B). If it is missing, cut
    or something else (a zip of arrays, pickled objects, which are not run) a DatasetError says so; `do` is the command that
    makes a file that no manifest describes.
    """
    lengths = ", ".join("any" if length is None else str(length) for length in shape)
    expected = f"a whole .npy file, {np.dtype(dtype)}[{lengths}]"
    if not path.is_file():
        raise DatasetError(f"{path} is missing.", expected=expected, do=rebuild_command_of(path) or do)
    try:
        array = np.lib.format.open_memmap(path, mode="r")  # unlike np.load it reads neither zips nor pickles
    except (OSError, ValueError, EOFError, SyntaxError, TypeError, OverflowError) as error:
        raise unreadable(path, error, expected=expected, do=do) from error
    fits = len(shape) == array.ndim and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
    if array.dtype != dtype or not fits:
        raise DatasetError(f"{path} holds {array.dtype} of shape {array.shape}.", expected=expected, do=do)
    return array
