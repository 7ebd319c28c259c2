"""Inputs that cannot be: a call with one changes nothing, and its caller sees that without an exception.

A code of no item, a state that is not finite or no state of a GRU (it lies between -1 and 1), a count of steps below 0 or
at its end, an amount that `LearnSettings` refuses: runtimes would read other memory, or make every weight NaN for good. So
each call goes on with harmless values in their place, and a factor of 0 for all that it changes. It answers with the loss
NaN, the items -1, scores NaN and the state that it was given. The factor costs some numbers a lane; no table is read or
written for its sake.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from pocketrec.lite.contract import LAST_STEP
from pocketrec.lite.options import MOST_SHARE, LearnSettings
from pocketrec.settings import rules_of
from pocketrec.training.tf.codes import inside, inside_or_none, poison

Tensor = Any

LARGEST_STATE = 1000.0
"""A number in a state that is larger than this, or NaN, is none."""


class Amounts(NamedTuple):
    """`LearnSettings` in the graph, float32 (1,) each; all 0 where an input cannot be."""

    rate: Tensor
    share: Tensor
    pull: Tensor


class Cache(NamedTuple):
    """A state cache, its share, and items to hide: the inputs of that name of `recommend_user` (see `ModelSpec.cache`)."""

    states: Tensor
    items: Tensor
    share: Tensor
    hide: Tensor


@dataclass(frozen=True)
class Guarded:
    """The inputs of a call, harmless where they cannot be.

    Attributes:
        feat: current items, int32 (B,).
        target: next items, int32 (B,); -1 for none. None where the call has none, and so for `negatives`.
        negatives: drawn items, int32 (S,).
        state: states, (B, H).
        given: the states as they came.
        good: whether all inputs can be; a scalar.
        fine: 1 if all inputs can be, else 0; a float32 scalar.
        poison: 0 if all inputs can be, else NaN; a float32 scalar.
        amounts: of a call of `learn`.
        cache: of a call of `recommend_user`.
    """

    feat: Tensor
    target: Tensor | None
    negatives: Tensor | None
    state: Tensor
    given: Tensor
    good: Tensor
    fine: Tensor
    poison: Tensor
    amounts: Amounts | None = None
    cache: Cache | None = None

    def state_after(self, state: Tensor) -> Tensor:
        """The new state, or the one that was given."""
        return tf.where(self.good, state, self.given)


def guard(
    n_items: int, feat: Tensor, state: Tensor, target: Tensor | None = None, negatives: Tensor | None = None,
    step: Tensor | None = None, amounts: Amounts | None = None, cache: Cache | None = None,
) -> Guarded:  # fmt: skip
    """Look at the inputs of a call; `step` is the count of steps, where the call is one that learns."""
    known = tf.abs(state) <= LARGEST_STATE  # not so for NaN
    feat, feat_known = inside(feat, n_items)
    checks = [tf.reshape(known, [-1]), feat_known]
    if target is not None:
        target, target_known = inside_or_none(target, n_items)
        checks.append(target_known)
    if negatives is not None:
        negatives, negatives_known = inside(negatives, n_items)
        checks.append(negatives_known)
    if step is not None:
        checks.append(inside(tf.reshape(step, [1]), LAST_STEP + 1)[1])
    if amounts is not None:
        numbers = tf.concat(amounts, axis=0)  # (3,)
        most = tf.constant([rule.most for rule in rules_of(LearnSettings).values()], tf.float32)
        possible = tf.logical_and(numbers >= 0, numbers <= most)  # not so for NaN
        checks.append(possible)
    if cache is not None:
        kept, share = tf.abs(cache.states) <= LARGEST_STATE, tf.abs(cache.share - MOST_SHARE / 2) <= MOST_SHARE / 2
        (items, items_known), (hide, hide_known) = (inside_or_none(one, n_items) for one in (cache.items, cache.hide))
        checks += [tf.reshape(kept, [-1]), share, items_known, hide_known]
        cache = Cache(tf.where(kept, cache.states, 0.0), items, tf.where(share, cache.share, 0.0), hide)
    # One reduction of all checks: an operator takes longer to begin than these few numbers take.
    good = tf.reduce_all(tf.concat(checks, axis=0))
    harmless = tf.where(known, state, tf.zeros_like(state))
    fine = tf.cast(good, tf.float32)
    if amounts is not None:
        amounts = Amounts(*tf.split(tf.where(possible, numbers, tf.zeros_like(numbers)) * fine, 3))
    return Guarded(feat, target, negatives, harmless, state, good, fine, poison(good), amounts, cache)
