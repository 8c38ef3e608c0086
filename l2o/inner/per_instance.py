"""Keras' own optimizers on optimizees side by side, one optimizer for each of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from l2o.inner.batched import (
    Optimizee,
    count_of,
    gradient_kinds_of,
    problem_of,
    stack,
    take,
    value_and_gradients,
)
from l2o.problems import Gradient


class PerOptimizee:
    """Keras optimizers, one for each optimizee, with variables of their own.

    An optimizer may combine parameters, as clipping by the global norm does, but must not
    combine optimizees. That is why each has its own.

    Args:
        create: Returns an optimizer that is not built yet.
        optimizee: What they optimize: one, or K side by side.
        params: Of one optimizee; only shapes, dtypes and names matter. The names of
            `tf.TensorSpec`s become the paths of the variables, which some optimizers read.
    """

    def __init__(
        self,
        create: Callable[[], keras.optimizers.Optimizer],
        optimizee: Optimizee,
        params: Sequence[tf.Tensor],
    ) -> None:
        self.optimizee = optimizee
        self.optimizers = [create() for _ in range(count_of(optimizee) or 1)]
        self._params = [[_variable(p, i) for i, p in enumerate(params)] for _ in self.optimizers]
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
        """Sets the optimizers' states to their initial values."""
        for optimizer in self.optimizers:
            _assign(optimizer.variables, self._initial)

    def reset_diverged(self) -> None:
        """As `reset`, for the optimizees whose state or parameters are not finite."""
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
        """Takes an inner step of each optimizee, as `fit` does; call it while tracing.

        Args:
            model_state: Of all optimizees.
            batch: A mini-batch of each.

        Returns:
            The objective before the step, and the new model state.
        """
        params = self.params()
        kinds = gradient_kinds_of(self.optimizee, params, model_state, batch)
        if Gradient.SPARSE in kinds:
            f, grads_of_each, after = self._with_sparse_gradients(params, model_state, batch)
        else:
            f, grads, after = value_and_gradients(self.optimizee, params, model_state, batch)
            grads_of_each = self._each(grads)
        with_gradient = [kind is not Gradient.NONE for kind in kinds]
        for optimizer, own, variables in zip(
            self.optimizers, grads_of_each, self._params, strict=True
        ):
            # A loss-scale optimizer divides by the scale, so it must get scaled gradients.
            pairs = [
                (_scaled(g, optimizer), variable)
                for g, variable, has_gradient in zip(own, variables, with_gradient, strict=True)
                if has_gradient
            ]
            optimizer.apply_gradients(pairs)
        return f, after

    def _with_sparse_gradients(
        self, params: list[tf.Tensor], model_state: Any, batch: Any
    ) -> tuple[tf.Tensor, list[list[Any]], Any]:
        """Returns what `value_and_gradients` does, with sparse gradients where there are any.

        Vectorised operations have dense gradients only, so optimizees are computed in turn.
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
        """Does what Keras does after the last step, such as replacing parameters by averages."""
        for optimizer, variables in zip(self.optimizers, self._params, strict=True):
            optimizer.finalize_variable_values(variables)

    def _each(self, tensors: list[tf.Tensor]) -> list[list[tf.Tensor]]:
        """Returns the tensors of each optimizee."""
        if len(self.optimizers) == 1:
            return [tensors]
        return [take(tensors, k) for k in range(len(self.optimizers))]


def _variable(like: tf.Tensor | tf.TensorSpec, i: int) -> keras.Variable:
    dtype = like.dtype.name
    if not isinstance(like, tf.TensorSpec):
        return keras.Variable(like, dtype=dtype, name=f"param_{i}")
    *scopes, name = (like.name or f"param_{i}").split("/")
    with contextlib.ExitStack() as stack:
        for scope in scopes:
            stack.enter_context(keras.name_scope(scope))
        return keras.Variable(np.zeros(like.shape), dtype=dtype, name=name)


def _assign(variables: Sequence[keras.Variable], values: Sequence[tf.Tensor]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _scaled(gradient: Any, optimizer: keras.optimizers.Optimizer) -> Any:
    if not isinstance(gradient, tf.IndexedSlices):
        return optimizer.scale_loss(gradient)
    values = optimizer.scale_loss(gradient.values)
    return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
