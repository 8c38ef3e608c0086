"""Training loops over models side by side: one for learned optimizers, one for Keras' own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

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
    """Trains models side by side, from their start or from where it stopped."""

    def start(self, instances: Sequence[Instance], learning_rates: Sequence[float] | None) -> None:
        """Puts fresh models in, each with its learning rate; None: the optimizer's own."""

    def advance(self, batches: Any, steps: int) -> np.ndarray:
        """Takes steps.

        Args:
            batches: [steps + 1, ...], or [steps + 1, models, ...]; the last one may be used
                for nothing.
            steps: How many, at least 1.

        Returns:
            [steps, models], the loss of each mini-batch before the step it drives; not finite
            from where a model has diverged.
        """

    def end(self) -> list[Instance]:
        """Returns parameters and state of each model."""


def loop_for(
    problem: Problem, optimizer: keras.optimizers.Optimizer, models: int, rated: bool
) -> Loop:
    """Returns the loop that trains `models` models of a problem with an optimizer.

    Args:
        problem: Model and data.
        optimizer: Not built yet; the loop does not change it.
        models: How many.
        rated: Whether it will be given learning rates.

    Raises:
        UserError: If the optimizer cannot start from a model other than it was built for.
    """
    optimizee: Optimizee = problem if models == 1 else Batched(problem, models)
    if isinstance(optimizer, TrainableOptimizer) and _is_plain(optimizer) and not rated:
        return LearnedLoop(optimizee, optimizer, models)
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
    return KerasLoop(optimizee, optimizer, Instance(params, model_state))


def first_batch(problem: Problem) -> Any:
    """Returns a mini-batch."""
    return batch_at(problem.stream(0, 0, 1), 0)


class LearnedLoop:
    """The unroll of a learned optimizer, without a gradient.

    Args:
        optimizee: The models.
        optimizer: Its change is used as it is: see `_is_plain`.
        models: How many.
    """

    def __init__(self, optimizee: Optimizee, optimizer: TrainableOptimizer, models: int) -> None:
        self.optimizee = optimizee
        self.rule = Rule(optimizer)
        self.models = models
        self._unroll: Callable[..., Any] | None = None

    def start(self, instances: Sequence[Instance], learning_rates: Sequence[float] | None) -> None:
        """See `Loop`; it has no learning rate."""
        assert learning_rates is None
        # As Keras builds it: the draws of a rule that starts from random state are the same.
        starts = [Carry(*one, self.rule.optimizer.initial_state(one.params)) for one in instances]
        self._carry = starts[0] if self.models == 1 else batched.stack(starts)
        self._alive = np.ones(self.models, bool)

    def _trace(self, carry: Carry, batches: Any, steps: tf.Tensor) -> Any:
        first, _ = self.optimizee.objective(carry.params, carry.model_state, batch_at(batches, 0))
        unroll = Unroll(self.rule, self.rule.values(), self.optimizee, carry, batches, steps)
        done = unroll.forward(references=False)
        # NumPy has no bfloat16.
        losses = tf.cast(first, tf.float32), tf.cast(done.objectives, tf.float32)
        return *losses, done.steps, done.carry

    def advance(self, batches: Any, steps: int) -> np.ndarray:
        """See `Loop`."""
        self._unroll = self._unroll or traced_once(self._trace, self._carry, batches)
        first, later, ran, self._carry = self._unroll(
            self._carry, batches, tf.constant(steps, tf.int32)
        )
        losses = np.concatenate(
            [np.reshape(first, [1, -1]), np.reshape(later, [steps, self.models])]
        )
        # What comes after the loss or gradient that ended it is no loss.
        ended = np.arange(steps + 1)[:, None] > np.reshape(ran, [1, -1])
        losses[ended | ~self._alive] = np.nan
        # The mini-batch after the last step drives none.
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
    """As `fit`, a copy of the optimizer for each model.

    Args:
        optimizee: The models.
        optimizer: Copied.
        like: One of them; only shapes and dtypes matter.
    """

    def __init__(
        self, optimizee: Optimizee, optimizer: keras.optimizers.Optimizer, like: Instance
    ) -> None:
        self._each = PerOptimizee(lambda: _copy(optimizer), optimizee, like.params)
        self._steps: Callable[..., Any] | None = None
        self._finish = tf.function(self._each.finish, autograph=False)

    def start(self, instances: Sequence[Instance], learning_rates: Sequence[float] | None) -> None:
        """See `Loop`."""
        together: Instance = batched.stack(instances) if len(instances) > 1 else instances[0]
        params, self._model_state = together
        self._each.put(params)
        self._each.reset()
        if learning_rates is not None:
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
    """As `KerasLoop`, one optimizer over a variable [models, n] that holds all parameters.

    Args:
        problem: What the models are instances of; no gradient of it is sparse.
        optimizer: Copied; see `is_elementwise`.
        models: How many, at least 2.
        rated: Whether it will be given learning rates.
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
        config = optimizer.get_config()
        if rated:
            # Keras' setter takes one number, and its rules whatever a schedule returns.
            config["learning_rate"] = _Rates(self._rates)
        self._optimizer = type(optimizer).from_config(config)
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


class _Rates(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate for each model: a column."""

    def __init__(self, rates: keras.Variable) -> None:
        self._rates = rates

    def __call__(self, step: Any) -> tf.Tensor:
        return self._rates.value


# Their rules look at a coordinate and at the step, and at nothing else.
ELEMENTWISE = ("SGD", "RMSprop", "Adam", "AdamW", "Adamax", "Nadam", "Adagrad", "Adadelta", "Lion")


def is_elementwise(optimizer: keras.optimizers.Optimizer) -> bool:
    """Returns whether what an optimizer does to a coordinate depends on no other."""
    kinds = [getattr(keras.optimizers, name) for name in ELEMENTWISE]
    clips = (optimizer.clipnorm, optimizer.global_clipnorm)
    return type(optimizer) in kinds and clips == (None, None)


def _compiled(
    take_step: Callable[[Any, Any], tuple[tf.Tensor, Any]], model_state: Any, batches: Any
) -> Callable[..., Any]:
    """Returns steps of an optimizer that keeps parameters and state in variables.

    Args:
        take_step: (model_state, mini-batch) -> the objective before the step and model_state.
        model_state: Only shapes and dtypes matter.
        batches: Likewise.

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


def _is_plain(optimizer: TrainableOptimizer) -> bool:
    """Returns whether Keras adds nothing to the learned change: no rate, no clipping, ..."""
    given, plain = optimizer.get_config(), keras.optimizers.Optimizer(1.0).get_config()
    return all(given[key] == value for key, value in plain.items() if key != "name")


def _copy(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    return type(optimizer).from_config(optimizer.get_config())


def _each(params: list[tf.Tensor], model_state: list[tf.Tensor], models: int) -> list[Instance]:
    if models == 1:
        return [Instance(params, model_state)]
    return [Instance(*batched.take((params, model_state), k)) for k in range(models)]
