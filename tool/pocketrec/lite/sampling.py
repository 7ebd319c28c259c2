"""Items drawn with a probability proportional to support ** alpha: the extra negatives of a sampled loss.

The official GRU4Rec draws them so, with replacement, the same for all lanes of a batch (Hidasi and Karatzoglou 2018).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from pocketrec.errors import SettingsError

BLOCK = 1 << 16
"""Numbers drawn at a time."""
GUIDES_PER_ITEM = 4


class Sampler:
    """An endless stream of item codes.

    Args:
        support: how often each item was clicked; (n_items,), 0 or more, not all 0 unless alpha is 0.
        alpha: 0: all items alike; 1: as often as they are clicked.
        seed: the same seed gives the same stream, however it is cut into draws.

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
        self._bounds[-1] = 1.0  # a sum of floats may end below what is drawn
        self._bounds[np.flatnonzero(weights)[-1] :] = 1.0
        # Where the search for j / guides ends: that for a number of the same cell ends there or a little further (Chen and
        # Asau 1974). A power of two, so that number * guides is exact.
        guides = 1 << max(GUIDES_PER_ITEM * len(counts), 1).bit_length()
        self._guide = np.searchsorted(self._bounds, np.arange(guides) / guides, side="right").astype(np.int32)
        self._rng = np.random.default_rng(seed)
        self._left = np.empty(0, np.int32)

    def draw(self, count: int) -> npt.NDArray[np.int32]:
        """The next `count` codes of the stream, int32."""
        parts, missing = [], count
        while missing:
            if not len(self._left):
                self._left = self._block()
            parts.append(self._left[:missing])
            self._left = self._left[missing:]
            missing -= len(parts[-1])
        return np.concatenate(parts) if parts else np.empty(0, np.int32)

    def skip(self, count: int) -> None:
        """Go on as if `count` codes had been drawn, of a stream that nothing was drawn from yet; takes no time."""
        blocks, rest = divmod(count, BLOCK)
        self._rng.bit_generator.advance(blocks * BLOCK)  # type: ignore[attr-defined]
        self._left = np.empty(0, np.int32)
        self.draw(rest)

    def batches(self, count: int) -> Iterator[npt.NDArray[np.int32]]:
        """`draw(count)` for ever."""
        while True:
            yield self.draw(count)

    def _block(self) -> npt.NDArray[np.int32]:
        drawn = self._rng.random(BLOCK)
        codes = self._guide[(drawn * len(self._guide)).astype(np.int64)]
        further = np.flatnonzero(self._bounds[codes] <= drawn)
        codes[further] += 1
        further = further[self._bounds[codes[further]] <= drawn[further]]
        codes[further] = np.searchsorted(self._bounds, drawn[further], side="right")
        return codes
