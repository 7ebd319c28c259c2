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

    Args:
        path: the file; a zip of arrays (.npz) or pickled objects are refused and not run.
        dtype: what it must hold: int32 for batches, uint8 for roles.
        shape: what it must have, None for a length that may be any: (None, B) for batches of shape (steps, B).
        do: the command that makes the file, for one that no manifest describes.

    Raises:
        DatasetError: the file is missing, cut, or holds another kind of array.
    """
    expected = f"a whole .npy file, {_kind(dtype, shape)}"
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


def _kind(dtype: npt.DTypeLike, shape: tuple[int | None, ...]) -> str:
    return f"{np.dtype(dtype)}[{', '.join('any' if length is None else str(length) for length in shape)}]"
