"""Losses and their gradients: the cross-entropy over all items, and the sampled losses of the official GRU4Rec.

A loss is the sum over the lanes divided by B. A lane with the target -1 has no target and adds nothing, so that a
transition has the same weight in a padded tail as anywhere else, as in the official GRU4Rec. If no lane has a target, the
loss is 0.

On LiteRT a matrix product with all items at once is slow, since neither side fits into the cache. So the full softmax is
computed in chunks of items (as in FlashAttention, Dao et al. 2022): each chunk has its own softmax, and a softmax over the
chunks' log-sums gives the weights of the chunks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

Tensor = Any

CHUNK = 1024
"""Items of a chunk: the probabilities of 512 lanes then need 2 MB, the size of a core's cache."""
MOST_CHUNKS = 64
"""Most chunks; more would make the graph in the file long."""


@dataclass(frozen=True)
class Lanes:
    """The targets of the lanes of a step.

    Attributes:
        counted: 1 for a lane with a target, else 0; (B,).
        share: weight of the lane in the loss, 1 / B or 0; (B,).
        item: the target, 0 if there is none; int32 (B,).
    """

    counted: Tensor
    share: Tensor
    item: Tensor


def lanes_of(target: Tensor, fine: Tensor | None = None) -> Lanes:
    """`Lanes` of targets, int32 (B,); -1 for no target. With a `fine` of 0 no lane has a share, and no gradient but 0."""
    counted = tf.cast(target >= 0, tf.float32)
    share = counted / target.shape[0]
    return Lanes(counted, share if fine is None else share * fine, tf.maximum(target, 0))


def with_one(state: Tensor) -> Tensor:
    """(B, H) -> (B, H + 1): a further column of ones, for the bias."""
    return tf.concat([state, tf.ones((state.shape[0], 1))], axis=1)


def scores_of(state: Tensor, rows: Tensor) -> Tensor:
    """Scores, (B, n), of items, given their rows, (n, H + 1). One lane uses FULLY_CONNECTED, which is faster for it."""
    if state.shape[0] == 1:
        return tf.matmul(with_one(state), rows, transpose_b=True)
    return product(with_one(state), rows, transpose_b=True)


def product(a: Tensor, b: Tensor, *, transpose_b: bool = False) -> Tensor:
    """A matrix product that becomes BATCH_MATMUL; FULLY_CONNECTED takes 4 times as long if the right side is computed."""
    found = tf.matmul(tf.reshape(a, (1, *a.shape)), tf.reshape(b, (1, *b.shape)), transpose_b=transpose_b)
    return tf.reshape(found, found.shape[1:])


def log_sum(scores: Tensor, probabilities: Tensor) -> Tensor:
    """log(sum(exp(scores))) of each lane, (B,); uses that the largest probability is 1 / sum(exp(scores - max))."""
    return tf.reduce_max(scores, axis=1) - tf.math.log(tf.reduce_max(probabilities, axis=1))


