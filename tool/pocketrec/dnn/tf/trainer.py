"""Trains the rating DNN with Keras' fit: mean squared error, or sparse categorical cross-entropy over the classes."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pocketrec.dnn.metrics import mean_rating
from pocketrec.dnn.network import DnnSettings, class_of
from pocketrec.dnn.options import DnnTrainSettings
from pocketrec.dnn.sets import RatingSets
from pocketrec.dnn.tf.keras_model import functional, set_weights, start, weights_of
from pocketrec.progress import Advance
from pocketrec.schema import Int32
from pocketrec.storage.files import staged_file
from pocketrec.storage.tensors import Tensors
from pocketrec.training.tf import fitting

BATCHES_PER_READ = 64


class Trainer(fitting.Fitted):
    """A model and its optimizer, epoch by epoch."""

    def __init__(self, settings: DnnSettings, training: DnnTrainSettings, sets: RatingSets) -> None:
        self.settings, self.training, self.train = settings, training, sets.rows("train")
        fitting.begin(training.seed)
        model = functional(settings, training)
        features = {"user": sets.user_features, "item": sets.item_features}
        start(model, settings, features, mean_rating([self.train]))
        loss, metrics = judged_by(settings)
        model.compile(
            keras.optimizers.Adam(training.learning_rate, name="adam"),  # not adam_1 the second time
            loss,
            metrics=metrics,
            steps_per_execution=fitting.steps_per_call(training.batch_size),
        )
        super().__init__(model, training.batch_size)

    def epoch(self, number: int, advance: Advance) -> dict[str, float]:
        """Train on every rating once, in an order of the epoch's own; the loss and the metrics by name."""
        numbers = np.arange(len(self.train), dtype=np.int32)
        order = np.random.default_rng([self.training.seed, number]).permutation(numbers)
        codes, target = tf.TensorSpec((None,), tf.int32), tf.TensorSpec((None,), tf.float32)
        batches = fitting.dataset_of(lambda: self._batches(order), ({"user": codes, "item": codes}, target))
        steps = -(-len(order) // self.training.batch_size)  # the last batch may be small
        return self.fit(batches, steps, advance)

    def _batches(self, order: Int32) -> Iterator[Any]:
        size = self.training.batch_size
        for first in range(0, len(order), size * BATCHES_PER_READ):
            rows = order[first : first + size * BATCHES_PER_READ]
            pairs, ratings = self.train.pairs[rows], self.train.ratings[rows]
            targets = ratings if self.settings.task == "rate" else class_of(self.settings, ratings).astype(np.float32)
            for begin in range(0, len(rows), size):
                part = slice(begin, begin + size)
                yield {"user": pairs[part, 0], "item": pairs[part, 1]}, targets[part]

    def weights(self) -> Tensors:
        """Those of the network, as they are now."""
        return weights_of(self.model, self.settings)

    def save(self, path: Path, weights: Tensors) -> None:
        """Write the whole model with some weights, as Keras does, under its name when it is complete."""
        set_weights(self.model, self.settings, weights)
        with staged_file(path) as staged:
            whole = staged.with_suffix(".keras")  # Keras looks at the ending
            try:
                self.model.save(whole)
                _repeatable(whole, staged)
            finally:
                whole.unlink(missing_ok=True)


def _repeatable(saved: Path, path: Path) -> None:
    """What Keras saved, without what is another in every run: the time of day, and addresses as ids of objects."""
    ids: dict[int, int] = {}

    def plain(entry: dict[str, Any]) -> dict[str, Any]:
        if "shared_object_id" in entry:
            entry["shared_object_id"] = ids.setdefault(entry["shared_object_id"], len(ids))
        return entry | ({"date_saved": ""} if "date_saved" in entry else {})

    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(path, "w") as target:
        for name in sorted(source.namelist()):
            content = source.read(name)
            if name.endswith(".json"):
                content = json.dumps(json.loads(content, object_hook=plain), sort_keys=True).encode()
            target.writestr(zipfile.ZipInfo(name), content)


def judged_by(settings: DnnSettings) -> tuple[Any, list[Any]]:
    """The loss of a network's task, to which Keras adds L2, and what is told of an epoch besides."""
    if settings.task == "rate":
        metrics = [keras.metrics.RootMeanSquaredError(name="rmse"), keras.metrics.MeanAbsoluteError(name="mae")]
        return keras.losses.MeanSquaredError(), metrics
    crossentropy = keras.metrics.SparseCategoricalCrossentropy(name="cross_entropy", from_logits=True)
    metrics = [crossentropy, keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics
