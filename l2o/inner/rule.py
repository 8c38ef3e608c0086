"""An update rule and its vector-Jacobian product, compiled once for all unrolls."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from l2o.inner.trajectory import Tensors
from l2o.optimizer import TrainableOptimizer
from l2o.optimizer.compiling import compiled


class Rule:
    """A learned optimizer's update rule and its vector-Jacobian product.

    Args:
        optimizer: The learned optimizer.
        stacked: Whether all tensors have a first axis of optimizees [False].
        own_weights: Whether each optimizee has learned weights of its own, so that they have the
            first axis too; then there is no vector-Jacobian product [False].
    """

    def __init__(
        self, optimizer: TrainableOptimizer, stacked: bool = False, own_weights: bool = False
    ) -> None:
        self.optimizer = optimizer
        self.weights = optimizer.network.trainable_variables
        self._is_stacked = stacked
        update: Callable[..., Any] = self._update
        if stacked:
            update = self._update_of_each if own_weights else self._stacked_update
        self._step = compiled(update, optimizer.xla)
        self._vjp: dict[bool, Callable[..., Any]] = {}

    @functools.cached_property
    def stacked(self) -> Rule:
        """The same rule on tensors with a first axis of optimizees."""
        return Rule(self.optimizer, stacked=True)

    @functools.cached_property
    def with_own_weights(self) -> Rule:
        """The same rule on tensors and learned weights with a first axis of optimizees."""
        return Rule(self.optimizer, stacked=True, own_weights=True)

    def values(self) -> Tensors:
        """Returns the current values of the learned weights."""
        return [tf.convert_to_tensor(v.value) for v in self.weights]

    def _update(self, values: Tensors, *args: Any) -> Any:
        # Not the variables themselves: another device may not read them.
        mapping = list(zip(self.weights, values, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            return self.optimizer.update(*args)

    def _stacked_update(self, values: Tensors, *args: Any) -> Any:
        return _each(lambda *one: self._update(values, *one), args)

    def _update_of_each(self, *args: Any) -> Any:
        return _each(self._update, args)

    def step(
        self, values: Tensors, params: Tensors, grads: Tensors, state: Any
    ) -> tuple[Tensors, Any]:
        """See `TrainableOptimizer.update`.

        Args:
            values: Those of the learned weights.
            params: As there.
            grads: As there.
            state: As there.
        """
        return self._step(values, params, grads, state)

    def vjp(
        self,
        values: Tensors,
        params: Tensors,
        grads: Tensors,
        state: Any,
        d_deltas: Tensors,
        d_state: Tensors,
        totals: Tensors,
        to_grads: bool,
    ) -> tuple[Tensors, Tensors, Tensors, Tensors]:
        """Returns the vector-Jacobian product of a step, which it recomputes.

        Args:
            values: What `step` got.
            params: What `step` got.
            grads: What `step` got.
            state: What `step` got.
            d_deltas: Cotangents of the changes that `step` returned.
            d_state: Cotangents of the floating leaves of the state that `step` returned.
            totals: Per learned weight, a sum of cotangents.
            to_grads: Whether to return cotangents of `grads`.

        Returns:
            Cotangents of `params`, of `grads` (empty without `to_grads`) and of the floating
            leaves of `state`; the totals plus the cotangents of the learned weights.
        """
        if to_grads not in self._vjp:

            def vjp(*args: Any) -> Any:
                return self._traced_vjp(*args, to_grads=to_grads)

            self._vjp[to_grads] = compiled(vjp, self.optimizer.xla)
        return self._vjp[to_grads](values, params, grads, state, d_deltas, d_state, totals)

    def _traced_vjp(self, *args: Any, to_grads: bool) -> tuple[Tensors, Tensors, Tensors, Tensors]:
        values, *inputs, totals = args

        def vjp(*one: Any) -> Any:
            return self._vjp_of_one(values, *one, to_grads=to_grads)

        # Vectorise the gradient, not the update: XLA would compile the gradient of a vectorised
        # update again at each call.
        *cotangents, d_weights = _each(vjp, inputs) if self._is_stacked else vjp(*inputs)
        if self._is_stacked:
            d_weights = [tf.reduce_sum(d, 0) for d in d_weights]
        return (*cotangents, [a + b for a, b in zip(totals, d_weights, strict=True)])

    def _vjp_of_one(
        self,
        values: Tensors,
        params: Tensors,
        grads: Tensors,
        state: Any,
        d_deltas: Tensors,
        d_state: Tensors,
        *,
        to_grads: bool,
    ) -> tuple[Tensors, Tensors, Tensors, Tensors]:
        sources = [params, grads if to_grads else [], floating(state)]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([sources, values])
            deltas, new_state = self._update(values, params, grads, state)
        (d_params, d_grads, d_old), d_weights = tape.gradient(
            [*deltas, *floating(new_state)],
            [sources, values],
            output_gradients=[*d_deltas, *d_state],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return d_params, d_grads, d_old, d_weights


def _each(function: Callable[..., Any], args: Any) -> Any:
    """Returns the values of a function at each index of the first axis of its arguments."""
    if tf.nest.flatten(args)[0].shape[0] == 1:
        # With one index, TensorFlow would use a gather, whose gradient is sparse.
        one = function(*tf.nest.map_structure(lambda leaf: tf.squeeze(leaf, 0), args))
        return tf.nest.map_structure(lambda leaf: leaf[tf.newaxis], one)
    return tf.vectorized_map(lambda one: function(*one), args, warn=False)


def floating(nest: Any) -> Tensors:
    """Returns the leaves of a nest that have gradients."""
    return [leaf for leaf in tf.nest.flatten(nest) if leaf.dtype.is_floating]


def replace_floating(nest: Any, values: Sequence[tf.Tensor]) -> Any:
    """Returns a nest with `values` as its floating leaves."""
    rest = iter(values)
    return tf.nest.map_structure(lambda leaf: next(rest) if leaf.dtype.is_floating else leaf, nest)
