"""First values of a Keras model, without a new model for each seed."""

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

# How many models, each of another seed, have to have the values that were foretold.
TRIALS = 2
# More draws than a model has.
MOST_DRAWS = 10_000


class Drawn(NamedTuple):
    """A variable whose initializer has draw number `draw` of the model as its seed."""

    draw: int
    initializer: Any
    shape: tuple[int, ...]
    dtype: str

    def value(self, draws: Sequence[int]) -> tf.Tensor:
        """Returns what the initializer gives with other draws."""
        initializer = copy.copy(self.initializer)
        initializer.seed = draws[self.draw]
        return tf.convert_to_tensor(initializer(self.shape, dtype=self.dtype))


class Seed(NamedTuple):
    """The state of a random layer, (draw number `draw`, times)."""

    draw: int
    times: int
    dtype: tf.DType

    def value(self, draws: Sequence[int]) -> tf.Tensor:
        """Returns the state with other draws."""
        return tf.constant([draws[self.draw], self.times], self.dtype)


class Same(NamedTuple):
    """A variable that starts alike in each model."""

    tensor: tf.Tensor

    def value(self, draws: Sequence[int]) -> tf.Tensor:
        """Returns that."""
        return self.tensor


Recipe = list[Drawn | Seed | Same]


class InitialValues:
    """The first values of the models that a function builds, by seed.

    Keras gives each unseeded initializer, and each random layer, an integer from Python's
    `random`, in the order in which they are made. A few models show which variable has which of
    them; after that initializers are called alone. Where that does not explain all draws of a
    model and the values of all its variables, to the last bit, a model is built each time.

    Args:
        build: Returns a fresh model.
    """

    def __init__(self, build: Callable[[], keras.Model]) -> None:
        self._build = build
        self._seen: set[int] = set()
        # None: nothing is known yet; empty: models cannot be foretold.
        self._recipe: Recipe | None = None
        self._draws = 0

    def __call__(self, seed: int) -> list[tf.Tensor]:
        """Returns what a model that is built for `seed` has.

        Returns:
            The values of its trainable variables, then of the others.
        """
        if self._recipe and len(self._seen) > TRIALS:
            return self._foretold(seed)
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
        if tf.executing_eagerly():  # values of a graph end with it
            self._learn(seed, variables, values, draws, made)
        return values

    def _foretold(self, seed: int) -> list[tf.Tensor]:
        source = random.Random(seed)
        draws = [_draw(source) for _ in range(self._draws)]
        return [one.value(draws) for one in self._recipe or ()]

    def _learn(
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
        elif self._recipe and not _equal(self._foretold(seed), values):
            self._recipe = []
        if self._recipe:
            self._seen.add(seed)


def _draw(source: random.Random) -> int:
    # As `keras.random` does for what has no seed.
    return source.randint(1, int(1e9))


def _draws(seed: int, end: Any) -> list[int] | None:
    """Returns what Keras has drawn from `seed` on; None if somebody drew otherwise."""
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
    """Returns how each value follows from the draws; empty if a draw is for something else."""
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
