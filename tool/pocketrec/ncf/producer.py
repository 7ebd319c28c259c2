"""Training epochs: every train positive once, with k fresh negatives of its user, in one random order.

With a seed they are those of TensorFlow's official NCF (models r2.1.0), bit for bit, in its draw order from numpy's legacy
generator: a number for each epoch that seeds its shuffle; the negatives of epoch 0; the evaluation set; the negatives of
later epochs. Any epoch can be asked for at any time: what lies before it is drawn and thrown away, which takes a few
nanoseconds for a number.

Besides the thresholds of the negatives (8 bytes for a positive) and the positives (8 bytes), an epoch holds its
permutation, 4 bytes for an example; the examples themselves are made a block at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pocketrec.errors import SettingsError
from pocketrec.ncf.interactions import Interactions, Positives
from pocketrec.ncf.negatives import Negatives, draw
from pocketrec.ncf.options import NcfMakeSettings, users_of_batch
from pocketrec.parallel import ahead
from pocketrec.schema import Bool, Int32, UInt64

MOST = np.iinfo(np.int32).max
EXAMPLES_PER_BLOCK = 1 << 19
_DRAWS_PER_CALL = 1 << 20


@dataclass(frozen=True)
class Examples:
    """Some batches of B examples, one after the other, (n,) each, n a multiple of B.

    Attributes:
        users: int32.
        items: int32.
        labels: whether the item is a positive.
        valid: False for what fills the last batch.
    """

    users: Int32
    items: Int32
    labels: Bool
    valid: Bool

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True)
class EvaluationRows:
    """A positive and its sampled negatives for some users.

    Attributes:
        users: int32 (n,).
        items: int32 (n, N + 1); the positive is last, so that it loses ties.
        duplicates: bool (n, N + 1), whether the same item came before, the positive being first of all.
    """

    users: Int32
    items: Int32
    duplicates: Bool


class Producer:
    """Makes the epochs and the evaluation set of one run."""

    def __init__(
        self, interactions: Interactions, settings: NcfMakeSettings, rng: np.random.RandomState | None = None
    ) -> None:
        """Args:
            interactions: the positives.
            settings: B, the number of epochs, the negatives and the seed; the seed determines all epochs together, so
                other numbers of epochs or negatives give others.
            rng: instead of one that begins with the seed: in the state in which the original's global generator would be.

        Raises:
            SettingsError: more examples than an int32 can number, or a user without a negative.
        """
        rng = np.random.RandomState(settings.seed) if rng is None else rng
        self.interactions, self.batch_size, self.num_neg = interactions, settings.batch_size, settings.num_neg
        self.epochs, self.eval_negatives = settings.train_epochs, settings.eval_negatives
        self.positives = len(interactions.items)
        if self.examples > MOST:
            raise SettingsError(
                f"an epoch has {self.examples:,} examples.", expected=f"{MOST:,} at most", do="lower --num-neg"
            )
        self.negatives = Negatives(interactions)
        self._users = interactions.users()
        self._seeds = [rng.randint(0, MOST, dtype=np.int32) for _ in range(self.epochs)]
        self._states = {0: rng.get_state(legacy=False)}  # segment of the stream -> the generator at its beginning

    @property
    def examples(self) -> int:
        """Of an epoch, without those that fill the last batch."""
        return (1 + self.num_neg) * self.positives

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return -(-self.examples // self.batch_size)

    def epoch(self, number: int) -> Iterator[Examples]:
        """The batches of an epoch, numbered from 0, in order, a few at a time."""
        rng = self._at(0 if number == 0 else number + 1)
        order = np.arange(self.examples, dtype=np.int32)
        np.random.RandomState(self._seeds[number]).shuffle(order)
        block = max(1, EXAMPLES_PER_BLOCK // self.batch_size) * self.batch_size

        def pieces() -> Iterator[tuple[Int32, UInt64]]:
            for first in range(0, len(order), block):
                rows = order[first : first + block]
                yield rows, draw(rng, int((rows >= self.positives).sum()))

        yield from ahead(lambda piece: self._examples(*piece), pieces())

    def _examples(self, rows: Int32, draws: UInt64) -> Examples:
        labels = rows < self.positives
        rows = np.where(labels, rows, rows % self.positives) if self.num_neg else rows
        users, items = self._users[rows], self.interactions.items[rows]
        items[~labels] = self.negatives.at(users[~labels], draws)
        missing = -len(rows) % self.batch_size
        if not missing:
            return Examples(users, items, labels, np.ones(len(rows), bool))
        filler = np.arange(missing, dtype=np.int32)
        return Examples(
            np.concatenate([users, filler % self.interactions.n_users]),
            np.concatenate([items, filler % self.interactions.n_items]),
            np.concatenate([labels, np.zeros(missing, bool)]),
            np.concatenate([np.ones(len(rows), bool), np.zeros(missing, bool)]),
        )

    def evaluation(self) -> Iterator[EvaluationRows]:
        """The test positives with their negatives, some users at a time."""
        yield from evaluation_rows(self.interactions.test, self.negatives, self.eval_negatives, self._at(1))

    def evaluation_batches(self, size: int) -> Iterator[tuple[Int32, Int32, Bool]]:
        """The same as the original's batches, some users' rows one after the other: users, items, duplicates, (size,) each.

        What fills the last batch has user 0 and item 0; all but one of each N + 1 rows are duplicates.

        Args:
            size: rows of a batch, a multiple of N + 1.

        Raises:
            SettingsError: it is not.
        """
        users = users_of_batch(size, self.eval_negatives)
        for rows in evaluation_rows(self.interactions.test, self.negatives, self.eval_negatives, self._at(1), users):
            missing = -len(rows.users) % users
            who = np.append(rows.users, np.zeros(missing, np.int32))
            items = np.pad(rows.items, ((0, missing), (0, 0)))
            duplicates = np.pad(rows.duplicates, ((0, missing), (0, 0)), constant_values=True)
            duplicates[len(rows.users) :, -1] = False
            for first in range(0, len(who), users):
                part = slice(first, first + users)
                yield np.repeat(who[part], self.eval_negatives + 1), items[part].reshape(-1), duplicates[part].reshape(-1)

    def _at(self, segment: int) -> np.random.RandomState:
        """The generator at the beginning of a segment of the stream: epoch 0, the evaluation set, epoch 1, 2, ..."""
        known = max(one for one in self._states if one <= segment)
        rng = np.random.RandomState()
        rng.set_state(self._states[known])
        for passed in range(known, segment):
            left = self.eval_negatives * len(self.interactions.test) if passed == 1 else self.num_neg * self.positives
            while left:
                count = min(left, _DRAWS_PER_CALL)
                draw(rng, count)
                left -= count
            self._states[passed + 1] = rng.get_state(legacy=False)
        return rng


def evaluation_rows(
    positives: Positives, negatives: Negatives, count: int, rng: np.random.RandomState, multiple: int = 1
) -> Iterator[EvaluationRows]:
    """Positives with `count` sampled negatives each, some users at a time: a multiple of `multiple`, but for the last.

    The held-out item is not excluded from the draw, as in the original; where it is drawn it is a duplicate.
    """
    block = max(1, EXAMPLES_PER_BLOCK // (count + 1) // multiple) * multiple
    for first in range(0, len(positives), block):
        users = positives.users[first : first + block]
        drawn = negatives.at(np.repeat(users, count), draw(rng, count * len(users)))
        items = np.concatenate([positives.items[first : first + block, None], drawn.reshape(-1, count)], axis=1)
        duplicates = mask_duplicates(items)
        for rows in (items, duplicates):
            rows[:, [0, count]] = rows[:, [count, 0]]
        yield EvaluationRows(users, items, duplicates)


def mask_duplicates(items: Int32) -> Bool:
    """Where the same number stood earlier in its row; the shape of `items`."""
    order = np.argsort(items, axis=1, kind="stable")
    ordered = np.take_along_axis(items, order, axis=1)
    again = np.zeros(items.shape, bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    mask = np.empty(items.shape, bool)
    np.put_along_axis(mask, order, again, axis=1)
    return mask
