"""Curves of a training as TensorBoard reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import tensorflow as tf


class Curves:
    """Scalars of each epoch, in event files. TensorBoard is not needed here, as it would be for `tf.summary.scalar`."""

    def __init__(self, folder: Path) -> None:
        """Args: folder: where the files go."""
        self._writer = tf.summary.create_file_writer(str(folder))
        plugin = tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
        self._metadata = tf.compat.v1.SummaryMetadata(plugin_data=plugin)

    def __enter__(self) -> Callable[..., None]:
        return self.add

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def add(self, epoch: int, **scalars: float) -> None:
        """Add values of an epoch, by name, and flush them."""
        with self._writer.as_default():
            for name, value in scalars.items():
                tf.summary.write(name, tf.constant(value, tf.float32), step=epoch, metadata=self._metadata)
        self._writer.flush()
