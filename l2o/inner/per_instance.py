"""Keras' own optimizers on optimizees side by side, an optimizer for each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from l2o.inner.batched import Optimizee, count_of, gradients_of, problem_of, stack, take
from l2o.inner.unroll import value_and_gradients
from l2o.problems import Gradient


class PerOptimizee:
    """Keras optimizers, one for each optimizee, with variables of their own.

    What a rule may do across parameters, as clipping by their norm, it must not do across
    optimizees.

    Args:
        create: Returns an optimizer not built yet.
        optimizee: What they optimize.
        params: Of one instance; only shapes and dtypes matter.
    """

    def __init__(
        self,
        create: Callable[[], keras.optimizers.Optimizer],
        optimizee: Optimizee,
        params: Sequence[tf.Tensor],
    ) -> None:
        self.optimizee = optimizee
        self.optimizers = [create() for _ in range(count_of(optimizee) or 1)]
        self._params = [
            [keras.Variable(p, dtype=p.dtype.name, name=f"param_{i}") for i, p in enumerate(params)]
            for _ in self.optimizers
        ]
        for optimizer, variables in zip(self.optimizers, self._params, strict=True):
            optimizer.build(variables)
        self._initial = [tf.convert_to_tensor(v.value) for v in self.optimizers[0].variables]

    def put(self, params: list[tf.Tensor]) -> None:
        """Sets the parameters of all optimizees."""
        for variables, values in zip(self._params, self._each(params), strict=True):
            _assign(variables, values)

    def params(self) -> list[tf.Tensor]:
        """Returns the parameters of all optimizees."""
        values = [[tf.convert_to_tensor(v.value) for v in own] for own in self._params]
        return values[0] if len(values) == 1 else stack(values)

    def reset(self) -> None:
        """Lets the optimizers' states start anew."""
        for optimizer in self.optimizers:
            _assign(optimizer.variables, self._initial)

    def reset_diverged(self) -> None:
        """As `reset`, for those whose state or parameters are not finite."""
        for optimizer, variables in zip(self.optimizers, self._params, strict=True):
            finite = tf.reduce_all(
                [
                    tf.reduce_all(tf.math.is_finite(v.value))
                    for v in [*optimizer.variables, *variables]
                    if tf.as_dtype(v.dtype).is_floating
                ]
            )
            for variable, value in zip(optimizer.variables, self._initial, strict=True):
                variable.assign(tf.where(finite, variable.value, value))

    def step(self, model_state: Any, batch: Any) -> tuple[tf.Tensor, Any]:
        """Takes a step with each optimizee, as `fit` does; call it while tracing.

        Args:
            model_state: Of all of them.
            batch: A mini-batch of each.

        Returns:
            The objective before the step, and the new model state.
        """
        params = self.params()
        kinds = gradients_of(self.optimizee, params, model_state, batch)
        if Gradient.SPARSE in kinds:
            f, each, after = self._natural(params, model_state, batch)
        else:
            f, grads, after = value_and_gradients(self.optimizee, params, model_state, batch)
            each = self._each(grads)
        taking = [kind is not Gradient.NONE for kind in kinds]
        for optimizer, own, variables in zip(self.optimizers, each, self._params, strict=True):
            # An optimizer that expects a scaled loss scales its gradients back.
            pairs = [
                (_scaled(g, optimizer), variable)
                for g, variable, takes in zip(own, variables, taking, strict=True)
                if takes
            ]
            optimizer.apply_gradients(pairs)
        return f, after

    def _natural(
        self, params: list[tf.Tensor], model_state: Any, batch: Any
    ) -> tuple[tf.Tensor, list[list[Any]], Any]:
        """As `evaluate`, with each optimizee's gradients as automatic differentiation gives them.

        What is vectorised has no sparse gradient: optimizees come one after the other.
        """
        problem = problem_of(self.optimizee)

        # Traced once for all of them.
        @tf.function(autograph=False)
        def one(params: list[tf.Tensor], model_state: Any, batch: Any) -> Any:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(params)
                f, model_state = problem.objective(params, model_state, batch)
            return f, tape.gradient(f, params), model_state

        together = (params, list(model_state), batch)
        if count_of(self.optimizee) is None:
            f, grads, after = one(*together)
            return f, [grads], after
        parts = [one(*take(together, k)) for k in range(len(self.optimizers))]
        losses, grads, states = zip(*parts, strict=True)
        return tf.stack(losses), list(grads), stack(states)

    def finish(self) -> None:
        """Does what Keras does after the last step: an average may replace the parameters."""
        for optimizer, variables in zip(self.optimizers, self._params, strict=True):
            optimizer.finalize_variable_values(variables)

    def _each(self, tensors: list[tf.Tensor]) -> list[list[tf.Tensor]]:
        """Returns what belongs to each optimizee."""
        if len(self.optimizers) == 1:
            return [tensors]
        return [take(tensors, k) for k in range(len(self.optimizers))]


def _assign(variables: Sequence[keras.Variable], values: Sequence[tf.Tensor]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _scaled(gradient: Any, optimizer: keras.optimizers.Optimizer) -> Any:
    if not isinstance(gradient, tf.IndexedSlices):
        return optimizer.scale_loss(gradient)
    values = optimizer.scale_loss(gradient.values)
    return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
