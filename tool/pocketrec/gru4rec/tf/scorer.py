"""A checkpoint at work: what `evaluate` asks a trained model."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from pocketrec.gru4rec.checkpoints import read_weights
from pocketrec.gru4rec.tf.sparse_model import EVALUATED_LANES, Codes, Floats, InPlaceGru4Rec, score
from pocketrec.lite.catalogue import Catalogue


class ModelScorer:
    """A trained model on lanes of sessions, for `evaluate` and for the validation of `train`.

    Args:
        model: as it is; it may go on learning between two scorers.
        name: in the report.
    """

    lanes = EVALUATED_LANES

    def __init__(self, model: InPlaceGru4Rec, name: str) -> None:
        self.name, self._model = name, model
        self._state = tf.zeros((self.lanes, model.settings.hidden_size))

    def scores(self, feat: Codes, mask: Codes) -> Floats:
        """Scores of all items after one more item of each lane, (lanes, n_items)."""
        found, self._state = score(self._model, feat, mask, self._state)
        numbers: Floats = found.numpy()
        return numbers


def open_scorer(path: Path, items: Catalogue, dataset: Path) -> ModelScorer:
    """A checkpoint, or what a device has learned, at work for `evaluate`.

    Raises:
        ModelError: it cannot be read, or is made for other items.
    """
    checkpoint = read_weights(path, items.hash, dataset)
    model = InPlaceGru4Rec(checkpoint.settings, support=items.support)
    model.load(checkpoint.tensors)
    return ModelScorer(model, f"{path.name}, {checkpoint.what}")
