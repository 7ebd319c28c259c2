"""HR@k and NDCG@k with one positive a user, as the original counts them: the positive loses ties.

The rank of a positive is the number of others that score at least as much. HR@k is the share of ranks below k; NDCG@k is
the mean of ln 2 / ln(rank + 2) where the rank is below k, else 0 (He et al. 2017, section 4.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketrec.schema import Bool, Int64


@dataclass(frozen=True)
class Metrics:
    """Means over users.

    Attributes:
        hr: HR@k.
        ndcg: NDCG@k.
        users: how many.
    """

    hr: float
    ndcg: float
    users: int


def ranks(scores: npt.NDArray[Any], left_out: Bool | None = None) -> Int64:
    """The rank of the last column among the others, (n,) from 0.

    Args:
        scores: (n, N + 1), the positive last. A score that is no number counts as a better one.
        left_out: (n, N + 1), others that do not count.
    """
    ahead = ~(scores[:, :-1] < scores[:, -1:])
    if left_out is not None:
        ahead &= ~left_out[:, :-1]
    counted: Int64 = ahead.sum(axis=1)
    return counted


def metrics(found: Int64, top: int) -> Metrics:
    """HR and NDCG at `top` of some ranks."""
    if not len(found):
        return Metrics(0.0, 0.0, 0)
    gains = np.where(found < top, np.log(2) / np.log(found + 2.0), 0.0)
    return Metrics(float((found < top).mean()), float(gains.mean()), len(found))
