"""Teachers: Keras' own optimizers, run beside the student over the same mini-batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from l2o.inner.batched import Optimizee
from l2o.inner.per_instance import PerOptimizee
from l2o.inner.unroll import Carry, batch_at


class Teacher:
    """Keras optimizers that start where a student does.

    Args:
        create: As for `PerOptimizee`.
        optimizee: As for `PerOptimizee`.
        params: As for `PerOptimizee`.
        persistent: Whether their state (momenta) lives on between unrolls.
    """

    def __init__(
        self,
        create: Callable[[], keras.optimizers.Optimizer],
        optimizee: Optimizee,
        params: Sequence[tf.Tensor],
        persistent: bool,
    ) -> None:
        self.persistent = persistent
        self._each = PerOptimizee(create, optimizee, params)
        self.optimizers = self._each.optimizers

    def run(self, carry: Carry, batches: Any, steps: tf.Tensor) -> list[tf.Tensor]:
        """Optimizes from where the student starts; call it while tracing.

        Args:
            carry: The student's start of the unroll.
            batches: As for `unroll`.
            steps: As for `unroll`.

        Returns:
            Per parameter [steps, ...]: its value after each update.
        """
        self._each.put(carry.params)
        if not self.persistent:
            self._each.reset()

        def step(i: tf.Tensor, model_state: Any, record: Any) -> Any:
            _, model_state = self._each.step(model_state, batch_at(batches, i))
            values = self._each.params()
            record = [array.write(i, v) for array, v in zip(record, values, strict=True)]
            return i + 1, model_state, record

        record = [tf.TensorArray(p.dtype, size=steps, element_shape=p.shape) for p in carry.params]
        *_, record = tf.while_loop(
            lambda i, *_: i < steps, step, (tf.zeros([], tf.int32), carry.model_state, record)
        )
        # A persistent state that has diverged would teach nothing ever again.
        self._each.reset_diverged()
        return [tf.stop_gradient(array.stack()) for array in record]
