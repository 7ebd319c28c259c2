"""Scores next items with a trained model in TensorFlow, for `evaluate` and `train`."""

from __future__ import annotations

import tensorflow as tf

from pocketrec.gru4rec.tf.sparse_model import SparseGru4Rec, score
from pocketrec.schema import Float32, Int32


class ModelScorer:
    """A `Scorer` of a trained model; `name` is for the report."""

    lanes = 256

    def __init__(self, model: SparseGru4Rec, name: str) -> None:
        self.name, self._model = name, model
        self._state = tf.zeros((self.lanes, model.settings.hidden_size))

    def scores(self, feat: Int32, mask: Int32) -> Float32:
        """See `Scorer`."""
        scores, self._state = score(self._model, feat, mask, self._state)
        found: Float32 = scores.numpy()
        return found
