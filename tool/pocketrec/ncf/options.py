"""What a training run is made of: the original's options, under its names, checked before anything is begun."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from pocketrec.errors import SettingsError
from pocketrec.ncf.producer import check_evaluation_batch, check_producer

Dtype = Literal["fp32", "fp16", "bf16"]
Strategy = Literal["one_device", "mirrored"]


@dataclass(frozen=True)
class Training:
    """Options of `ncf train` that determine its result.

    Attributes:
        batch_size: B.
        train_epochs: epochs at most.
        num_neg: negatives a positive.
        eval_negatives: negatives a positive of the evaluation: 999, or 99 as in the paper.
        learning_rate: of Adam, as are beta1, beta2 and epsilon.
        mf_regularization: L2 of the tables.
        mlp_regularization: L2 of each layer; none stands for zeros.
        epochs_between_evals: an evaluation every so many epochs, and after the last.
        early_stopping: stop where HR@10 reaches `hr_threshold`.
        ml_perf: negatives that were drawn twice do not count.
        seed: of weights and data; the same seed gives the same network.
        dtype: fp16 and bf16 are mixed precision: float32 weights, and the arithmetic in 16 bits.
        loss_scale: fixed, for fp16; 0 stands for a dynamic one.
        enable_xla: compile the step with XLA.
        distribution_strategy: one_device, or mirrored for all GPUs of this machine.
        keras_use_ctl: a training loop of its own instead of Keras' fit; the result is the same.
    """

    batch_size: int = 1024
    train_epochs: int = 20
    num_neg: int = 4
    eval_negatives: int = 999
    learning_rate: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    mf_regularization: float = 0.0
    mlp_regularization: tuple[float, ...] = ()
    epochs_between_evals: int = 1
    early_stopping: bool = False
    hr_threshold: float = 1.0
    ml_perf: bool = False
    seed: int = 42
    dtype: Dtype = "fp32"
    loss_scale: float = 0.0
    enable_xla: bool = False
    distribution_strategy: Strategy = "one_device"
    keras_use_ctl: bool = False

    def check(self, layers: tuple[int, ...], eval_batch_size: int | None) -> None:
        """Refuse what cannot be.

        Args:
            layers: of the network.
            eval_batch_size: rows of an evaluation batch, if one was asked for.

        Raises:
            SettingsError: with what would do.
        """
        check_producer(self.batch_size, self.train_epochs, self.num_neg, self.eval_negatives)
        if eval_batch_size is not None:
            check_evaluation_batch(eval_batch_size, self.eval_negatives)
        if self.mlp_regularization and len(self.mlp_regularization) != len(layers):
            raise SettingsError(
                f"mlp_regularization has {len(self.mlp_regularization)} numbers for {len(layers)} layers.",
                expected="one for each layer",
            )
        for name, value, known in (
            ("dtype", self.dtype, Dtype),
            ("distribution_strategy", self.distribution_strategy, Strategy),
        ):
            if value not in get_args(known):
                raise SettingsError(f"{name} is {value!r}.", expected=" or ".join(get_args(known)))
        self._check_numbers()

    def _check_numbers(self) -> None:
        shares = "a number from 0 to below 1"
        for name, value, fits, expected in (
            ("learning_rate", self.learning_rate, self.learning_rate > 0, "a finite number above 0"),
            ("epsilon", self.epsilon, self.epsilon > 0, "a finite number above 0"),
            ("beta1", self.beta1, 0 <= self.beta1 < 1, shares),
            ("beta2", self.beta2, 0 <= self.beta2 < 1, shares),
            ("hr_threshold", self.hr_threshold, 0 < self.hr_threshold <= 1, "a share above 0, 1 at most"),
            ("mf_regularization", self.mf_regularization, self.mf_regularization >= 0, "0 or more"),
            ("loss_scale", self.loss_scale, self.loss_scale >= 0, "0 for a dynamic scale, or a number above 0"),
            ("epochs_between_evals", self.epochs_between_evals, self.epochs_between_evals >= 1, "1 or more"),
            ("seed", self.seed, 0 <= self.seed < 2**32, "0 to 2^32-1"),
            ("mlp_regularization", max(self.mlp_regularization, default=0.0), min(self.mlp_regularization, default=0) >= 0,
             "numbers of 0 or more"),
        ):  # fmt: skip
            if not (fits and math.isfinite(value)):
                raise SettingsError(f"{name} is {value}.", expected=expected)

    def settings(self) -> dict[str, Any]:
        """Plain values, for manifests."""
        return {**asdict(self), "mlp_regularization": list(self.mlp_regularization)}
