"""Training: how the learned weights are trained on one optimizee after another."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import keras
import numpy as np
from annotated_types import Ge

from l2o import keras_optimizers, seeds
from l2o.errors import UserError
from l2o.inner.rule import Rule
from l2o.keras_optimizers import OptimizerSpec
from l2o.optimizer import TrainableOptimizer
from l2o.options import PYTHON_ONLY, Count, Probability, check_given, check_value, expect
from l2o.problems import Problem, ProblemSpec
from l2o.problems.contract import check_problem
from l2o.train.distributed.devices import Replicas
from l2o.train.distributed.layout import Layout
from l2o.train.estimators.base import GradientEstimator
from l2o.train.estimators.truncated_backprop import TruncatedBackprop
from l2o.train.losses.base import LossArgs, StepWeights, check_step_weights
from l2o.train.losses.imitation import ImitationLoss, Reduction
from l2o.train.losses.learned_teacher import specs_of_learned
from l2o.train.losses.meta import MetaLoss
from l2o.train.losses.teachers import Teacher
from l2o.train.outer.iteration import Ages, Lengths, UnrollRecord, draw_training_length, iterate
from l2o.train.outer.meta_step import MetaStep
from l2o.train.outer.perturbation import Perturbation
from l2o.train.outer.state import TrainingState

# How many optimizees of each problem a validation averages over.
VALIDATION_OPTIMIZEES = 4


def _problems(specs: Sequence[ProblemSpec | Problem], path: str) -> list[Problem]:
    expect(Sequence, specs, path)
    problems: list[Problem] = []
    for i, spec in enumerate(specs):
        # What a family has drawn twice is the same object, and is compiled once.
        earlier = next((k for k in range(i) if specs[k] is spec), None)
        if earlier is not None:
            problems.append(problems[earlier])
            continue
        problem = spec.build() if isinstance(spec, ProblemSpec) else spec
        expect(Problem, problem, f"{path}/{i}")
        check_problem(problem)
        problems.append(problem)
    return problems


def _estimator(given: GradientEstimator | None, second_derivatives: bool) -> GradientEstimator:
    if given is None:
        return TruncatedBackprop(second_derivatives=second_derivatives)
    expect(GradientEstimator, given, "estimator")
    if second_derivatives and not getattr(given, "second_derivatives", False):
        raise UserError(
            f"the estimator, a {type(given).__name__}, takes none; expected "
            "estimator/second_derivatives=true, or no training/second_derivatives",
            "training/second_derivatives",
        )
    return given


class Training:
    """Trains a learned optimizer on problems, one unroll at a time.

    An iteration takes `batch_of_problems` fresh instances of a problem (optimizees), each with
    data in its own order, and unrolls the optimizer on them side by side. Each unroll starts
    where the one before ended. An iteration lasts `epochs` passes over the data, or `repeat`
    unrolls of a problem without data. The meta-gradient is the mean over optimizees, without
    those that have diverged. An optimizee is replaced after `depth` unrolls, or when it has
    diverged.

    Args:
        optimizer: What is trained.
        problems: What it is trained on.
        meta_optimizer: The Keras optimizer that applies meta-gradients, an object or a
            `{"class_name", "config"}`. An object's options are used, not its state.
        loss_args: See `LossArgs`.
        validation_problems: What a validation runs on; none: the problems it is
            trained on [none].
        estimator: Estimates meta-gradients; None: TruncatedBackprop [None].
        unroll_weights: Weight of each step: "sum" (1), "mean" (1/n), "tail" (the mean of the last
            tenth, rounded up), "last" (the final step only) or a callable that takes the int n and
            returns an [n] tensor ["sum"].
        teachers: Optimizers to imitate, Keras' own or trained ones: a `{"class_name", "config"}`
            for each; from Python, objects too [none].
        p_teacher: Probability that an unroll trains on the imitation loss; the strategy
            multiplies it by its annealing schedule [0.0].
        imitation_optimizer: A separate Keras optimizer for imitation, whose losses have another
            magnitude: its spec; from Python, an object too; None: the meta-optimizer [None].
        strategy: How distances to several teachers are reduced: "mean", "max", or "mean_log", the
            mean of their logarithms ["mean"].
        epochs: Passes over the data per iteration; the last unroll is completed [1].
        depth: Unrolls before the optimizee is replaced; 0: not within an iteration [0].
        repeat: Unrolls per iteration of a problem without data [1].
        persistent: Whether the optimizer's internal state, and the teachers', lives on
            when the optimizee is replaced [False].
        perturbation: What is added to the learned weights while a meta-gradient is computed; the
            update applies to the weights without it; None: nothing [None].
        second_derivatives: Whether to differentiate through the optimizee's gradient
            (Wichrowska et al. 2017) [False].
        batch_of_problems: Optimizees of an unroll, side by side, those of all devices and
            machines together [1].
        replicas: Which share them, see the option `distribute` [one].

    Raises:
        UserError: If an option does not fit, a problem breaks the contract of `Problem`,
            `p_teacher` > 0 and there is no teacher, the replicas cannot share the optimizees
            equally, `second_derivatives` is given beside an estimator without them, or the
            perturbation does not go with the estimator.
    """

    def __init__(
        self,
        optimizer: TrainableOptimizer,
        problems: Sequence[ProblemSpec | Problem],
        meta_optimizer: OptimizerSpec,
        loss_args: LossArgs,
        *,
        validation_problems: Annotated[Sequence[ProblemSpec | Problem], PYTHON_ONLY] = (),
        estimator: Annotated[GradientEstimator | None, PYTHON_ONLY] = None,
        unroll_weights: StepWeights = "sum",
        teachers: Sequence[OptimizerSpec] = (),
        p_teacher: Probability = 0.0,
        imitation_optimizer: OptimizerSpec | None = None,
        strategy: Reduction = "mean",
        epochs: Count = 1,
        depth: Annotated[int, Ge(0)] = 0,
        repeat: Count = 1,
        persistent: bool = False,
        perturbation: Perturbation | None = None,
        # For Python programs: the same as the option of TruncatedBackprop.
        second_derivatives: Annotated[bool, PYTHON_ONLY] = False,
        batch_of_problems: Count = 1,
        replicas: Annotated[Replicas | None, PYTHON_ONLY] = None,
    ) -> None:
        teachers = keras_optimizers.specs_of_objects(
            specs_of_learned(teachers), "training/teachers"
        )
        imitation_optimizer = keras_optimizers.spec_of_object(
            imitation_optimizer, "training/imitation_optimizer"
        )
        check_given(Training, locals(), "training")
        expect(TrainableOptimizer, optimizer, "optimizer")
        expect(LossArgs, loss_args, "loss_args")
        check_step_weights(unroll_weights)
        check_value(bool, second_derivatives, "training/second_derivatives")
        self.estimator = _estimator(estimator, second_derivatives)
        if isinstance(perturbation, Mapping):
            perturbation = Perturbation(**perturbation)
        self.perturbation = perturbation
        if perturbation:
            perturbation.check_estimator(self.estimator)
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
        if strategy == "mean_log" and not loss_args.use_log_objective:
            raise UserError(
                "mean_log is a mean of logarithms; expected loss_args/use_log_objective=true, or "
                "training/strategy=mean",
                "training/strategy",
            )
        self.optimizer = optimizer
        self.p_teacher = p_teacher
        self.epochs = epochs
        self.depth = depth
        self.repeat = repeat
        self.persistent = persistent
        self.batch_of_problems = batch_of_problems
        self.layout = Layout(self.replicas, batch_of_problems // self.replicas.count)
        self.problems = _problems(problems, "problems")
        if not self.problems:
            raise UserError("expected at least one problem; got none", "problems")
        self.loss_args = loss_args
        self.meta_spec = keras_optimizers.spec_of(meta_optimizer, "optimizer")
        self.meta_optimizer = self._on_weights(self.meta_spec)
        imitation_spec = imitation_optimizer and keras_optimizers.spec_of(
            imitation_optimizer, "training/imitation_optimizer"
        )
        self.imitation_optimizer = (
            self._on_weights(imitation_spec) if imitation_spec else self.meta_optimizer
        )
        self._teacher_specs = [
            keras_optimizers.spec_of(spec, f"training/teachers/{i}")
            for i, spec in enumerate(teachers)
        ]
        for i, spec in enumerate(self._teacher_specs):
            keras_optimizers.check_teacher(spec, f"training/teachers/{i}")
        # Under the names of the options, for the account of a run.
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
            "perturbation": perturbation,
            "batch_of_problems": batch_of_problems,
        }

        rule, loss = Rule(optimizer), MetaLoss(loss_args, unroll_weights)

        def meta_step(problem: Problem) -> MetaStep:
            step = MetaStep(
                optimizer,
                problem,
                loss,
                estimator=self.estimator,
                rule=rule,
                optimizees=self.layout.per_replica,
                replicas=self.replicas,
                perturbation=perturbation,
            )
            if p_teacher > 0:
                make = functools.partial(self._teachers, step)
                step.imitation = self.layout.make(
                    lambda: ImitationLoss(loss_args, unroll_weights, strategy, teachers=make())
                )
            return step

        self.steps: list[MetaStep] = []
        for i, problem in enumerate(self.problems):
            first = self.problems.index(problem)
            # Teachers belong to a place in the list.
            shared = first < i and not p_teacher
            self.steps.append(self.steps[first] if shared else meta_step(problem))
        own_problems = _problems(validation_problems, "validation_problems")
        self.validation_problems = own_problems or self.problems
        # `validate` needs a carry as state, which only some estimators have.
        scheduled = self.estimator if self._scheduled else None
        self.validation_steps = [
            MetaStep(
                optimizer,
                problem,
                loss,
                estimator=scheduled,
                rule=rule,
                optimizees=VALIDATION_OPTIMIZEES,
            )
            for problem in self.validation_problems
        ]
        meta_optimizers = {"meta_optimizer": self.meta_optimizer}
        if self.imitation_optimizer is not self.meta_optimizer:
            meta_optimizers["imitation_optimizer"] = self.imitation_optimizer
        self.state = TrainingState(
            optimizer,
            self.problems,
            self.layout,
            meta_optimizers,
            [step.imitation for step in self.steps],
            persistent,
        )

    @property
    def _scheduled(self) -> bool:
        """Whether an unroll is a training with a schedule, in a validation too."""
        return self.estimator.schedule != "constant"

    def _on_weights(self, spec: dict[str, Any]) -> keras.optimizers.Optimizer:
        optimizer = keras_optimizers.create(spec)
        optimizer.build(self.optimizer.network.trainable_variables)
        return optimizer

    def _teachers(self, step: MetaStep) -> list[Teacher]:
        params = step.problem.init(0).params
        return [
            Teacher(spec.make, step.optimizee, params, self.persistent, self.estimator.copies)
            for spec in self._teacher_specs
        ]

    def train(
        self,
        index: int,
        rng: np.random.Generator,
        draw_length: Callable[[np.random.Generator], int],
        p_teacher: float,
        horizon: tuple[int, int] | None = None,
    ) -> Iterator[UnrollRecord]:
        """Trains one iteration on problem `index`.

        Args:
            index: Which problem.
            rng: Source of every draw of the iteration.
            draw_length: Draws the length of the next unroll.
            p_teacher: Probability that an unroll imitates, already annealed.
            horizon: Shortest and longest training of an optimizee, see `BaseStrategy` [None].

        Yields:
            Each unroll of each optimizee, those of other processes too, when it is done.
        """
        meta_step, own = self.steps[index], self.layout.own
        every = rng.spawn(self.batch_of_problems)
        rngs = [every[k] for k in own]
        # Generators of their own: the other draws must not depend on the estimator. All of them,
        # because each process must have the same generators for what follows.
        of_estimator = [generator.spawn(1)[0] for generator in every]
        estimator_rngs = [of_estimator[k] for k in own]

        # The same for all processes.
        (of_perturbation,) = rng.spawn(1)

        lengths = self._lengths(horizon)
        ages = Ages(lengths, every, self.estimator.whole_trainings)

        def draw() -> int:
            if horizon and self.estimator.whole_trainings:
                return draw_training_length(rng, horizon)
            return draw_length(rng)

        def step(state: Any, batches: Any, length: int) -> Any:
            imitates = p_teacher > 0 and rng.random() < p_teacher
            learn = meta_step.imitate if imitates else meta_step.train
            optimizer = self.imitation_optimizer if imitates else self.meta_optimizer
            draws = meta_step.seeds([seeds.draw(generator) for generator in estimator_rngs])
            seed = {"seed": seeds.draw(of_perturbation)} if self.perturbation else {}
            return *learn(optimizer, draws, state, batches, length, **seed), imitates

        kept = self.state.optimizer_states
        states = list(kept[index]) if self.persistent else [None] * len(own)
        states = yield from iterate(meta_step, rngs, draw, step, states, own, lengths, ages)
        if self.persistent:
            kept[index] = states

    def validate(
        self, index: int, rngs: Sequence[np.random.Generator], length: int
    ) -> Iterator[UnrollRecord]:
        """As `train`, on validation problem `index`, from fresh states; changes nothing.

        Args:
            index: Which problem.
            rngs: Source of the draws of each of `VALIDATION_OPTIMIZEES` optimizees.
            length: Of each unroll.
        """
        meta_step, own = self.validation_steps[index], range(len(rngs))

        def step(carry: Any, batches: Any, length: int) -> Any:
            return *meta_step.validate(carry, batches, length), False

        states, lengths = [None] * len(rngs), self._lengths()
        ages = Ages(lengths, rngs, self._scheduled)
        yield from iterate(meta_step, rngs, lambda: length, step, states, own, lengths, ages)

    def _lengths(self, horizon: tuple[int, int] | None = None) -> Lengths:
        # A training that is one unroll needs no longer iteration.
        horizon = None if self.estimator.whole_trainings else horizon
        return Lengths(self.epochs, self.repeat, self.depth, self.persistent, horizon)

    def save_state(self) -> dict[str, np.ndarray]:
        """Returns everything training changes, see `TrainingState.save`."""
        return self.state.save()

    def load_state(self, arrays: Mapping[str, np.ndarray], source: str) -> None:
        """Restores what `save_state` returned, see `TrainingState.load`."""
        self.state.load(arrays, source)
