"""Teachers: optimizers of Keras' contract, run over the mini-batches of the student's unroll."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from l2o.errors import UserError
from l2o.inner.batched import Optimizee, batch_at, parts_of
from l2o.inner.per_instance import PerOptimizee
from l2o.inner.trajectory import Carry, Tensors


class Teacher:
    """Keras optimizers that start where the student does.

    Args:
        create: As for `PerOptimizee`.
        optimizee: As for `PerOptimizee`.
        params: As for `PerOptimizee`.
        persistent: Whether an unroll starts with the optimizers' state (momenta) at the end
            of the one before.
        copies: As in `GradientEstimator`. Each copy of an optimizee has an optimizer [1].
    """

    def __init__(
        self,
        create: Callable[[], keras.optimizers.Optimizer],
        optimizee: Optimizee,
        params: Sequence[tf.Tensor],
        persistent: bool,
        copies: int = 1,
    ) -> None:
        self.persistent = persistent
        self._copies = [PerOptimizee(create, optimizee, params) for _ in range(copies)]

    @property
    def optimizers(self) -> list[list[keras.optimizers.Optimizer]]:
        """The optimizers of each optimizee, one for each of its copies."""
        return [list(own) for own in zip(*[c.optimizers for c in self._copies], strict=True)]

    @contextmanager
    def rehearsed(self) -> Iterator[None]:
        """Restores the optimizers' states at the end of the block; see `Loss.rehearsed`."""
        # Without `persistent`, each run begins with a reset.
        own = [o for optimizers in self.optimizers for o in optimizers] if self.persistent else []
        variables = [variable for optimizer in own for variable in optimizer.variables]
        values = [tf.identity(variable.value) for variable in variables]
        yield
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    def run(self, carry: Carry, batches: Any, steps: tf.Tensor, copy: int = 0) -> Tensors:
        """Optimizes from the student's start; call it while tracing.

        Args:
            carry: Where the student's unroll starts.
            batches: As for `Unroll`; those of held-out examples are not used.
            steps: As for `Unroll`.
            copy: Which copy of the optimizees [0].

        Returns:
            Per parameter [T, ...], its value after each update.

        Raises:
            UserError: If the estimator asks for a copy that it has not declared.
        """
        if copy >= len(self._copies):
            raise UserError(
                f"the estimator unrolls copy {copy} of an optimizee, so its `copies` has to be at "
                f"least {copy + 1}; got {len(self._copies)}",
                "estimator",
            )
        optimizees, (batches, _) = self._copies[copy], parts_of(batches)
        optimizees.put(carry.params)
        if not self.persistent:
            optimizees.reset()

        def step(i: tf.Tensor, model_state: Any, record: Any) -> Any:
            _, model_state = optimizees.step(model_state, batch_at(batches, i))
            values = optimizees.params()
            record = [array.write(i, v) for array, v in zip(record, values, strict=True)]
            return i + 1, model_state, record

        record = [tf.TensorArray(p.dtype, size=steps, element_shape=p.shape) for p in carry.params]
        *_, record = tf.while_loop(
            lambda i, *_: i < steps, step, (tf.zeros([], tf.int32), carry.model_state, record)
        )
        # A persistent state that is not finite would stay so.
        optimizees.reset_diverged()
        return [tf.stop_gradient(array.stack()) for array in record]
