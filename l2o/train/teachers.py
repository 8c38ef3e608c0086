"""Teachers: Keras' own optimizers, run beside the student over the same mini-batches."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from l2o.problems import Problem
from l2o.train.unroll import Carry


class Teacher:
    """A Keras optimizer with variables of its own for one problem's parameters.

    Args:
        optimizer: An optimizer not built yet.
        problem: What it optimizes.
        params: Values with the shapes of the problem's parameters.
        persistent: Whether its state (momenta) lives on between unrolls.
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        problem: Problem,
        params: list[tf.Tensor],
        persistent: bool,
    ) -> None:
        self.optimizer = optimizer
        self.problem = problem
        self.persistent = persistent
        self._params = [
            keras.Variable(p, dtype=p.dtype.name, name=f"param_{i}") for i, p in enumerate(params)
        ]
        optimizer.build(self._params)
        self._initial = [tf.convert_to_tensor(v.value) for v in optimizer.variables]

    @property
    def state(self) -> list[keras.Variable]:
        """The optimizer's variables."""
        return self.optimizer.variables

    def run(self, carry: Carry, batches: Any, steps: tf.Tensor) -> list[tf.Tensor]:
        """Optimizes from where the student starts; call it while tracing.

        Args:
            carry: The student's start of the unroll.
            batches: As for `unroll`.
            steps: As for `unroll`.

        Returns:
            Per parameter [steps, ...]: its value after each update.
        """
        for variable, value in zip(self._params, carry.params, strict=True):
            variable.assign(value)
        if not self.persistent:
            for variable, value in zip(self.state, self._initial, strict=True):
                variable.assign(value)

        def step(i: tf.Tensor, model_state: Any, record: Any) -> Any:
            params = [tf.convert_to_tensor(v.value) for v in self._params]
            batch = tf.nest.map_structure(lambda b: b[i], batches)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(params)
                f, model_state = self.problem.objective(params, model_state, batch)
            self.optimizer.apply(
                tape.gradient(f, params, unconnected_gradients=tf.UnconnectedGradients.ZERO),
                self._params,
            )
            record = [
                array.write(i, tf.convert_to_tensor(v.value))
                for array, v in zip(record, self._params, strict=True)
            ]
            return i + 1, model_state, record

        record = [tf.TensorArray(p.dtype, size=steps, element_shape=p.shape) for p in carry.params]
        *_, record = tf.while_loop(
            lambda i, *_: i < steps, step, (tf.zeros([], tf.int32), carry.model_state, record)
        )
        # A persistent state that has diverged would teach nothing ever again.
        finite = tf.reduce_all(
            [
                tf.reduce_all(tf.math.is_finite(v.value))
                for v in [*self.state, *self._params]
                if tf.as_dtype(v.dtype).is_floating
            ]
        )
        for variable, value in zip(self.state, self._initial, strict=True):
            variable.assign(tf.where(finite, variable.value, value))
        return [tf.stop_gradient(array.stack()) for array in record]