def full_softmax(
    state: Tensor, output: Tensor, lanes: Lanes, weight: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy over all items.

    Args:
        state: input of the output layer, (B, H).
        output: rows of all items, (n_items, H + 1).
        lanes: the targets.
        weight: what the gradients are multiplied by, which is not done to the loss; a scalar, or (1,).

    Returns:
        The loss; its gradient by the state, (B, H); its gradient by the output layer, (n_items, H + 1), without the part
        of the targets, which is `targets_part`.
    """
    known = with_one(state)
    chunks = tf.split(output, _chunk_sizes(output.shape[0]), axis=0)
    shares, sums, expected = [], [], []
    for chunk in chunks:
        scores = scores_of(state, chunk)  # (B, chunk)
        shares.append(tf.nn.softmax(scores))
        sums.append(log_sum(scores, shares[-1]))
        expected.append(product(shares[-1], chunk))  # (B, H + 1): mean row of the chunk, weighted by the probabilities
    sums = tf.stack(sums, axis=1)  # (B, chunks)
    weights = tf.nn.softmax(sums)
    own = tf.gather(output, lanes.item)
    loss = tf.reduce_sum((log_sum(sums, weights) - tf.reduce_sum(known * own, axis=1)) * lanes.share)
    share = lanes.share if weight is None else lanes.share * weight
    parts = tf.split(weights, len(chunks), axis=1)
    mean = tf.add_n([part * rows for part, rows in zip(parts, expected, strict=True)])
    d_state = ((mean - own) * share[:, None])[:, :-1]
    weighed = known * share[:, None]
    d_output = tf.concat([product(tf.transpose(p), weighed * w) for p, w in zip(shares, parts, strict=True)], axis=0)
    return loss, d_state, d_output


def targets_part(state: Tensor, lanes: Lanes, weight: Tensor | None = None) -> Tensor:
    """What the targets add to the gradient of their items' rows, (B, H + 1); `weight` as in `full_softmax`."""
    return -with_one(state) * (lanes.share if weight is None else lanes.share * weight)[:, None]


def _chunk_sizes(items: int) -> list[int]:
    size = max(CHUNK, -(-items // MOST_CHUNKS))
    return [min(size, items - begin) for begin in range(0, items, size)]


def sampled_cross_entropy(known: Tensor, rows: Tensor, correction: Tensor, lanes: Lanes) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy over the candidates; candidate i is the target of lane i.

    The correction is added to the biases of the rows, and the targets and the shares of the lanes are applied after the
    products, because each further operation on all scores would cost 5 % of a step.

    Args:
        known: input of the output layer, (B, H).
        rows: rows of the candidates, (B + S, H + 1).
        correction: is added to the scores of each candidate; -1e9 for a place without a candidate; (B + S,).
        lanes: the targets.

    Returns:
        The loss, and its gradients by `known` with a column for the bias, (B, H + 1), and by `rows`.
    """
    state, batch = with_one(known), lanes.item.shape[0]
    corrected = rows + tf.pad(correction[:, None], [[0, 0], [rows.shape[1] - 1, 0]])
    scores = product(state, corrected, transpose_b=True)  # (B, B + S)
    shares = tf.nn.softmax(scores)
    own = tf.reduce_sum(state * corrected[:batch], axis=1)
    loss = tf.reduce_sum((log_sum(scores, shares) - own) * lanes.share)
    weighed = state * lanes.share[:, None]
    d_state = (product(shares, rows) - rows[:batch]) * lanes.share[:, None]
    d_rows = product(tf.transpose(shares), weighed) - tf.pad(weighed, [[0, rows.shape[0] - batch], [0, 0]])
    return loss, d_state, d_rows


def bpr_max(
    scores: Tensor, own: Tensor, absent: Tensor, lanes: Lanes, *, bpreg: float, elu: float
) -> tuple[Tensor, Tensor]:
    """BPR-max with score regularisation (Hidasi and Karatzoglou 2018), gradients through its softmax included.

        o = elu(scores);  q = softmax(o) over j != i;  A = sum q sigmoid(o_i - o_j);  R = sum q o_j^2
        loss = -log(A + 1e-24) + bpreg R

    Args:
        scores: scores of the candidates, (B, B + S); candidate i is the target of lane i.
        own: scores of the targets, the diagonal of `scores`; (B,).
        absent: 0 for a candidate, -1e9 for a place without one; (B + S,).
        lanes: the targets.
        bpreg: weight of R.
        elu: alpha of elu; 0 leaves the scores unchanged.

    Returns:
        The loss, and its gradient by the scores.
    """
    (o, bend), (target, _) = _elu(scores, elu), _elu(own, elu)
    q = tf.nn.softmax(o + absent + _diagonal(_ABSENT - target, scores.shape))  # 0 for the target itself
    above = tf.sigmoid(target[:, None] - o)
    slope = q * above * (1 - above)
    squares = tf.square(o)
    a, r = tf.reduce_sum(q * above, axis=1), tf.reduce_sum(q * squares, axis=1)
    loss = tf.reduce_sum((bpreg * r - tf.math.log(a + 1e-24)) * lanes.share)
    d_a = q * (above - a[:, None]) - slope + _diagonal(tf.reduce_sum(slope, axis=1), scores.shape)
    d_r = q * (squares - r[:, None] + 2 * o)
    d_o = bpreg * d_r - d_a / (a + 1e-24)[:, None]
    return loss, (d_o if bend is None else d_o * bend) * lanes.share[:, None]


_ABSENT = -1e9
"""Added to a score, it makes the probability 0."""


def absence(lanes: Lanes, negatives: int) -> Tensor:
    """`absent` of `bpr_max`: the place of a lane without a target has no candidate."""
    return tf.concat([(1 - lanes.counted) * _ABSENT, tf.zeros(negatives)], axis=0)


def _elu(scores: Tensor, alpha: float) -> tuple[Tensor, Tensor | None]:
    """ELU and its slope, without SELECT, which is slow on LiteRT; the slope is None if it is 1 everywhere."""
    if not alpha:
        return scores, None
    above, falling = tf.nn.relu(scores), alpha * tf.exp(tf.minimum(scores, 0.0))
    return above + falling - alpha, falling + (1 - alpha) * tf.minimum(above * 1e30, 1.0)


def _diagonal(values: Tensor, shape: tuple[int, int]) -> Tensor:
    """Zeros with `values` at (i, i), made when the graph runs: as a constant it would add megabytes to the file."""
    places = tf.repeat(tf.range(shape[0])[:, None], 2, axis=1)
    return tf.scatter_nd(places, values, shape)
