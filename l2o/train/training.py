"""Training: how the learned weights are trained on one optimizee after another."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from annotated_types import Ge

from l2o import seeds
from l2o.errors import UserError
from l2o.optimizer import TrainableOptimizer
from l2o.options import PYTHON_ONLY, Count, Probability
from l2o.problems import Problem, ProblemSpec
from l2o.train import keras_optimizers
from l2o.train.loss import LossArgs, Reduction, UnrollWeights
from l2o.train.meta_step import MetaStep
from l2o.train.rule import Rule
from l2o.train.teachers import Teacher


class Unroll(NamedTuple):
    """What one unroll did, on the host.

    loss: Meta-loss, or imitation loss if `imitation`.
    objective: The optimizee's last objective.
    steps: Inner steps that ran.
    imitation: Which of the two losses it was trained on.
    finite: Whether it was; if not, nothing was learned from it.
    """

    loss: float
    objective: float
    steps: int
    imitation: bool
    finite: bool


def _problem(spec: ProblemSpec | Problem) -> Problem:
    return spec if isinstance(spec, Problem) else spec.build()


class Training:
    """Trains a learned optimizer on problems, one unroll at a time.

    An iteration takes a fresh instance of a problem (an optimizee) and unrolls the
    optimizer on it, again and again, each unroll starting where the last one ended:
    for `epochs` passes over the data, or `repeat` times where there is no data. The
    optimizee is replaced after `depth` unrolls, and whenever it has diverged.

    Args:
        optimizer: What is trained.
        problems: What it is trained on.
        meta_optimizer: Applies meta-gradients; a resolved spec of a Keras optimizer.
        loss_args: See `LossArgs`.
        validation_problems: What a validation runs on; none: the problems it is
            trained on [none].
        unroll_weights: Weight of each step: "sum" (1), "mean" (1/n), "last" (the final step
            only) or a callable that takes the int n and returns an [n] tensor ["sum"].
        teachers: Keras optimizers, `{"class_name", "config"}`, to imitate [none].
        p_teacher: Probability that an unroll trains on the imitation loss; the strategy
            multiplies it by its annealing schedule [0.0].
        imitation_optimizer: Spec of a separate Keras optimizer for imitation, for losses
            of another magnitude; None: the meta-optimizer [None].
        strategy: How distances to several teachers are reduced ["mean"].
        epochs: Passes over the data per iteration; the last unroll is completed [1].
        depth: Unrolls before the optimizee is replaced; 0: not within an iteration [0].
        repeat: Unrolls per iteration of a problem without data [1].
        persistent: Whether the optimizer's internal state, and the teachers', lives on
            when the optimizee is replaced [False].
        second_derivatives: Whether to differentiate through the optimizee's gradient
            (Wichrowska et al. 2017) [False].

    Raises:
        UserError: If `p_teacher` > 0 and there is no teacher.
    """

    def __init__(
        self,
        optimizer: TrainableOptimizer,
        problems: Sequence[ProblemSpec | Problem],
        meta_optimizer: Mapping[str, Any],
        loss_args: LossArgs,
        *,
        validation_problems: Annotated[Sequence[ProblemSpec | Problem], PYTHON_ONLY] = (),
        unroll_weights: UnrollWeights = "sum",
        teachers: Sequence[dict[str, Any]] = (),
        p_teacher: Probability = 0.0,
        imitation_optimizer: dict[str, Any] | None = None,
        strategy: Reduction = "mean",
        epochs: Count = 1,
        depth: Annotated[int, Ge(0)] = 0,
        repeat: Count = 1,
        persistent: bool = False,
        second_derivatives: bool = False,
    ) -> None:
        if p_teacher > 0 and not teachers:
            raise UserError(
                f"p_teacher is {p_teacher} but there is no teacher to imitate; expected "
                "training/teachers with at least one, or p_teacher=0",
                "training/p_teacher",
            )
        self.optimizer = optimizer
        self.p_teacher = p_teacher
        self.epochs = epochs
        self.depth = depth
        self.repeat = repeat
        self.persistent = persistent
        self.problems = [_problem(spec) for spec in problems]
        self.meta_optimizer = self._on_weights(meta_optimizer, "optimizer")
        self.imitation_optimizer = (
            self._on_weights(imitation_optimizer, "training/imitation_optimizer")
            if imitation_optimizer
            else self.meta_optimizer
        )
        self._teacher_specs = [
            keras_optimizers.resolve(spec, f"training/teachers/{i}")
            for i, spec in enumerate(teachers)
        ]
        for i, spec in enumerate(self._teacher_specs):
            keras_optimizers.check_teacher(spec, f"training/teachers/{i}")

        rule = Rule(optimizer)

        def meta_step(problem: Problem, teachers: Sequence[Teacher]) -> MetaStep:
            return MetaStep(
                optimizer,
                problem,
                rule=rule,
                teachers=teachers,
                loss_args=loss_args,
                weights=unroll_weights,
                reduction=strategy,
                second_derivatives=second_derivatives,
            )

        self.steps = [meta_step(problem, self._teachers(problem)) for problem in self.problems]
        self.validation_problems = [_problem(spec) for spec in validation_problems] or self.problems
        self.validation_steps = (
            [meta_step(problem, ()) for problem in self.validation_problems]
            if validation_problems
            else self.steps
        )
        # Per problem the optimizer state that outlives an optimizee; None: a fresh one.
        self.kept_states: list[Any] = [None] * len(self.problems)

    def _on_weights(self, spec: Mapping[str, Any], path: str) -> keras.optimizers.Optimizer:
        optimizer = keras_optimizers.create(keras_optimizers.resolve(spec, path))
        optimizer.build(self.optimizer.network.trainable_variables)
        return optimizer

    def _teachers(self, problem: Problem) -> list[Teacher]:
        if not self._teacher_specs or self.p_teacher == 0:
            return []
        params = problem.init(0).params
        return [
            Teacher(keras_optimizers.create(spec), problem, params, self.persistent)
            for spec in self._teacher_specs
        ]

    def train(
        self,
        index: int,
        rng: np.random.Generator,
        draw_length: Callable[[np.random.Generator], int],
        p_teacher: float,
    ) -> Iterator[Unroll]:
        """Trains one iteration on problem `index`.

        Args:
            index: Which problem.
            rng: Source of every draw of the iteration.
            draw_length: Draws the length of the next unroll.
            p_teacher: Probability that an unroll imitates, already annealed.

        Yields:
            Each unroll, when it is done.
        """

        def step(carry: Any, batches: Any, length: int) -> Any:
            meta_step = self.steps[index]
            if p_teacher > 0 and rng.random() < p_teacher:
                return *meta_step.imitate(self.imitation_optimizer, carry, batches, length), True
            return *meta_step.train(self.meta_optimizer, carry, batches, length), False

        state = self.kept_states[index] if self.persistent else None
        state = yield from self._iterate(self.steps[index], rng, draw_length, step, state)
        if self.persistent:
            self.kept_states[index] = state

    def validate(self, index: int, rng: np.random.Generator, length: int) -> Iterator[Unroll]:
        """As `train`, on validation problem `index`, from fresh state, changing nothing."""
        meta_step = self.validation_steps[index]

        def step(carry: Any, batches: Any, length: int) -> Any:
            return *meta_step.validate(carry, batches, length), False

        yield from self._iterate(meta_step, rng, lambda _: length, step, None)

    def _iterate(
        self,
        meta_step: MetaStep,
        rng: np.random.Generator,
        draw_length: Callable[[np.random.Generator], int],
        step: Callable[..., Any],
        state: Any,
    ) -> Generator[Unroll, None, Any]:
        problem = meta_step.problem
        data_seed = seeds.draw(rng)
        carry, age, position, done = None, 0, 0, 0
        while not self._finished(problem, position, done):
            if carry is None or (self.depth and age == self.depth):
                seed = seeds.draw(rng)
                carry, age = meta_step.start(problem.init(seed), state, seed), 0
            length = draw_length(rng)
            # The last mini-batch scores this unroll and starts the next.
            batches = problem.stream(data_seed, position, length + 1)
            result, carry, imitation = step(carry, batches, length)
            loss, objective, finite, complete, steps = (t.numpy() for t in result)
            position, age, done = position + length, age + 1, done + 1
            if complete:
                state = carry.optimizer_state if self.persistent else None
            else:
                # A diverged optimizee teaches nothing more, nor does its state.
                carry, state = None, None
            yield Unroll(float(loss), float(objective), int(steps), imitation, bool(finite))
        return state

    def _finished(self, problem: Problem, position: int, done: int) -> bool:
        if problem.steps_per_epoch is None:
            return done >= self.repeat
        return position >= self.epochs * problem.steps_per_epoch

    # What a checkpoint holds.

    def variables(self) -> dict[str, list[tf.Variable]]:
        """Returns everything training changes, by group; optimizers that are one appear once."""
        groups: dict[str, list[Any]] = {
            "network": list(self.optimizer.network.weights),
            "meta_optimizer": list(self.meta_optimizer.variables),
        }
        if self.imitation_optimizer is not self.meta_optimizer:
            groups["imitation_optimizer"] = list(self.imitation_optimizer.variables)
        if self.persistent:
            for i, step in enumerate(self.steps):
                for j, teacher in enumerate(step.teachers):
                    groups[f"problem_{i}_teacher_{j}"] = list(teacher.state)
        return groups

    def save_state(self) -> dict[str, np.ndarray]:
        """Returns everything training changes, as named arrays."""
        arrays = {
            f"{group}/{i}": variable.numpy()
            for group, variables in self.variables().items()
            for i, variable in enumerate(variables)
        }
        for i, state in enumerate(self.kept_states):
            for j, tensor in enumerate(tf.nest.flatten(state) if state is not None else []):
                arrays[f"problem_{i}_state/{j}"] = tensor.numpy()
        return arrays

    def load_state(self, arrays: Mapping[str, np.ndarray], source: str) -> None:
        """Restores what `save_state` returned.

        Args:
            arrays: By the same names.
            source: Where they come from, for messages.

        Raises:
            UserError: If one is missing or has another shape or dtype; nothing is changed.
        """
        expected = {
            f"{group}/{i}": variable
            for group, variables in self.variables().items()
            for i, variable in enumerate(variables)
        }
        for name, variable in expected.items():
            fits = name in arrays and arrays[name].shape == tuple(variable.shape)
            if not fits or arrays[name].dtype != np.dtype(variable.dtype):
                raise UserError(f"{source} does not belong to this configuration ({name})")
        states: list[Any] = []
        for i, (problem, step) in enumerate(zip(self.problems, self.steps, strict=True)):
            names = [n for n in arrays if n.startswith(f"problem_{i}_state/")]
            if not names:
                states.append(None)
                continue
            like = step.optimizer.initial_state(problem.init(0).params)
            leaves = [arrays.get(f"problem_{i}_state/{j}") for j in range(len(names))]
            shapes = [tuple(t.shape) for t in tf.nest.flatten(like)]
            if [None if a is None else a.shape for a in leaves] != shapes:
                raise UserError(f"{source} does not belong to this configuration (state {i})")
            states.append(tf.nest.pack_sequence_as(like, [tf.constant(a) for a in leaves]))
        for name, variable in expected.items():
            variable.assign(arrays[name])
        self.kept_states = states
