"""TrainableOptimizer: a learned update rule behind Keras' optimizer contract."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from l2o import seeds
from l2o.optimizer import hub, learned, saved
from l2o.optimizer.compiling import compiled, in_parts
from l2o.optimizer.layout import Layout, path_of
from l2o.optimizer.making import Making, default_name
from l2o.optimizer.partial import AnyPlace, Place, put_state, take_state
from l2o.optimizer.restore import Owned, is_updated, rearranged
from l2o.options import options_of

# Each subset of variables compiles separately. Beyond this many, subsets run uncompiled.
MOST_COMPILED = 4

State = Any  # a nest of tensors


class TrainableOptimizer(keras.optimizers.Optimizer, metaclass=Making):
    """An optimizer that is a small neural network, to be meta-trained, then used.

    A subclass writes one paper's rule as a pair of pure functions,

        state         = optimizer.initial_state(params)
        deltas, state = optimizer.update(params, grads, state)

    and sets `self.network`, the Keras layer that holds the learned weights. This class
    calls the same pair from `apply`, and so from `model.fit`; there `state` lives in
    optimizer variables. The learned weights are not among `variables`: training a model
    never changes them.

    Args:
        learning_rate: Multiplies the learned change; a float, schedule or callable
            [1.0]. Meta-training does not use it.
        name: Name of the optimizer.
        **kwargs: Options of `keras.optimizers.Optimizer` (`clipnorm`, `weight_decay`,
            `use_ema`, ...).
    """

    network: keras.layers.Layer
    # Whether `update` treats every coordinate alike. Such a rule reads no parameter, and each
    # leaf of its state has the coordinates as its last axis or is a scalar for all of them.
    coordinatewise = False
    # Whether XLA can compile `update`.
    xla = True
    # Whether XLA compiles all of `update` as one program. Otherwise it compiles each `part` of it.
    one_program = True

    def __init__(
        self,
        learning_rate: float | Callable[..., Any] = 1.0,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self._compiled_update: Callable[..., Any] | None = None
        self._compiled_subsets: set[tuple[bool, ...]] = set()
        # A note, and the digest of the learned weights that it is about.
        self._noted = ("", "")

    def initial_state(self, params: Sequence[tf.Tensor], seed: int = 0) -> State:
        """Returns the state before the first step.

        Args:
            params: The optimizee's parameters; only shapes, dtypes and names matter. They may be
                tensors, which have no names, or `tf.TensorSpec`s, whose names are the paths of
                Keras variables.
            seed: Seed of a rule whose first state is random [0].

        Returns:
            A nest of tensors.
        """
        raise NotImplementedError

    def update(
        self, params: Sequence[tf.Tensor], grads: Sequence[tf.Tensor], state: State
    ) -> tuple[list[tf.Tensor], State]:
        """Computes one step without assigning anything.

        Args:
            params: The optimizee's parameters, dense floating tensors.
            grads: The gradient of the objective with respect to each parameter.
            state: What `initial_state` or the last `update` returned.

        Returns:
            The deltas and the new state. `params + deltas` are the new parameters; a delta
            has the shape and dtype of its parameter. The state has the same structure as
            before.
        """
        raise NotImplementedError

    def state_places(self, state: State) -> list[AnyPlace]:
        """Returns where the parameters lie in each leaf of a state, see `Place` and `Own`.

        Steps in which only some variables have a gradient need it. A rule that is not
        coordinatewise has to define it.

        Args:
            state: What `initial_state` or `update` returned.

        Returns:
            A place for each leaf, in the order of `tf.nest.flatten`; None for a leaf that
            all parameters share.
        """
        leaves = tf.nest.flatten(state)
        if leaves and not self.coordinatewise:
            raise NotImplementedError(
                f"only some variables have a gradient, and {type(self).__name__} does not define "
                "`state_places`, which says which part of its state belongs to which variable"
            )
        ranks = [leaf.shape.rank for leaf in leaves]
        return [Place(rank - 1, coordinates=True) if rank else None for rank in ranks]

    def set_learned_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Sets the learned weights.

        Args:
            weights: As `network.get_weights()` returns them.

        Raises:
            ValueError: If they belong to another network or are not finite; nothing is
                changed.
        """
        expected = [tuple(w.shape) for w in self.network.weights]
        arrays = [np.asarray(w) for w in weights]
        if received := learned.misfit(arrays, self.network.weights):
            raise ValueError(
                f"expected the weights of {self.name} with these options, {len(expected)} arrays "
                f"of finite numbers of the shapes {expected}. Received: {received}"
            )
        self.network.set_weights(arrays)

    def save(self, directory: str | os.PathLike[str], about: str | None = None) -> None:
        """Saves the rule and its learned weights, for `l2o.load`.

        It does not save what belongs to the training of one model: the optimizer's state
        (`model.save` does), the learning rate and Keras' other options.

        The directory gets `optimizer.npz` and, for people, a card to fill in, `README.md`.

        Args:
            directory: Where to write; it is made if it does not exist. A file `optimizer.npz`
                in it is replaced. Of a `README.md` in it only the part that an earlier `save` wrote
                is.
            about: A note to save with it, such as what it was trained on. If None, the note that
                these learned weights were loaded or saved with before [None].

        Raises:
            UserError: If it is the directory of a run, or cannot be written.
            ValueError: If it could not be loaded: the class is not registered with Keras, or
                an option is not a plain value.
        """
        saved.write(directory, self._saved(about))

    def push_to_hub(
        self,
        name: str,
        about: str | None = None,
        *,
        card: str | None = None,
        private: bool = False,
    ) -> str:
        """Writes what `save` writes to a repository on the Hugging Face Hub, in one commit.

        It needs `huggingface_hub`, and that you have logged in (`hf auth login`).

        Args:
            name: The repository, `user/name`; it is made if there is none.
            about: As for `save` [None].
            card: The text of the card, such as that of the `README.md` that you filled in after
                `save`; the part of it that `save` wrote is written again. None: the card of the
                repository, or a new one to fill in [None].
            private: Whether a repository that is made is private [False].

        Returns:
            The address of the commit, `hf://user/name@...`: what `l2o.load` finds there never
            changes.

        Raises:
            UserError: If the name has another form, or the network, `huggingface_hub` or the
                permission to write is missing.
            ValueError: As `save`.
        """
        found = self._saved(about)

        def card_after(before: str | None) -> str:
            return saved.card_of(found, hub.address_of(name), before)

        return hub.push(name, saved.packed(found), card_after, private, card)

    def keep_note(self, about: str) -> None:
        """Keeps a note on the learned weights, for a `save` before they change.

        Args:
            about: As for `save`.
        """
        self._noted = about, saved.digest(type(self), self.network.get_weights())

    def _saved(self, about: str | None) -> saved.Saved:
        weights = self.network.get_weights()
        if about is None:
            note, of = self._noted
            about = note if of == saved.digest(type(self), weights) else ""
        options, default = self._own_config(), default_name(type(self))
        if default and re.fullmatch(rf"{re.escape(default)}_\d+", self.name):
            # The number says how many were made before it.
            options["name"] = default
        made = saved.checked(type(self), options, about, weights)
        self.keep_note(about)
        return made

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
                    f"Expected real variables for {self.name}: a rule would see only one part of "
                    f"each number. Received: {variable.name} of dtype {variable.dtype}"
                )
        super().build(variables)
        # `fit` calls this while it traces. An initial value that the trace computes would be
        # lost, so the values are made outside of it.
        with tf.init_scope():
            params = [tf.TensorSpec(v.shape, v.dtype, path_of(v)) for v in self._updated()]
            state = self.initial_state(params)
            self._state_structure = tf.nest.map_structure(lambda _: None, state)
            if tf.nest.flatten(state):
                with keras.name_scope(self.name, caller=self):
                    self._track_variable(Layout(variables, "layout"))
            # A tuple, because `add_variable` has tracked them already.
            self._state_variables = tuple(
                self.add_variable(
                    tensor.shape,
                    initializer=_constant(tensor),
                    dtype=tensor.dtype.name,
                    name=name,
                )
                for name, tensor in zip(_names(state), tf.nest.flatten(state), strict=True)
            )

    def _updated(self) -> list[Any]:
        """Returns the variables that the rule updates, in the order of its state."""
        return [v for v in self._trainable_variables if is_updated(v)]

    def _backend_update_step(
        self, grads: Sequence[tf.Tensor], trainable_variables: Sequence[Any], learning_rate: Any
    ) -> None:
        # Keras calls this once for all variables, and `update_step` once for each of them.
        # Under a distribution strategy it runs on each replica.
        variables = [_tf_variable(v) for v in trainable_variables]
        if len(grads) != len(variables):
            raise ValueError(
                f"Expected a gradient for each of {len(variables)} variables. "
                f"Received: {len(grads)}"
            )
        # Keras leaves out variables without a gradient, but the state covers all of them.
        known = [_tf_variable(v) for v in self._updated()]
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
            # A shape that is unknown while tracing is checked when the step runs.
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
        """Calls `update`, compiled, on the parameters that have a gradient."""
        if self._compiled_update is None:
            one_program = self.one_program or not self.xla
            self._compiled_update = (
                compiled(self.update, self.xla) if one_program else in_parts(self.update)
            )
        taking = [g is not None for g in grads]
        if all(taking):
            return self._compiled_update(params, grads, state)
        if len(self._compiled_subsets) < MOST_COMPILED:
            self._compiled_subsets.add(tuple(taking))
        is_compiled = tuple(taking) in self._compiled_subsets
        update = self._compiled_update if is_compiled else self.update
        places = self.state_places(state)
        deltas, new = update(
            [p for p, takes in zip(params, taking, strict=True) if takes],
            [g for g in grads if g is not None],
            take_state(state, places, params, taking),
        )
        rest = iter(deltas)
        return [next(rest) if takes else None for takes in taking], put_state(
            state, new, places, params, taking
        )

    def _own_config(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in options_of(type(self))}

    def __dir__(self) -> list[str]:
        # Keras saves the weights of every layer that it finds here. The learned weights are in
        # the configuration instead: loading a file of weights must not change the rule.
        return [name for name in super().__dir__() if name != "network"]

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Loads a state that was saved for the same variables, in any order.

        A state that was saved for other variables is skipped with a warning, as in Keras.
        """
        values = [np.asarray(store[key]) for key in sorted(store.keys(), key=int)]
        if len(values) != len(self.variables):
            super().load_own_variables(store)
            return
        arranged = rearranged(values, self._owned())
        if [v.shape for v in arranged or []] != [tuple(v.shape) for v in self.variables]:
            warnings.warn(
                f"Skipping variable loading for optimizer '{self.name}', because the saved state "
                "belongs to other variables than those it was built on.",
                stacklevel=2,
            )
            return
        for variable, value in zip(self.variables, arranged or [], strict=True):
            variable.assign(value)

    def _owned(self) -> Owned:
        state = tf.nest.pack_sequence_as(self._state_structure, list(self._state_variables))
        return Owned(
            all=self.variables,
            model=self._trainable_variables,
            state=self._state_variables,
            places=lambda: self.state_places(state),
            per_variable=[
                getattr(self, "_model_variables_moving_average", []),
                getattr(self, "_accumulated_gradients", []),
            ],
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor arguments and, as text, the learned weights.

        Keras clones an optimizer from its configuration alone (`keras.models.clone_model`).
        Without its learned weights the clone would be untrained.
        """
        text = learned.to_text(self.network.get_weights())
        return {**super().get_config(), **self._own_config(), "learned": text}

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> TrainableOptimizer:
        """Returns the optimizer that a configuration describes.

        Args:
            config: What `get_config` returned; without "learned" the network is untrained.
            custom_objects: Keras classes by name, for learning rate schedules [None].

        Raises:
            ValueError: If the learned weights do not fit the network.
        """
        config = dict(config)
        text = config.pop("learned", None)
        if text is None:
            return super().from_config(config, custom_objects)
        # The weights drawn here are replaced, so they must not change the draws that follow.
        with seeds.keras_initializers(0):
            optimizer = super().from_config(config, custom_objects)
        try:
            weights = learned.from_text(text)
        except (ValueError, TypeError) as error:
            raise ValueError(f"what {optimizer.name} has learned is damaged: {error}") from None
        optimizer.set_learned_weights(weights)
        return optimizer


def _tf_variable(variable: Any) -> tf.Variable:
    return variable.value if isinstance(variable, keras.Variable) else variable


def _names(state: State, path: str = "") -> list[str]:
    """Returns a name like `lstm_0_1` for each leaf, in the order of `tf.nest.flatten`."""
    if isinstance(state, Mapping):
        items = sorted(state.items())
    elif hasattr(state, "_fields"):
        items = list(zip(state._fields, state, strict=True))
    elif isinstance(state, (list, tuple)):
        items = list(enumerate(state))
    else:
        return [path or "state"]
    return [n for key, part in items for n in _names(part, f"{path}_{key}" if path else str(key))]


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
