"""Curves of a training as TensorBoard reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import tensorflow as tf


class Curves:
    """Scalars an epoch, in event files. Args: folder: where they go."""

    def __init__(self, folder: Path) -> None:
        self._writer = tf.summary.create_file_writer(str(folder))

    def __enter__(self) -> Callable[..., None]:
        return self.add

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def add(self, epoch: int, **scalars: float) -> None:
        """Add values of an epoch, by name."""
        with self._writer.as_default():
            for name, value in scalars.items():
                tf.summary.scalar(name, value, step=epoch)
        self._writer.flush()
