"""Which rating is for training and which for the test, from how many ratings a user has, or from when they were.

In both protocols a user's ratings stand in order of time, ties in file order, and the earliest are for training.

- leave-one-out: the last rating of each user is the test positive; with validation the last but one is the validation
  positive (He et al. 2017, "Neural Collaborative Filtering", section 4.1).
- time: one moment for all users, so that training never sees what came after a test positive. A share of all ratings is at
  or after the moment; the first of a user's is the test positive. With validation there is an earlier moment, with the same
  share of ratings up to the later one. A user without a rating before the (earlier) moment is not evaluated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pocketrec.schema import Int64

NONE = -1
"""In place of a position: the user has no such positive."""


@dataclass(frozen=True)
class Places:
    """For some users, positions among each one's ratings in order of time, int64 (users,) each.

    Attributes:
        train: how many of the first are for training.
        valid: the validation positive, or `NONE`.
        test: the test positive, or `NONE`.
    """

    train: Int64
    valid: Int64
    test: Int64


def leave_one_out(counts: Int64, *, validation: bool) -> Places:
    """Places by the number of ratings of each user.

    A user with too few for a train rating as well keeps all for training.
    """
    held = 2 if validation else 1
    enough = counts > held
    return Places(
        np.where(enough, counts - held, counts),
        np.where(enough & validation, counts - 2, NONE),
        np.where(enough, counts - 1, NONE),
    )


def by_time(times: Int64, starts: Int64, cuts: tuple[int, int]) -> Places:
    """Places by the times of ratings.

    Args:
        times: of the ratings of all these users, ordered by user and time.
        starts: (users + 1,) where each user's begin in `times`.
        cuts: the moments from which on ratings are for validation and for the test; equal without validation.
    """
    counts = np.diff(starts)
    train, before_test = (np.add.reduceat(np.append(times < cut, False), starts[:-1], dtype=np.int64) for cut in cuts)
    known = train > 0
    return Places(
        train,
        np.where(known & (train < before_test), train, NONE),
        np.where(known & (before_test < counts), before_test, NONE),
    )
