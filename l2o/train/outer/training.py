"""Training: how the learned weights are trained on one optimizee after another."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from annotated_types import Ge

from l2o import keras_optimizers, seeds
from l2o.errors import UserError
from l2o.inner.rule import Rule
from l2o.inner.unroll import Carry
from l2o.keras_optimizers import OptimizerSpec
from l2o.optimizer import TrainableOptimizer
from l2o.options import PYTHON_ONLY, Count, Probability, check_given, expect
from l2o.problems import Problem, ProblemSpec
from l2o.problems.contract import check_problem
from l2o.train.distributed.replicas import Replicas
from l2o.train.losses.meta import LossArgs, Reduction, UnrollWeights, check_weights
from l2o.train.losses.teachers import Teacher
from l2o.train.outer.meta_step import MetaStep, StepResult

# Optimizees of each problem that a validation takes the mean of.
VALIDATION_INSTANCES = 4


class Unroll(NamedTuple):
    """What one unroll of one optimizee did, on the host.

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


def _problems(specs: Sequence[ProblemSpec | Problem], path: str) -> list[Problem]:
    expect(Sequence, specs, path)
    problems: list[Problem] = []
    for i, spec in enumerate(specs):
        problem = spec.build() if isinstance(spec, ProblemSpec) else spec
        expect(Problem, problem, f"{path}/{i}")
        check_problem(problem)
        problems.append(problem)
    return problems


