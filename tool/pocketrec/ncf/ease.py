"""EASE: the weights that items have for one another, by one inverse, with numpy alone.

Each column of the rated pairs X (U, I) is made of the other ones as well as it can be (Steck 2019, "Embarrassingly Shallow
Autoencoders for Sparse Data"): B (I, I), zero on its diagonal, makes |X - X B|^2 + r |B|^2 smallest. With P the inverse of
X'X + r, B_ij = -P_ij / P_jj. Of each row of B the K largest weights are kept, and the others count as 0: a model of
8 K I bytes that a phone can hold, where B takes 4 I^2.

In memory is one matrix of I^2 float32, which is inverted where it is.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

from pocketrec.errors import SettingsError
from pocketrec.ncf.interactions import Interactions
from pocketrec.ncf.options import NcfTrainSettings
from pocketrec.progress import Advance
from pocketrec.schema import Float32
from pocketrec.storage.tensors import Tensors

BLOCK = 512
"""Rows and columns of the matrix that are worked on at a time."""
NUMBERS_PER_BLOCK = 1 << 21
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class EaseSolver:
    """The weights, solved in one sweep; before it there are none."""

    def __init__(self, known: Interactions, settings: NcfTrainSettings) -> None:
        """Raises a SettingsError if the matrix does not fit in memory."""
        needed, free = bytes_needed(known.n_items), free_memory()
        if needed > free:
            raise SettingsError(
                f"ease needs {needed:,} bytes of memory for {known.n_items:,} items, 4 for each two of them; "
                f"{free:,} are free.",
                expected="fewer items, or more memory",
                do="pocketrec ncf train --model ials",
            )
        self.known, self.regularization = known, settings.regularization
        self.keep = min(settings.neighbours, known.n_items - 1)
        self.steps = known.n_users
        self._weights: Tensors = {}

    def sweep(self, advance: Advance) -> float:
        """Solve; return the sum that is made small, with all weights, by the number of ratings. `advance` counts users."""
        known = self.known
        matrix = _common_users(known, advance)
        diagonal = np.arange(known.n_items)
        matrix[diagonal, diagonal] += self.regularization
        invert(matrix)
        own = matrix[diagonal, diagonal]
        unexplained = 1 / own.astype(np.float64) - self.regularization  # of each column, by the other ones
        neighbours = np.empty((known.n_items, self.keep), np.int32)
        weights = np.empty(neighbours.shape, np.float32)
        for first in range(0, known.n_items, BLOCK):
            rows = matrix[first : first + BLOCK]
            rows /= -own
            rows[np.arange(len(rows)), diagonal[first : first + BLOCK]] = 0
            best = np.argpartition(-np.abs(rows), self.keep - 1, axis=1)[:, : self.keep]
            best.sort(axis=1)
            neighbours[first : first + BLOCK] = best
            weights[first : first + BLOCK] = np.take_along_axis(rows, best, axis=1)
        starts = known.starts.astype(np.int32)
        self._weights = {
            "user_starts": starts, "user_items": known.items, "neighbours": neighbours, "weights": weights,
        }  # fmt: skip
        return float(unexplained.sum()) / len(known.items)

    def weights(self) -> Tensors:
        """Those of `linear.Ease`."""
        return self._weights

    state = weights

    def restore(self, state: Tensors) -> None:
        """Go on from what `state` returned."""
        self._weights = dict(state)


def _common_users(known: Interactions, advance: Advance) -> Float32:
    """X'X: how many users have both of two items, float32 (I, I)."""
    matrix = np.zeros((known.n_items, known.n_items), np.float32)
    for user in range(known.n_users):
        own = np.sort(known.of(user))
        step = max(1, NUMBERS_PER_BLOCK // max(1, len(own)))
        for first in range(0, len(own), step):
            matrix[own[first : first + step, None], own] += 1
        advance(1)
    return matrix


def invert(matrix: Float32) -> None:
    """Invert a symmetric, positive definite matrix where it is, by block elimination: beside it are a few blocks of rows.

    Each step exchanges the unknowns of a block with the right sides (the sweep operator); after all of them stands the
    negative inverse.
    """
    size = len(matrix)
    parts = [slice(first, min(first + BLOCK, size)) for first in range(0, size, BLOCK)]
    for part in parts:
        inverse = np.linalg.inv(matrix[part, part].astype(np.float64)).astype(np.float32)
        columns = matrix[:, part].copy()
        moved = columns @ inverse
        for rows in parts:
            matrix[rows] -= moved[rows] @ columns.T
        matrix[:, part], matrix[part] = moved, moved.T
        matrix[part, part] = -inverse
    np.negative(matrix, out=matrix)


def bytes_needed(n_items: int) -> int:
    """Of memory, for the matrix and the blocks of rows beside it."""
    return 4 * n_items * (n_items + 6 * BLOCK)


def free_memory() -> int:
    """Bytes that the machine, or the control group of this process, has left, about; a large number if nobody knows."""
    found = [1 << 62]
    with contextlib.suppress(OSError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    for path in _LIMITS:
        with contextlib.suppress(OSError, ValueError):  # "max"
            found.append(int(Path(path).read_text()))
    return min(found)
