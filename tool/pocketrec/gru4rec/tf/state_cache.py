"""Scores for one user: those of the network, mixed with what a state cache says, less the items to hide.

A state cache is a list of pairs: a state that the user was in, and the item that came next (Grave et al. 2017, "Improving
neural language models with a continuous cache"). A pair counts by how much its state is like the present one:

    weight = exp(SHARPNESS (cosine - 1)), divided by the sum of the weights
    p = (1 - share) softmax(scores) + share weights of the item

The result is log p plus the log-sum of the scores, so that it is on their scale: with a share of 0 it is the scores. Only
rows of the cache are computed with, and no item's score is lost where its probability is too small for a float32.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from pocketrec.gru4rec.tf.guard import Cache
from pocketrec.gru4rec.tf.losses import log_sum
from pocketrec.lite.contract import HIDDEN, SHARPNESS

Tensor = Any

_LEAST = 1e-30
"""Instead of 0, where a logarithm or a quotient is taken of it; nothing depends on the result then."""


def mixed_scores(scores: Tensor, state: Tensor, cache: Cache) -> Tensor:
    """The scores of all items, (n_items,), for a user in this state, (1, H), from those of the network, (1, n_items)."""
    n_items, there = scores.shape[1], tf.cast(cache.items >= 0, tf.float32)
    item = tf.maximum(cache.items, 0)
    weight = tf.exp(SHARPNESS * (_cosines(cache.states, state) - 1)) * there
    total = tf.reduce_sum(weight)
    share = cache.share[0] * tf.cast(total > 0, tf.float32)
    weight, among = weight / tf.maximum(total, _LEAST), _rows(item, n_items)
    cached = tf.gather(among(weight), item)  # of the item of each row; an item may be in several
    alike = tf.maximum(tf.gather(among(there), item), 1.0)
    level = log_sum(scores, tf.nn.softmax(scores))  # (1,)
    own = tf.gather(scores[0], item) + tf.math.log(1 - share)
    given = tf.math.log(tf.maximum(share * cached, _LEAST)) + level
    larger = tf.maximum(own, given)
    both = larger + tf.math.log(tf.exp(own - larger) + tf.exp(given - larger))
    hidden = _rows(tf.maximum(cache.hide, 0), n_items)(HIDDEN * tf.cast(cache.hide >= 0, tf.float32))
    return scores[0] + tf.math.log(1 - share) + among((both - own) * there / alike) + hidden


def _cosines(states: Tensor, state: Tensor) -> Tensor:
    """Of each row of (J, H) with (1, H); (J,). That with a state of zeros is 0."""
    found = tf.reshape(tf.matmul(states, state, transpose_b=True), [-1])
    return found * tf.math.rsqrt(tf.maximum(tf.reduce_sum(states * states, axis=1) * tf.reduce_sum(state * state), _LEAST))


def _rows(items: Tensor, n_items: int) -> Any:
    """A function that adds up numbers, (J,), by the items that they belong to, (n_items,)."""
    return lambda numbers: tf.scatter_nd(items[:, None], numbers, (n_items,))
