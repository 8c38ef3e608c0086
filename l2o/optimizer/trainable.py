"""TrainableOptimizer: a learned update rule behind Keras' optimizer contract."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from l2o.options import options_of

State = Any  # a nest of tensors


class TrainableOptimizer(keras.optimizers.Optimizer):
    """An optimizer that is a small neural network, to be meta-trained, then used.

    A subclass writes one paper's rule as a pair of pure functions,

        state         = optimizer.initial_state(params)
        deltas, state = optimizer.update(params, grads, state)

    and sets `self.network`, the Keras layer that holds the learned weights. This
    class calls the same pair from `apply` (so from `model.fit`), keeping `state` in
    optimizer variables. The learned weights are not among `variables`: training an
    optimizee never changes them.

    Args:
        learning_rate: Multiplies the learned change; float, schedule or callable
            [1.0]. The unroll does not use it.
        name: Name of the optimizer.
        **kwargs: Keras' own (`clipnorm`, `weight_decay`, `use_ema`, ...).
    """

    network: keras.layers.Layer
    # Whether `update` treats every coordinate alike: it reads no parameter, and the state's
    # leaves have the coordinates as their last axis or are scalars that all share.
    coordinatewise = False
    # Whether XLA can compile `update`.
    xla = True

    def __init__(
        self,
        learning_rate: float | Callable[..., Any] = 1.0,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self._compiled_update: Callable[..., Any] | None = None

    def initial_state(self, params: Sequence[tf.Tensor], seed: int = 0) -> State:
        """Returns the state before the first step.

        Args:
            params: The optimizee's parameters; only shapes and dtypes matter.
            seed: Names the draws of a rule that starts from random state [0].

        Returns:
            A nest of tensors.
        """
        raise NotImplementedError

    def update(
        self, params: Sequence[tf.Tensor], grads: Sequence[tf.Tensor], state: State
    ) -> tuple[list[tf.Tensor], State]:
        """Computes one step; assigns nothing.

        Args:
            params: The optimizee's parameters, dense floating tensors.
            grads: The gradient of its objective for each of them.
            state: What `initial_state` or the last `update` returned.

        Returns:
            The changes (`params + deltas` are the new parameters, same shapes and
            dtypes) and the new state, a nest of the same structure.
        """
        raise NotImplementedError

    # Keras' contract.

    def build(self, variables: list[Any]) -> None:
        """Creates the optimizer variables for the model `variables`."""
        if self.built:
            return
        super().build(variables)
        # `fit` builds while it traces: a value made inside the trace would be lost, and a
        # variable whose value was cannot be lifted out of it, which XLA needs.
        with tf.init_scope():
            params = [tf.zeros(v.shape, v.dtype) for v in variables]
            state = self.initial_state(params)
            self._state_structure = tf.nest.map_structure(lambda _: None, state)
            # Not tracked a second time as an attribute: `add_variable` has done it.
            self._state_variables = tuple(
                self.add_variable(
                    tensor.shape,
                    initializer=_constant(tensor),
                    dtype=tensor.dtype.name,
                    name=f"state_{i}",
                )
                for i, tensor in enumerate(tf.nest.flatten(state))
            )

    def _backend_update_step(
        self, grads: Sequence[tf.Tensor], trainable_variables: Sequence[Any], learning_rate: Any
    ) -> None:
        # Keras' hook for a step over all variables at once; `update_step` would see
        # one at a time. Inside a distribution strategy it runs once per replica.
        variables = [_tf_variable(v) for v in trainable_variables]
        grads = [g for g, _ in self._all_reduce_sum_gradients(zip(grads, variables, strict=True))]
        gradient_of = {
            self._var_key(v): tf.convert_to_tensor(g) for v, g in zip(variables, grads, strict=True)
        }
        # Keras drops variables without a gradient, but the state covers all of them:
        # they take part with a zero gradient and are not changed.
        known = [_tf_variable(v) for v in self._trainable_variables]
        params = [tf.convert_to_tensor(v) for v in known]
        all_grads = [
            gradient_of.get(self._var_key(v), tf.zeros_like(p))
            for v, p in zip(known, params, strict=True)
        ]
        state = tf.nest.pack_sequence_as(
            self._state_structure, [tf.convert_to_tensor(v.value) for v in self._state_variables]
        )
        if self._compiled_update is None:
            self._compiled_update = compiled(self.update, self.xla)
        deltas, state = self._compiled_update(params, all_grads, state)
        changes = [
            (v, tf.cast(learning_rate, d.dtype) * d)
            for v, d in zip(known, deltas, strict=True)
            if self._var_key(v) in gradient_of
        ]
        values = list(
            zip(
                [_tf_variable(v) for v in self._state_variables],
                tf.nest.flatten(state),
                strict=True,
            )
        )
        tf.__internal__.distribute.interim.maybe_merge_call(
            _assign, self._distribution_strategy, changes, values
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments; learned weights are saved as weights."""
        own = {name: getattr(self, name) for name in options_of(type(self))}
        return {**super().get_config(), **own}

    def save_own_variables(self, store: dict[str, Any]) -> None:
        """Saves state and learned weights (called by `model.save`)."""
        super().save_own_variables(store)
        for i, weight in enumerate(self.network.weights):
            store[f"network_{i}"] = weight.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Loads what `save_own_variables` saved."""
        stored = {key: store[key] for key in list(store.keys())}
        for i, weight in enumerate(self.network.weights):
            weight.assign(stored.pop(f"network_{i}"))
        super().load_own_variables(stored)


def compiled(function: Callable[..., Any], xla: bool) -> Callable[..., Any]:
    """Returns a function of tensors as one compiled operation.

    Args:
        function: What it does.
        xla: Whether by XLA, where TensorFlow has it.
    """
    # As Keras does: TensorFlow has no XLA on Apple's processors.
    apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    return tf.function(function, jit_compile=xla and not apple, autograph=False)


def _tf_variable(variable: Any) -> tf.Variable:
    return variable.value if isinstance(variable, keras.Variable) else variable


def _constant(value: tf.Tensor) -> Callable[..., tf.Tensor]:
    return lambda shape, dtype=None: value


def _assign(
    strategy: tf.distribute.Strategy,
    changes: Sequence[tuple[tf.Variable, tf.Tensor]],
    values: Sequence[tuple[tf.Variable, tf.Tensor]],
) -> None:
    for variable, change in changes:
        strategy.extended.update(
            variable, lambda v, d: v.assign_add(d), args=(change,), group=False
        )
    for variable, value in values:
        strategy.extended.update(variable, lambda v, x: v.assign(x), args=(value,), group=False)
