"""Draws items with a probability proportional to support ** alpha: the extra negatives of a sampled loss.

As in the official GRU4Rec, they are drawn with replacement and are the same for all lanes of a step (Hidasi and Karatzoglou
2018).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pocketrec.errors import SettingsError
from pocketrec.schema import Int32

BLOCK = 1 << 16
"""Numbers drawn from the generator at a time."""
GUIDES_PER_ITEM = 4
"""Entries of the table that shortens the search, for each item."""


class Sampler:
    """An endless stream of item codes.

    Args:
        support: clicks of each item, (n_items,), 0 or more; not all 0 unless alpha is 0.
        alpha: 0 draws all items equally often, 1 draws them as often as they are clicked.
        seed: the same seed gives the same stream, whatever the sizes of the draws.

    Raises:
        SettingsError: no item can be drawn.
    """

    def __init__(self, support: npt.ArrayLike, alpha: float = 0.75, seed: int | Sequence[int] = 42) -> None:
        counts = np.asarray(support, np.float64)
        weights = np.where(counts > 0, counts, 0 if alpha else 1) ** alpha
        total = weights.sum()
        if counts.ndim != 1 or not (alpha >= 0 and np.all(counts >= 0) and 0 < total < np.inf):
            raise SettingsError(
                f"no item can be drawn with the power {alpha} of these supports.",
                expected="supports of 0 or more, one above 0, and alpha 0 or more",
            )
        self.probabilities = weights / total
        self._bounds = np.cumsum(self.probabilities)
        self._bounds[-1] = 1.0  # rounding may leave the sum below a number that is drawn
        self._bounds[np.flatnonzero(weights)[-1] :] = 1.0
        # Entry j is where the search for j / guides ends; the search for a number up to (j + 1) / guides ends there or a
        # little further (Chen and Asau 1974). A power of two, so that number * guides is exact.
        guides = 1 << max(GUIDES_PER_ITEM * len(counts), 1).bit_length()
        self._guide = np.searchsorted(self._bounds, np.arange(guides) / guides, side="right").astype(np.int32)
        self._rng = np.random.default_rng(seed)
        self._left = np.empty(0, np.int32)

    def draw(self, count: int) -> Int32:
        """The next `count` codes of the stream, (count,)."""
        parts, missing = [], count
        while missing:
            if not len(self._left):
                self._left = self._block()
            parts.append(self._left[:missing])
            self._left = self._left[missing:]
            missing -= len(parts[-1])
        return np.concatenate(parts) if parts else np.empty(0, np.int32)

    def skip(self, count: int) -> None:
        """Skip `count` codes without drawing them; only for a stream from which nothing has been drawn yet."""
        blocks, rest = divmod(count, BLOCK)
        self._rng.bit_generator.advance(blocks * BLOCK)  # type: ignore[attr-defined]
        self._left = np.empty(0, np.int32)
        self.draw(rest)

    def _block(self) -> Int32:
        drawn = self._rng.random(BLOCK)
        codes = self._guide[(drawn * len(self._guide)).astype(np.int64)]
        further = np.flatnonzero(self._bounds[codes] <= drawn)
        codes[further] += 1
        further = further[self._bounds[codes[further]] <= drawn[further]]
        codes[further] = np.searchsorted(self._bounds, drawn[further], side="right")
        return codes
