"""An update rule and its vector-Jacobian product, compiled once for all unrolls."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from l2o.optimizer import TrainableOptimizer
from l2o.optimizer.trainable import compiled

Tensors = list[tf.Tensor]


class Rule:
    """What the unroll needs of a learned optimizer.

    Args:
        optimizer: Whose `update` it is.
        stacked: Whether all tensors have a first axis for several optimizees [False].
    """

    def __init__(self, optimizer: TrainableOptimizer, stacked: bool = False) -> None:
        self.optimizer = optimizer
        self.weights = optimizer.network.trainable_variables
        self._is_stacked = stacked
        self._step = compiled(self._of_several if stacked else self._update, optimizer.xla)
        self._vjp: dict[bool, Callable[..., Any]] = {}

    @functools.cached_property
    def stacked(self) -> Rule:
        """The same rule for several optimizees."""
        return Rule(self.optimizer, stacked=True)

    def values(self) -> Tensors:
        """Returns the learned weights as they are now."""
        return [tf.convert_to_tensor(v.value) for v in self.weights]

    def _update(self, values: Tensors, *args: Any) -> Any:
        # Not the variables themselves: another device may not read them.
        mapping = list(zip(self.weights, values, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            return self.optimizer.update(*args)

    def _of_several(self, values: Tensors, *args: Any) -> Any:
        return _each(lambda *one: self._update(values, *one), args)

    def step(
        self, values: Tensors, params: Tensors, grads: Tensors, state: Any
    ) -> tuple[Tensors, Any]:
        """See `TrainableOptimizer.update`.

        Args:
            values: Of the learned weights.
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
        """Runs a step again and goes back through it.

        Args:
            values: What `step` got.
            params: What `step` got.
            grads: What `step` got.
            state: What `step` got.
            d_deltas: Cotangents of the changes it returned.
            d_state: Cotangents of the floating leaves of the state it returned.
            totals: Per learned weight, what is added to.
            to_grads: Whether cotangents of `grads` are wanted.

        Returns:
            Cotangents of `params`, of `grads` (empty if not wanted) and of the floating
            leaves of `state`, and the totals with the cotangents of the weights added.
        """
        if to_grads not in self._vjp:

            def vjp(*args: Any) -> Any:
                return self._pull(*args, to_grads=to_grads)

            self._vjp[to_grads] = compiled(vjp, self.optimizer.xla)
        return self._vjp[to_grads](values, params, grads, state, d_deltas, d_state, totals)

    def _pull(self, *args: Any, to_grads: bool) -> tuple[Tensors, Tensors, Tensors, Tensors]:
        values, *inputs, totals = args

        def pull(*one: Any) -> Any:
            return self._pull_one(values, *one, to_grads=to_grads)

        # Not the gradient of what is vectorised: XLA would compile that at every call.
        *cotangents, d_weights = _each(pull, inputs) if self._is_stacked else pull(*inputs)
        if self._is_stacked:
            d_weights = [tf.reduce_sum(d, 0) for d in d_weights]
        return (*cotangents, [a + b for a, b in zip(totals, d_weights, strict=True)])

    def _pull_one(
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
    """Returns what a function of several arguments returns for each index of their first axis."""
    if tf.nest.flatten(args)[0].shape[0] == 1:
        # TensorFlow would pick the only one by an operation with a sparse gradient.
        one = function(*tf.nest.map_structure(lambda leaf: tf.squeeze(leaf, 0), args))
        return tf.nest.map_structure(lambda leaf: leaf[tf.newaxis], one)
    return tf.vectorized_map(lambda one: function(*one), args, warn=False)


def floating(nest: Any) -> Tensors:
    """Returns the leaves of a nest that have gradients."""
    return [leaf for leaf in tf.nest.flatten(nest) if leaf.dtype.is_floating]


def replace_floating(nest: Any, values: Sequence[tf.Tensor]) -> Any:
    """Returns a nest with other floating leaves."""
    left = iter(values)
    return tf.nest.map_structure(lambda leaf: next(left) if leaf.dtype.is_floating else leaf, nest)