class Training:
    """Trains a learned optimizer on problems, one unroll at a time.

    An iteration takes `batch_of_problems` fresh instances of a problem (optimizees), each with
    data in its own order, and unrolls the optimizer on them side by side, again and again,
    each unroll starting where the last one ended: for `epochs` passes over the data, or
    `repeat` times where there is no data. The meta-gradient is the mean of theirs. An
    optimizee is replaced after `depth` unrolls, and whenever it has diverged; one that has
    is left out of the mean.

    Args:
        optimizer: What is trained.
        problems: What it is trained on.
        meta_optimizer: The Keras optimizer that applies meta-gradients, an object or a
            `{"class_name", "config"}`. An object's options are used, not its state.
        loss_args: See `LossArgs`.
        validation_problems: What a validation runs on; none: the problems it is
            trained on [none].
        unroll_weights: Weight of each step: "sum" (1), "mean" (1/n), "last" (the final step
            only) or a callable that takes the int n and returns an [n] tensor ["sum"].
        teachers: Keras optimizers to imitate: a `{"class_name", "config"}` for each; from
            Python, objects too [none].
        p_teacher: Probability that an unroll trains on the imitation loss; the strategy
            multiplies it by its annealing schedule [0.0].
        imitation_optimizer: A separate Keras optimizer for imitation, whose losses have another
            magnitude: its spec; from Python, an object too; None: the meta-optimizer [None].
        strategy: How distances to several teachers are reduced ["mean"].
        epochs: Passes over the data per iteration; the last unroll is completed [1].
        depth: Unrolls before the optimizee is replaced; 0: not within an iteration [0].
        repeat: Unrolls per iteration of a problem without data [1].
        persistent: Whether the optimizer's internal state, and the teachers', lives on
            when the optimizee is replaced [False].
        second_derivatives: Whether to differentiate through the optimizee's gradient
            (Wichrowska et al. 2017) [False].
        batch_of_problems: Optimizees of an unroll, side by side, those of all devices and
            machines together [1].
        replicas: Which share them, see the option `distribute` [one].

    Raises:
        UserError: If an option does not fit, a problem is not what `Problem` says, `p_teacher`
            > 0 and there is no teacher, or the replicas cannot share the optimizees equally.
    """

    def __init__(
        self,
        optimizer: TrainableOptimizer,
        problems: Sequence[ProblemSpec | Problem],
        meta_optimizer: OptimizerSpec,
        loss_args: LossArgs,
        *,
        validation_problems: Annotated[Sequence[ProblemSpec | Problem], PYTHON_ONLY] = (),
        unroll_weights: UnrollWeights = "sum",
        teachers: Sequence[OptimizerSpec] = (),
        p_teacher: Probability = 0.0,
        imitation_optimizer: OptimizerSpec | None = None,
        strategy: Reduction = "mean",
        epochs: Count = 1,
        depth: Annotated[int, Ge(0)] = 0,
        repeat: Count = 1,
        persistent: bool = False,
        second_derivatives: bool = False,
        batch_of_problems: Count = 1,
        replicas: Annotated[Replicas | None, PYTHON_ONLY] = None,
    ) -> None:
        teachers = keras_optimizers.specs_of_objects(teachers, "training/teachers")
        imitation_optimizer = keras_optimizers.spec_of_object(
            imitation_optimizer, "training/imitation_optimizer"
        )
        check_given(Training, locals(), "training")
        expect(TrainableOptimizer, optimizer, "optimizer")
        expect(LossArgs, loss_args, "loss_args")
        check_weights(unroll_weights)
        self.replicas = replicas or Replicas()
        if batch_of_problems % self.replicas.count:
            raise UserError(
                f"{batch_of_problems} optimizees cannot be shared equally by "
                f"{self.replicas.count} replicas; expected a multiple of {self.replicas.count}",
                "training/batch_of_problems",
            )
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
        self.batch_of_problems = batch_of_problems
        per_replica = batch_of_problems // self.replicas.count
        # The numbers of the optimizees of this process among all.
        first = self.replicas.first * per_replica
        self.own = range(first, first + self.replicas.local * per_replica)
        self.problems = _problems(problems, "problems")
        if not self.problems:
            raise UserError("expected at least one problem; got none", "problems")
        self.loss_args = loss_args
        self.meta_spec = keras_optimizers.resolve(meta_optimizer, "optimizer")
        self.meta_optimizer = self._on_weights(self.meta_spec)
        imitation_spec = imitation_optimizer and keras_optimizers.resolve(
            imitation_optimizer, "training/imitation_optimizer"
        )
        self.imitation_optimizer = (
            self._on_weights(imitation_spec) if imitation_spec else self.meta_optimizer
        )
        self._teacher_specs = [
            keras_optimizers.resolve(spec, f"training/teachers/{i}")
            for i, spec in enumerate(teachers)
        ]
        for i, spec in enumerate(self._teacher_specs):
            keras_optimizers.check_teacher(spec, f"training/teachers/{i}")
        # By their names as options, for the account of a run.
        self.given: dict[str, Any] = {
            "unroll_weights": unroll_weights,
            "teachers": self._teacher_specs,
            "p_teacher": p_teacher,
            "imitation_optimizer": imitation_spec,
            "strategy": strategy,
            "epochs": epochs,
            "depth": depth,
            "repeat": repeat,
            "persistent": persistent,
            "second_derivatives": second_derivatives,
            "batch_of_problems": batch_of_problems,
        }

        rule = Rule(optimizer)

        def meta_step(
            problem: Problem, instances: int, replicas: Replicas | None = None
        ) -> MetaStep:
            return MetaStep(
                optimizer,
                problem,
                rule=rule,
                loss_args=loss_args,
                weights=unroll_weights,
                reduction=strategy,
                second_derivatives=second_derivatives,
                instances=instances,
                replicas=replicas,
            )

        self.steps = [meta_step(problem, per_replica, self.replicas) for problem in self.problems]
        for step in self.steps:
            step.teachers = self._teachers(step)
        given = _problems(validation_problems, "validation_problems")
        self.validation_problems = given or self.problems
        self.validation_steps = [
            meta_step(problem, VALIDATION_INSTANCES) for problem in self.validation_problems
        ]
        # Per problem and own instance the optimizer state that outlives an optimizee; None: a
        # fresh one.
        self.kept_states: list[list[Any]] = [[None] * len(self.own) for _ in self.problems]

    def _on_weights(self, spec: dict[str, Any]) -> keras.optimizers.Optimizer:
        optimizer = keras_optimizers.create(spec)
        optimizer.build(self.optimizer.network.trainable_variables)
        return optimizer

    def _teachers(self, step: MetaStep) -> list[list[Teacher]]:
        if not self._teacher_specs or self.p_teacher == 0:
            return [[] for _ in self.replicas.devices]
        params = step.problem.init(0).params

        def teacher(spec: dict[str, Any]) -> Teacher:
            create = functools.partial(keras_optimizers.create, spec)
            return Teacher(create, step.optimizee, params, self.persistent)

        return self.replicas.each(lambda k: [teacher(spec) for spec in self._teacher_specs])

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
            Each unroll of each optimizee, those of other processes too, when it is done.
        """
        meta_step = self.steps[index]

        def step(carry: Any, batches: Any, length: int) -> Any:
            if p_teacher > 0 and rng.random() < p_teacher:
                return *meta_step.imitate(self.imitation_optimizer, carry, batches, length), True
            return *meta_step.train(self.meta_optimizer, carry, batches, length), False

        every = rng.spawn(self.batch_of_problems)
        slots = [every[k] for k in self.own]
        states = self.kept_states[index] if self.persistent else [None] * len(slots)
        states = yield from self._iterate(
            meta_step, slots, lambda: draw_length(rng), step, list(states), self.own
        )
        if self.persistent:
            self.kept_states[index] = states

    def validate(
        self, index: int, rngs: Sequence[np.random.Generator], length: int
    ) -> Iterator[Unroll]:
        """As `train`, on validation problem `index`, from fresh state, changing nothing.

        Args:
            index: Which problem.
            rngs: Source of the draws of each of `VALIDATION_INSTANCES` optimizees.
            length: Of each unroll.
        """
        meta_step, all_ = self.validation_steps[index], range(len(rngs))

        def step(carry: Any, batches: Any, length: int) -> Any:
            return *meta_step.validate(carry, batches, length), False

        yield from self._iterate(meta_step, rngs, lambda: length, step, [None] * len(rngs), all_)

    def _iterate(
        self,
        meta_step: MetaStep,
        rngs: Sequence[np.random.Generator],
        draw_length: Callable[[], int],
        step: Callable[..., Any],
        states: list[Any],
        own: range,
    ) -> Generator[Unroll, None, list[Any]]:
        problem, slots = meta_step.problem, range(len(rngs))
        streams = [seeds.draw(rng) for rng in rngs]
        carry: Any = None
        position, done = 0, 0
        # Unrolls of each optimizee since it was fresh.
        ages = [0 for _ in slots]
        due = list(slots)
        while not self._finished(problem, position, done):
            fresh = {k: self._start(meta_step, rngs[k], states[k]) for k in due}
            if carry is None or len(fresh) == len(slots):
                carry = meta_step.stack(list(fresh.values()))
            else:
                for k, one in fresh.items():
                    carry = meta_step.put(carry, k, one)
            length = draw_length()
            # The last mini-batch scores this unroll and starts the next.
            batches = meta_step.stream(streams, position, length + 1)
            result, carry, imitation = step(carry, batches, length)
            # A scalar of bfloat16 is nothing that NumPy makes an array of by itself.
            result = StepResult(
                *(np.array(t.numpy(), t.dtype.as_numpy_dtype).reshape(-1) for t in result)
            )
            position, done = position + length, done + 1
            due = []
            for k in slots:
                # A diverged optimizee teaches nothing more, nor does its state.
                ages[k] += 1
                complete = result.complete[own[k]]
                if not complete or ages[k] == self.depth:
                    ages[k] = 0
                    due.append(k)
                keep = complete and self.persistent
                states[k] = meta_step.state(carry, k) if keep else None
            for k in range(len(result.loss)):
                yield Unroll(
                    float(result.loss[k]),
                    float(result.objective[k]),
                    int(result.steps[k]),
                    imitation,
                    bool(result.finite[k]),
                )
        return states

    def _start(self, meta_step: MetaStep, rng: np.random.Generator, state: Any) -> Carry:
        seed = seeds.draw(rng)
        return meta_step.start(meta_step.problem.init(seed), state, seed)

    def _finished(self, problem: Problem, position: int, done: int) -> bool:
        if problem.steps_per_epoch is None:
            return done >= self.repeat
        return position >= self.epochs * problem.steps_per_epoch

    # What a checkpoint holds.

    def variables(self) -> dict[str, list[tf.Variable]]:
        """Returns everything training changes, by group; optimizers that are one appear once.

        What belongs to an optimizee is that of this process's own.
        """
        groups: dict[str, list[Any]] = {
            "network": list(self.optimizer.network.weights),
            "meta_optimizer": list(self.meta_optimizer.variables),
        }
        if self.imitation_optimizer is not self.meta_optimizer:
            groups["imitation_optimizer"] = list(self.imitation_optimizer.variables)
        if self.persistent:
            for i, step in enumerate(self.steps):
                for j, same in enumerate(zip(*step.teachers, strict=True)):
                    optimizers = [o for teacher in same for o in teacher.optimizers]
                    for k, optimizer in zip(self.own, optimizers, strict=True):
                        groups[f"problem_{i}_instance_{k}_teacher_{j}"] = list(optimizer.variables)
        return groups

    def save_state(self) -> dict[str, np.ndarray]:
        """Returns everything training changes, in all processes, as named arrays.

        And under "optimizer" the class that is trained: weights of others may have its shapes.
        """
        arrays = {
            f"{group}/{i}": variable.numpy()
            for group, variables in self.variables().items()
            for i, variable in enumerate(variables)
        }
        arrays["optimizer"] = np.array(type(self.optimizer).__name__)
        for i, states in enumerate(self.kept_states):
            for k, state in zip(self.own, states, strict=True):
                for j, tensor in enumerate(tf.nest.flatten(state) if state is not None else []):
                    arrays[f"{_state_prefix(i, k)}{j}"] = tensor.numpy()
        # Without such states all processes have the same.
        return self.replicas.merge(arrays) if self.persistent else arrays

    def load_state(self, arrays: Mapping[str, np.ndarray], source: str) -> None:
        """Restores what `save_state` returned, whatever the number of processes was.

        Args:
            arrays: By the same names.
            source: Where they come from, for messages.

        Raises:
            UserError: If one is missing or has another shape or dtype; nothing is changed.
        """
        check_optimizer(self.optimizer, arrays, source)
        expected = {
            f"{group}/{i}": variable
            for group, variables in self.variables().items()
            for i, variable in enumerate(variables)
        }
        for name, variable in expected.items():
            fits = name in arrays and arrays[name].shape == tuple(variable.shape)
            if not fits or arrays[name].dtype != np.dtype(variable.dtype):
                raise UserError(f"{source} does not belong to this configuration ({name})")
        states = [
            [self._kept_state(i, k, arrays, source) for k in self.own]
            for i in range(len(self.problems))
        ]
        for name, variable in expected.items():
            variable.assign(arrays[name])
        self.kept_states = states

    def _kept_state(self, i: int, k: int, arrays: Mapping[str, np.ndarray], source: str) -> Any:
        prefix = _state_prefix(i, k)
        count = sum(name.startswith(prefix) for name in arrays)
        if not count:
            return None
        like = self.optimizer.initial_state(self.problems[i].init(0).params)
        leaves = [arrays.get(f"{prefix}{j}") for j in range(count)]
        shapes = [tuple(t.shape) for t in tf.nest.flatten(like)]
        if [None if a is None else a.shape for a in leaves] != shapes:
            raise UserError(
                f"{source} does not belong to this configuration (state {k} of problem {i})"
            )
        return tf.nest.pack_sequence_as(like, [tf.constant(a) for a in leaves])


def check_optimizer(
    optimizer: TrainableOptimizer, arrays: Mapping[str, np.ndarray], source: str
) -> None:
    """Checks that arrays are of a checkpoint of an optimizer's class.

    Raises:
        UserError: If they are not.
    """
    written, expected = str(arrays.get("optimizer")), type(optimizer).__name__
    if written != expected:
        raise UserError(f"{source} does not belong to {expected}: it has the weights of {written}")


def _state_prefix(i: int, k: int) -> str:
    return f"problem_{i}_instance_{k}_state/"
