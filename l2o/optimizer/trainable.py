"""TrainableOptimizer: a learned update rule behind Keras' optimizer contract."""

from __future__ import annotations

import base64
import os
import platform
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from l2o import seeds
from l2o.disk.packing import pack, unpack
from l2o.optimizer import saved
from l2o.optimizer.layout import Layout, order
from l2o.optimizer.making import Making, default_name
from l2o.optimizer.partial import Place, put, reordered, take
from l2o.options import options_of

# Choices of variables for which a step is compiled; other ones are computed as they come.
MOST_COMPILED = 4

State = Any  # a nest of tensors


class TrainableOptimizer(keras.optimizers.Optimizer, metaclass=Making):
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
        self._choices: set[tuple[bool, ...]] = set()

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

    def state_places(self, state: State) -> list[Place | None]:
        """Returns where the parameters lie in each leaf of a state, see `Place`.

        A rule that is not coordinatewise has to say so itself, for steps in which only
        some variables have a gradient.

        Args:
            state: What `initial_state` or `update` returned.

        Returns:
            For each leaf in the order of `tf.nest.flatten`; None for what all share.
        """
        leaves = tf.nest.flatten(state)
        if leaves and not self.coordinatewise:
            raise NotImplementedError(
                f"only some variables have a gradient, and {type(self).__name__} does not define "
                "`state_places`, which says what of its state belongs to which variable"
            )
        ranks = [leaf.shape.rank for leaf in leaves]
        return [Place(rank - 1, coordinates=True) if rank else None for rank in ranks]

    def set_learned_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Gives the optimizer learned weights.

        Args:
            weights: As `network.get_weights()` returns them.

        Raises:
            ValueError: If they are those of another network, or not finite numbers; nothing
                is changed.
        """
        expected = [tuple(w.shape) for w in self.network.weights]
        arrays = [np.asarray(w) for w in weights]
        if received := self._misfit(arrays):
            raise ValueError(
                f"expected the weights of {self.name} with these options, {len(expected)} arrays "
                f"of finite numbers of the shapes {expected}. Received: {received}"
            )
        self.network.set_weights(arrays)

    def _misfit(self, arrays: Sequence[np.ndarray]) -> str:
        """Returns what is wrong with arrays for them to be the learned weights; "": nothing."""
        if len(arrays) != len(self.network.weights):
            return f"{len(arrays)} arrays, of the shapes {[a.shape for a in arrays]}"
        for i, (array, weight) in enumerate(zip(arrays, self.network.weights, strict=True)):
            if array.shape != tuple(weight.shape):
                return f"array {i} of the shape {array.shape} where {tuple(weight.shape)} belongs"
            if not np.can_cast(array.dtype, np.float64, "same_kind"):
                return f"array {i} of {array.dtype}, which are no real numbers"
            with np.errstate(over="ignore"):
                if not np.isfinite(array.astype(tf.as_dtype(weight.dtype).as_numpy_dtype)).all():
                    return f"array {i} with values that are not finite in {weight.dtype}"
        return ""

    def save(self, directory: str | os.PathLike[str], about: str = "") -> None:
        """Saves the rule and what it has learned, for `l2o.load`.

        Not saved is what belongs to one training: the state (`model.save` does that), the
        learning rate and Keras' other options.

        Args:
            directory: Where; made if it does not exist. A file `optimizer.npz` in it is
                replaced.
            about: What to remember, such as what it was trained on [""].

        Raises:
            UserError: If it is the directory of a run, or cannot be written.
            ValueError: If it could not be loaded again: the class is not registered with
                Keras, or an option is no plain value.
        """
        if not isinstance(about, str):
            raise ValueError(f"Expected a text `about` it. Received: {about!r}")
        kind = keras.saving.get_registered_name(type(self))
        if keras.saving.get_registered_object(kind) is not type(self):
            raise ValueError(
                f"{type(self).__name__} could not be loaded again: decorate the class with "
                "@keras.saving.register_keras_serializable()"
            )
        weights = self.network.get_weights()
        options = {name: _plain(name, value) for name, value in self._own_config().items()}
        default = default_name(type(self))
        if default and re.fullmatch(rf"{re.escape(default)}_\d+", self.name):
            # The number says how many were made before it.
            options["name"] = default
        saved.write(directory, saved.Saved(kind, options, about, weights))

    # Keras' contract.

    def build(self, variables: list[Any]) -> None:
        """Creates the optimizer variables for the model `variables`."""
        if self.built:
            return
        if tf.distribute.get_strategy() is not self._distribution_strategy:
            raise ValueError(
                f"{self.name} was made under another tf.distribute.Strategy than the model: load "
                "or make it inside `strategy.scope()`"
            )
        for variable in variables:
            if tf.as_dtype(variable.dtype).is_complex:
                raise ValueError(
                    f"Expected real variables for {self.name}: a rule would see one part of each "
                    f"number only. Received: {variable.name} of dtype {variable.dtype}"
                )
        super().build(variables)
        # `fit` builds while it traces. TensorFlow lifts first values out of a trace if they
        # depend on nothing in it; here none can.
        with tf.init_scope():
            params = [tf.zeros(v.shape, v.dtype) for v in self._moved()]
            state = self.initial_state(params)
            self._state_structure = tf.nest.map_structure(lambda _: None, state)
            if tf.nest.flatten(state):
                with keras.name_scope(self.name, caller=self):
                    self._track_variable(Layout(variables, "layout"))
            # Not tracked a second time as an attribute: `add_variable` has done it.
            self._state_variables = tuple(
                self.add_variable(
                    tensor.shape,
                    initializer=_constant(tensor),
                    dtype=tensor.dtype.name,
                    name=name,
                )
                for name, tensor in zip(_names(state), tf.nest.flatten(state), strict=True)
            )

    def _moved(self) -> list[Any]:
        """Returns the variables that the rule moves, in the order of its state."""
        return [v for v in self._trainable_variables if _is_moved(v)]

    def _backend_update_step(
        self, grads: Sequence[tf.Tensor], trainable_variables: Sequence[Any], learning_rate: Any
    ) -> None:
        # Keras' hook for a step over all variables at once; `update_step` would see
        # one at a time. Inside a distribution strategy it runs once per replica.
        variables = [_tf_variable(v) for v in trainable_variables]
        if len(grads) != len(variables):
            raise ValueError(
                f"Expected a gradient for each of {len(variables)} variables. "
                f"Received: {len(grads)}"
            )
        # Keras drops variables without a gradient, but the state covers all of them.
        known = [_tf_variable(v) for v in self._moved()]
        known_keys = {self._var_key(v) for v in known}
        reduced = self._all_reduce_sum_gradients(zip(grads, variables, strict=True))
        gradient_of: dict[Any, tf.Tensor] = {}
        for gradient, variable in reduced:
            g, key = tf.convert_to_tensor(gradient), self._var_key(variable)
            if key not in known_keys:
                raise ValueError(
                    f"Expected gradients of floating variables. Received: one of {variable.name}, "
                    f"of dtype {variable.dtype}"
                )
            if not g.shape.is_compatible_with(variable.shape):
                raise ValueError(
                    f"Expected a gradient of shape {variable.shape} for {variable.name}. "
                    f"Received: {g.shape}"
                )
            # Of a shape that is known only later, TensorFlow checks it then.
            g = tf.ensure_shape(g, variable.shape)
            gradient_of[key] = gradient_of[key] + g if key in gradient_of else g
        params = [tf.convert_to_tensor(v) for v in known]
        all_grads = [gradient_of.get(self._var_key(v)) for v in known]
        state = tf.nest.pack_sequence_as(
            self._state_structure, [tf.convert_to_tensor(v.value) for v in self._state_variables]
        )
        deltas, state = self._update_some(params, all_grads, state)
        changes = [
            (v, tf.cast(learning_rate, d.dtype) * d)
            for v, d in zip(known, deltas, strict=True)
            if d is not None
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

    def _update_some(
        self, params: list[tf.Tensor], grads: list[tf.Tensor | None], state: State
    ) -> tuple[list[tf.Tensor | None], State]:
        """Is `update`, compiled; a parameter without a gradient takes no part in it."""
        if self._compiled_update is None:
            self._compiled_update = compiled(self.update, self.xla)
        taking = [g is not None for g in grads]
        if all(taking):
            return self._compiled_update(params, grads, state)
        # Each choice of variables is compiled anew, which is too long for ever other ones.
        if len(self._choices) < MOST_COMPILED:
            self._choices.add(tuple(taking))
        update = self._compiled_update if tuple(taking) in self._choices else self.update
        places, leaves = self.state_places(state), tf.nest.flatten(state)
        part = [take(leaf, p, params, taking) for leaf, p in zip(leaves, places, strict=True)]
        deltas, new = update(
            [p for p, takes in zip(params, taking, strict=True) if takes],
            [g for g in grads if g is not None],
            tf.nest.pack_sequence_as(state, part),
        )
        merged = [
            put(leaf, n, p, params, taking)
            for leaf, n, p in zip(leaves, tf.nest.flatten(new), places, strict=True)
        ]
        rest = iter(deltas)
        return [next(rest) if takes else None for takes in taking], tf.nest.pack_sequence_as(
            state, merged
        )

    def _own_config(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in options_of(type(self))}

    def __dir__(self) -> list[str]:
        # Keras saves the weights of every layer that it finds here. What was learned is in the
        # configuration: a file of one training must not change the rule of another.
        return [name for name in super().__dir__() if name != "network"]

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Loads a state that was saved for the same variables, in whatever order.

        One that was saved for other variables is skipped, with a warning, as Keras does.
        """
        values = [np.asarray(store[key]) for key in sorted(store.keys(), key=int)]
        if len(values) != len(self.variables):
            super().load_own_variables(store)
            return
        found = self._in_own_order(values)
        if [v.shape for v in found or []] != [tuple(v.shape) for v in self.variables]:
            warnings.warn(
                f"Skipping variable loading for optimizer '{self.name}', because the saved state "
                "belongs to other variables than those it was built on.",
                stacklevel=2,
            )
            return
        for variable, value in zip(self.variables, found or [], strict=True):
            variable.assign(value)

    def _in_own_order(self, values: list[np.ndarray]) -> list[np.ndarray] | None:
        """Returns saved values in the order of `variables`; None: they belong to others."""
        indices = {id(v): i for i, v in enumerate(self.variables)}
        layout = next((v for v in self.variables if isinstance(v, Layout)), None)
        if layout is None:
            return values
        own = layout.fingerprints
        all_ = order(values[indices[id(layout)]], own)
        if all_ is None or all_ == list(range(len(own))):
            return None if all_ is None else values
        known = self._trainable_variables
        of_moved = [k for v, k in zip(known, all_, strict=True) if _is_moved(v)]
        ranks = [sorted(of_moved).index(k) for k in of_moved]
        state = tf.nest.pack_sequence_as(self._state_structure, list(self._state_variables))
        try:
            places = self.state_places(state)
        except NotImplementedError:
            return None
        done = list(values)
        for variable, place in zip(self._state_variables, places, strict=True):
            i = indices[id(variable)]
            done[i] = reordered(values[i], place, self._moved(), ranks)
        # What Keras itself keeps for each variable.
        for attribute in ("_model_variables_moving_average", "_accumulated_gradients"):
            at = [indices[id(v)] for v in getattr(self, attribute, [])]
            for i, source in zip(at, all_, strict=bool(at)):
                done[i] = values[at[source]]
        done[indices[id(layout)]] = own
        return done

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments, and as text what has been learned.

        Keras clones an optimizer by its configuration alone (`keras.models.clone_model`);
        one that has forgotten what it learned would be another.
        """
        learned = {str(i): w for i, w in enumerate(self.network.get_weights())}
        text = base64.b64encode(pack(learned)).decode()
        return {**super().get_config(), **self._own_config(), "learned": text}

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> TrainableOptimizer:
        """Returns the optimizer that a configuration describes.

        Args:
            config: What `get_config` returned; without "learned", the network is untrained.
            custom_objects: Keras classes by name, for learning rate schedules [None].

        Raises:
            ValueError: If what was learned is not that of such a network.
        """
        config = dict(config)
        learned = config.pop("learned", None)
        if learned is None:
            return super().from_config(config, custom_objects)
        # What is drawn here is replaced: the draws of the model that comes next stay the same.
        with seeds.keras_initializers(0):
            optimizer = super().from_config(config, custom_objects)
        try:
            arrays = unpack(base64.b64decode(learned))
        except (ValueError, TypeError) as error:
            raise ValueError(f"what {optimizer.name} has learned is damaged: {error}") from None
        optimizer.set_learned_weights([arrays.get(str(i), np.empty(0)) for i in range(len(arrays))])
        return optimizer


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


def _is_moved(variable: Any) -> bool:
    """Returns whether the rule moves a variable."""
    # One of a float8 layer has no gradient: Keras puts another value in its place.
    overwritten = getattr(variable, "overwrite_with_gradient", False)
    return tf.as_dtype(variable.dtype).is_floating and not overwritten


def _names(state: State, path: str = "") -> list[str]:
    """Returns a name for each leaf, in the order of `tf.nest.flatten`: `lstm_0_1`."""
    if isinstance(state, Mapping):
        items = sorted(state.items())
    elif hasattr(state, "_fields"):
        items = list(zip(state._fields, state, strict=True))
    elif isinstance(state, (list, tuple)):
        items = list(enumerate(state))
    else:
        return [path or "state"]
    return [n for key, part in items for n in _names(part, f"{path}_{key}" if path else str(key))]


def _plain(name: str, value: Any) -> Any:
    """Returns an option as the JSON value that a file holds."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(name, item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"Expected a plain value of {name}, to save it. Received: {value!r}")


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
