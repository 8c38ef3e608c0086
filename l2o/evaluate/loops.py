"""Loops that train models side by side, with learned optimizers or with Keras' own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf
from keras.optimizers.schedules import LearningRateSchedule

from l2o.errors import UserError
from l2o.inner import batched
from l2o.inner.batched import Batched, Optimizee, batch_at, value_and_gradients
from l2o.inner.part import PartialProblem
from l2o.inner.per_instance import PerOptimizee
from l2o.inner.rule import Rule
from l2o.inner.trajectory import Carry
from l2o.inner.unroll import Unroll, traced_once
from l2o.keras_optimizers import keeps_copy
from l2o.optimizer import TrainableOptimizer
from l2o.problems import Gradient, Instance, Problem


class Loop(Protocol):
    """Trains models side by side; each call continues where the last one stopped."""

    def start(self, instances: Sequence[Instance], learning_rates: Sequence[float] | None) -> None:
        """Starts fresh models, each with its learning rate; None: the optimizer's own rate.

        If the optimizer has a schedule, a learning rate multiplies it.
        """

    def advance(self, batches: Any, steps: int) -> np.ndarray:
        """Takes steps.

        Args:
            batches: [steps + 1, ...], or [steps + 1, models, ...]. Only a learned optimizer
                uses the last mini-batch.
            steps: Number of steps, at least 1.

        Returns:
            [steps, models], the loss of each mini-batch before its step; not finite once a
            model has diverged.
        """

    def end(self) -> list[Instance]:
        """Returns the parameters and the model state of each model."""


def loop_for(
    problem: Problem, optimizer: keras.optimizers.Optimizer, models: int, rated: bool
) -> Loop:
    """Returns the loop that trains `models` models of a problem with an optimizer.

    Args:
        problem: The model and its data.
        optimizer: An optimizer that is not built; the loop does not change it.
        models: Number of models.
        rated: Whether `start` will get learning rates.

    Raises:
        UserError: If the optimizer can only start from the model that it was built for.
    """
    optimizee: Optimizee = problem if models == 1 else Batched(problem, models)
    if isinstance(optimizer, TrainableOptimizer) and _is_plain(optimizer):
        return LearnedLoop(optimizee, optimizer, models, rated)
    params, model_state = problem.init(0)
    if models > 1 and {p.dtype for p in params} == {tf.float32} and is_elementwise(optimizer):
        kinds = problem.gradient_kinds(params, model_state, first_batch(problem))
        if Gradient.SPARSE not in kinds:
            return ElementwiseLoop(PartialProblem(problem, kinds), optimizer, models, rated)
    if keeps_copy(lambda: _copy(optimizer)):
        raise UserError(
            f"{type(optimizer).__name__} keeps a copy of the parameters it was built with, so "
            "it cannot start from those of each seed: expected another optimizer"
        )
    return KerasLoop(optimizee, optimizer, Instance(params, model_state), rated)


def first_batch(problem: Problem) -> Any:
    """Returns a mini-batch."""
    return batch_at(problem.stream(0, 0, 1), 0)


class LearnedLoop:
    """The unroll of a learned optimizer, without a gradient.

    Args:
        optimizee: The models.
        optimizer: An optimizer to whose delta Keras adds nothing but a learning rate and a weight
            decay, see `_is_plain`.
        models: Number of models.
        rated: Whether `start` will get learning rates.
    """

    def __init__(
        self, optimizee: Optimizee, optimizer: TrainableOptimizer, models: int, rated: bool
    ) -> None:
        self.optimizee = optimizee
        self.rule = Rule(optimizer)
        self.models = models
        self._own = optimizer.get_config()["learning_rate"]
        self._schedule = schedule_of(optimizer)
        self._decay = optimizer.weight_decay
        # With a factor of 1 the unroll has none.
        self._has_factor = rated or self._own != 1
        self._unroll: Callable[..., Any] | None = None

    def start(self, instances: Sequence[Instance], learning_rates: Sequence[float] | None) -> None:
        """See `Loop`."""
        if learning_rates is None:
            learning_rates = [1.0 if self._schedule else self._own] * self.models
        self._rates = tf.constant(
            learning_rates if self.models > 1 else learning_rates[0], tf.float32
        )
        self._taken = tf.zeros([], tf.int32)
        # The default seed, as when Keras builds it, gives the same random initial state.
        specs, optimizer = batched.problem_of(self.optimizee).specs, self.rule.optimizer
        starts = [Carry(*one, optimizer.initial_state(specs(one.params))) for one in instances]
        self._carry = starts[0] if self.models == 1 else batched.stack(starts)
        self._alive = np.ones(self.models, bool)

    def _trace(self, start: Any, batches: Any, steps: tf.Tensor) -> Any:
        carry, taken, rates = start
        first, _ = self.optimizee.objective(carry.params, carry.model_state, batch_at(batches, 0))

        def factor(i: tf.Tensor) -> tf.Tensor:
            return rates * self._schedule(taken + i) if self._schedule else rates

        unroll = Unroll(
            self.rule, self.rule.values(), self.optimizee, carry, batches, steps,
            multiplier=factor if self._has_factor else None,
        )  # fmt: skip
        decay = None if self._decay is None else lambda i: self._decay * factor(i)
        done = unroll.forward(references=False, decay=decay)
        # NumPy has no bfloat16.
        losses = tf.cast(first, tf.float32), tf.cast(done.objectives, tf.float32)
        return *losses, done.steps, done.carry

    def advance(self, batches: Any, steps: int) -> np.ndarray:
        """See `Loop`."""
        start = (self._carry, self._taken, self._rates)
        self._unroll = self._unroll or traced_once(self._trace, start, batches)
        first, later, ran, self._carry = self._unroll(start, batches, tf.constant(steps, tf.int32))
        self._taken += steps
        losses = np.concatenate(
            [np.reshape(first, [1, -1]), np.reshape(later, [steps, self.models])]
        )
        # Entries after the loss or gradient that ended an unroll are not losses.
        ended = np.arange(steps + 1)[:, None] > np.reshape(ran, [1, -1])
        losses[ended | ~self._alive] = np.nan
        # The unroll also needs the loss of the mini-batch after its last step.
        self._alive &= np.reshape(ran, [-1]) == steps
        return losses[:steps]

    def end(self) -> list[Instance]:
        """See `Loop`."""
        params, model_state, _ = self._carry
        ends = _each(params, model_state, self.models)
        for k in np.flatnonzero(~self._alive):
            ends[k] = ends[k]._replace(params=[p * np.nan for p in ends[k].params])
        return ends


class KerasLoop:
    """Trains as `fit` does, with a copy of the optimizer for each model.

    Args:
        optimizee: The models.
        optimizer: The optimizer to copy.
        like: One of the models; only shapes and dtypes matter.
        rated: Whether `start` will get learning rates.
    """

    def __init__(
        self,
        optimizee: Optimizee,
        optimizer: keras.optimizers.Optimizer,
        like: Instance,
        rated: bool,
    ) -> None:
        self._rates: list[keras.Variable] = []
        schedule = schedule_of(optimizer) if rated else None

        def create() -> keras.optimizers.Optimizer:
            if schedule is None:
                return _copy(optimizer)
            self._rates.append(keras.Variable(1.0, dtype="float32"))
            return _copy(optimizer, learning_rate=_Rates(self._rates[-1], schedule))

        specs = batched.problem_of(optimizee).specs(like.params)
        self._each = PerOptimizee(create, optimizee, specs)
        self._steps: Callable[..., Any] | None = None
        self._finish = tf.function(self._each.finish, autograph=False)

    def start(self, instances: Sequence[Instance], learning_rates: Sequence[float] | None) -> None:
        """See `Loop`."""
        together: Instance = batched.stack(instances) if len(instances) > 1 else instances[0]
        params, self._model_state = together
        self._each.put(params)
        self._each.reset()
        if learning_rates is not None and self._rates:
            for variable, rate in zip(self._rates, learning_rates, strict=True):
                variable.assign(rate)
        elif learning_rates is not None:
            for optimizer, rate in zip(self._each.optimizers, learning_rates, strict=True):
                optimizer.learning_rate = rate

    def advance(self, batches: Any, steps: int) -> np.ndarray:
        """See `Loop`."""
        self._steps = self._steps or _compiled(self._each.step, self._model_state, batches)
        self._model_state, losses = self._steps(
            self._model_state, batches, tf.constant(steps, tf.int32)
        )
        return np.reshape(losses, [steps, -1])

    def end(self) -> list[Instance]:
        """See `Loop`."""
        self._finish()
        return _each(self._each.params(), self._model_state, len(self._each.optimizers))


class ElementwiseLoop:
    """Trains as `fit` does, with one optimizer on a variable [models, n] of all parameters.

    Args:
        problem: The problem of the models; none of its gradients is sparse.
        optimizer: The optimizer to copy; see `is_elementwise`.
        models: Number of models, at least 2.
        rated: Whether `start` will get learning rates.
    """

    def __init__(
        self,
        problem: PartialProblem,
        optimizer: keras.optimizers.Optimizer,
        models: int,
        rated: bool,
    ) -> None:
        self._problem = problem
        self.optimizee = Batched(problem, models)
        self._shapes = [p.shape for p in problem.init(0).params]
        self._sizes = [shape.num_elements() for shape in self._shapes]
        self._models = models
        self._rates = keras.Variable(np.zeros((models, 1)), dtype="float32")
        # Keras' setter takes only one number, but a schedule may return a column.
        own = {"learning_rate": _Rates(self._rates, schedule_of(optimizer))} if rated else {}
        self._optimizer = _copy(optimizer, **own)
        self._all = keras.Variable(np.zeros((models, sum(self._sizes))), dtype="float32")
        self._optimizer.build([self._all])
        self._initial = [tf.convert_to_tensor(v.value) for v in self._optimizer.variables]
        self._steps: Callable[..., Any] | None = None

    def start(self, instances: Sequence[Instance], learning_rates: Sequence[float] | None) -> None:
        """See `Loop`."""
        params, self._model_state = batched.stack([self._problem.split(*i) for i in instances])
        self._all.assign(self._flat(params))
        for variable, value in zip(self._optimizer.variables, self._initial, strict=True):
            variable.assign(value)
        if learning_rates is not None:
            self._rates.assign(np.reshape(learning_rates, [-1, 1]))

    def _flat(self, tensors: Sequence[tf.Tensor]) -> tf.Tensor:
        return tf.concat([tf.reshape(t, [self._models, -1]) for t in tensors], axis=1)

    def _params(self) -> list[tf.Tensor]:
        parts = tf.split(self._all.value, self._sizes, axis=1)
        pairs = zip(parts, self._shapes, strict=True)
        return [tf.reshape(part, [self._models, *shape]) for part, shape in pairs]

    def _step(self, model_state: Any, batch: Any) -> tuple[tf.Tensor, Any]:
        f, grads, after = value_and_gradients(self.optimizee, self._params(), model_state, batch)
        self._optimizer.apply([self._optimizer.scale_loss(self._flat(grads))], [self._all])
        return f, after

    def advance(self, batches: Any, steps: int) -> np.ndarray:
        """See `Loop`."""
        self._steps = self._steps or _compiled(self._step, self._model_state, batches)
        self._model_state, losses = self._steps(
            self._model_state, batches, tf.constant(steps, tf.int32)
        )
        return losses.numpy()

    def end(self) -> list[Instance]:
        """See `Loop`."""
        self._optimizer.finalize_variable_values([self._all])
        ends = _each(self._params(), self._model_state, self._models)
        return [Instance(*self._problem.join(*end)) for end in ends]


class _Rates(LearningRateSchedule):
    """A schedule that returns the values of a variable, or multiplies a schedule by them.

    Args:
        rates: A learning rate, or a column with one for each model.
        schedule: The schedule to multiply [None].
    """

    def __init__(self, rates: keras.Variable, schedule: LearningRateSchedule | None = None) -> None:
        self._rates, self._schedule = rates, schedule

    def __call__(self, step: Any) -> tf.Tensor:
        rates = self._rates.value
        return rates if self._schedule is None else rates * self._schedule(step)


# Optimizers whose change of a coordinate depends only on that coordinate and on the step.
ELEMENTWISE = ("SGD", "RMSprop", "Adam", "AdamW", "Adamax", "Nadam", "Adagrad", "Adadelta", "Lion")


def is_elementwise(optimizer: keras.optimizers.Optimizer) -> bool:
    """Returns whether the change of a coordinate depends on no other coordinate."""
    kinds = [getattr(keras.optimizers, name) for name in ELEMENTWISE]
    clips = (optimizer.clipnorm, optimizer.global_clipnorm)
    return type(optimizer) in kinds and clips == (None, None)


def _compiled(
    take_step: Callable[[Any, Any], tuple[tf.Tensor, Any]], model_state: Any, batches: Any
) -> Callable[..., Any]:
    """Returns a compiled loop over steps of an optimizer whose state is in variables.

    Args:
        take_step: (model_state, mini-batch) -> the objective before the step and model_state.
        model_state: Only shapes and dtypes matter.
        batches: Only shapes and dtypes matter.

    Returns:
        (model_state, batches, steps) -> model_state and losses [steps, ...].
    """

    def run(model_state: Any, batches: Any, steps: tf.Tensor) -> Any:
        def step(i: tf.Tensor, model_state: Any, losses: tf.TensorArray) -> Any:
            f, model_state = take_step(model_state, batch_at(batches, i))
            return i + 1, model_state, losses.write(i, tf.cast(f, tf.float32))

        losses = tf.TensorArray(tf.float32, size=steps)
        _, model_state, losses = tf.while_loop(
            lambda i, *_: i < steps, step, (tf.zeros([], tf.int32), model_state, losses)
        )
        return model_state, losses.stack()

    return traced_once(run, model_state, batches)


def schedule_of(optimizer: keras.optimizers.Optimizer) -> LearningRateSchedule | None:
    """Returns an optimizer's schedule; None: its learning rate is a number or a function."""
    rate = optimizer.get_config()["learning_rate"]
    if not isinstance(rate, dict):
        return None
    found = keras.optimizers.schedules.deserialize(rate)
    return found if isinstance(found, LearningRateSchedule) else None


def _is_plain(optimizer: TrainableOptimizer) -> bool:
    """Returns whether Keras' options (clipping, ...) have their defaults.

    The weight decay may have any value, and the learning rate is a number or a schedule.
    """
    given, plain = optimizer.get_config(), keras.optimizers.Optimizer(1.0).get_config()
    if not isinstance(given["learning_rate"], float) and schedule_of(optimizer) is None:
        return False
    ours = ("name", "learning_rate", "weight_decay")
    return all(given[key] == value for key, value in plain.items() if key not in ours)


def _copy(optimizer: keras.optimizers.Optimizer, **options: Any) -> keras.optimizers.Optimizer:
    return type(optimizer).from_config({**optimizer.get_config(), **options})


def _each(params: list[tf.Tensor], model_state: list[tf.Tensor], models: int) -> list[Instance]:
    if models == 1:
        return [Instance(params, model_state)]
    return [Instance(*batched.take((params, model_state), k)) for k in range(models)]
