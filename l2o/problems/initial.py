"""Initial values of a Keras model, without building a model for each seed."""

from __future__ import annotations

import copy
import inspect
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from l2o import seeds

# Number of models of different seeds whose predicted values are compared with the real ones.
TRIALS = 2
# An upper bound for the number of draws of a model.
MOST_DRAWS = 10_000


class Drawn(NamedTuple):
    """A variable whose initializer has the model's draw number `draw` as its seed."""

    draw: int
    initializer: Any
    shape: tuple[int, ...]
    dtype: str

    def value(self, draws: Sequence[int]) -> tf.Tensor:
        """Returns the initializer's value for other draws."""
        initializer = copy.copy(self.initializer)
        initializer.seed = draws[self.draw]
        return tf.convert_to_tensor(initializer(self.shape, dtype=self.dtype))


class Seed(NamedTuple):
    """The state (seed, count) of a random layer; the seed is draw number `draw`."""

    draw: int
    times: int
    dtype: tf.DType

    def value(self, draws: Sequence[int]) -> tf.Tensor:
        """Returns the state for other draws."""
        return tf.constant([draws[self.draw], self.times], self.dtype)


class Same(NamedTuple):
    """A variable that has the same initial value in every model."""

    tensor: tf.Tensor

    def value(self, draws: Sequence[int]) -> tf.Tensor:
        """Returns the value, which depends on no draw."""
        return self.tensor


Recipe = list[Drawn | Seed | Same]


class InitialValues:
    """The initial values of the models that a function builds, by seed.

    Keras seeds each unseeded initializer, and each random layer, with an integer from Python's
    `random`, in the order in which they are made. The first models show which variable has which
    integer. After that, only the initializers are called. If this does not explain all draws of a
    model and the values of all its variables, to the last bit, a model is built for each seed.

    Args:
        build: Returns a fresh model.
    """

    def __init__(self, build: Callable[[], keras.Model]) -> None:
        self._build = build
        self._seen: set[int] = set()
        # None: nothing is known yet; empty: the values cannot be predicted.
        self._recipe: Recipe | None = None
        self._draws = 0

    def __call__(self, seed: int) -> list[tf.Tensor]:
        """Returns the initial values of the model for `seed`.

        Returns:
            The values of the trainable variables, then those of the other variables.
        """
        if self._recipe and len(self._seen) > TRIALS:
            return self._predicted(seed)
        made: dict[int, Any] = {}

        def watch(create: Callable[..., tf.Variable], **options: Any) -> tf.Variable:
            variable = create(**options)
            made[id(variable)] = variable, options.get("initial_value")
            return variable

        with tf.variable_creator_scope(watch), seeds.keras_initializers(seed):
            model = self._build()
            draws = _draws(seed, random.getstate())
        variables = [*model.trainable_variables, *model.non_trainable_variables]
        values = [tf.convert_to_tensor(v.value) for v in variables]
        if tf.executing_eagerly():  # tensors of a graph cannot be used outside of it
            self._observe(seed, variables, values, draws, made)
        return values

    def _predicted(self, seed: int) -> list[tf.Tensor]:
        source = random.Random(seed)
        draws = [_draw(source) for _ in range(self._draws)]
        return [one.value(draws) for one in self._recipe or ()]

    def _observe(
        self,
        seed: int,
        variables: Sequence[keras.Variable],
        values: Sequence[tf.Tensor],
        draws: Sequence[int] | None,
        made: dict[int, Any],
    ) -> None:
        if self._recipe is None:
            self._recipe = [] if draws is None else _recipe(variables, values, draws, made)
            self._draws = len(draws or ())
        elif self._recipe and not _equal(self._predicted(seed), values):
            self._recipe = []
        if self._recipe:
            self._seen.add(seed)


def _draw(source: random.Random) -> int:
    # `keras.random` draws the seed of an unseeded object in the same way.
    return source.randint(1, int(1e9))


def _draws(seed: int, end: Any) -> list[int] | None:
    """Returns the integers that Keras drew from `seed` on; None if other code drew in between."""
    source = random.Random(seed)
    found: list[int] = []
    while source.getstate() != end:
        if len(found) == MOST_DRAWS:
            return None
        found.append(_draw(source))
    return found


def _recipe(
    variables: Sequence[keras.Variable],
    values: Sequence[tf.Tensor],
    draws: Sequence[int],
    made: dict[int, Any],
) -> Recipe:
    """Returns how each value follows from the draws; empty if a draw has another use."""
    index = {draw: i for i, draw in enumerate(draws)}
    recipe: Recipe = []
    for variable, value in zip(variables, values, strict=True):
        _, initial = made.get(id(variable.value), (None, None))
        # Keras hands TensorFlow a function that calls the initializer.
        enclosed = inspect.getclosurevars(initial).nonlocals if inspect.isfunction(initial) else {}
        seeded = [o for o in enclosed.values() if _is_in(getattr(o, "seed", None), index)]
        if seeded:
            shape, dtype = tuple(value.shape.as_list()), variable.dtype
            recipe.append(Drawn(index[seeded[0].seed], seeded[0], shape, dtype))
        elif value.dtype.is_integer and value.shape == [2] and int(value[0]) in index:
            recipe.append(Seed(index[int(value[0])], int(value[1]), value.dtype))
        else:
            recipe.append(Same(value))
    used = {one.draw for one in recipe if not isinstance(one, Same)}
    return recipe if used == set(range(len(draws))) else []


def _is_in(seed: Any, index: dict[int, int]) -> bool:
    return isinstance(seed, int) and seed in index


def _equal(a: Sequence[tf.Tensor], b: Sequence[tf.Tensor]) -> bool:
    def content(tensor: tf.Tensor) -> tuple[Any, ...]:
        array = np.asarray(tensor)
        return array.dtype, array.shape, array.tobytes()

    return [content(t) for t in a] == [content(t) for t in b]
