"""An iteration: unrolls of the optimizees of one problem, which are replaced on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

import numpy as np

from l2o import seeds
from l2o.problems import Problem
from l2o.train.estimators.base import StepResult
from l2o.train.outer.meta_step import MetaStep


class UnrollRecord(NamedTuple):
    """What one unroll of one optimizee did, on the host.

    loss: Meta-loss, or imitation loss if `imitation`.
    objective: The optimizee's last objective.
    steps: How many inner steps ran.
    imitation: Whether the loss is the imitation loss.
    finite: Whether the unroll contributed to an update of the learned weights; in a
        validation, whether its loss is finite.
    replaced: Whether the optimizee is replaced after it, within the iteration.
    gradient: The meta-gradient, flat; the same array in the records of one meta-step, and None
        in a validation.
    """

    loss: float
    objective: float
    steps: int
    imitation: bool
    finite: bool
    replaced: bool = False
    gradient: np.ndarray | None = None


class Lengths(NamedTuple):
    """How long an iteration and its optimizees last; options of `Training` and of a strategy.

    epochs: Passes over the data; the last unroll is completed.
    repeat: Unrolls of a problem without data.
    depth: Unrolls before an optimizee is replaced; 0: not within the iteration.
    persistent: Whether the learned optimizer's state lives on when the optimizee is replaced.
    horizon: Shortest and longest training of an optimizee, see `BaseStrategy`.
    """

    epochs: int
    repeat: int
    depth: int
    persistent: bool
    horizon: tuple[int, int] | None = None

    def over(self, problem: Problem, position: int, unrolls: int) -> bool:
        """Returns whether an iteration is over after so many mini-batches and unrolls."""
        if self.horizon and position < self.horizon[1]:
            return False
        if problem.steps_per_epoch is None:
            return unrolls >= self.repeat
        return position >= self.epochs * problem.steps_per_epoch


def draw_training_length(rng: np.random.Generator, horizon: tuple[int, int]) -> int:
    """Returns the length of a training, drawn log-uniformly between two ends."""
    shortest, longest = horizon
    drawn = round(math.exp(rng.uniform(math.log(shortest), math.log(longest))))
    return min(max(drawn, shortest), longest)


class Ages:
    """When the optimizees of an iteration are replaced.

    Args:
        lengths: How long they last.
        rngs: A generator for each optimizee, those of other processes too.
        whole_trainings: Whether each unroll is a training of its own.
    """

    def __init__(
        self, lengths: Lengths, rngs: Sequence[np.random.Generator], whole_trainings: bool = False
    ) -> None:
        self._depth = 1 if whole_trainings else lengths.depth
        self._unrolls = [0 for _ in rngs]
        self._horizon = lengths.horizon
        # Generators of their own: the other draws must not depend on the horizon.
        self._rngs = [rng.spawn(1)[0] for rng in rngs] if self._horizon else []
        # Inner steps that are left. The first optimizees start as if a part were over.
        self._left = [int(rng.integers(1, self._length(rng), endpoint=True)) for rng in self._rngs]

    def _length(self, rng: np.random.Generator) -> int:
        assert self._horizon
        return draw_training_length(rng, self._horizon)

    def after(self, steps: int, complete: Sequence[bool]) -> list[bool]:
        """Returns whether each optimizee is replaced after an unroll.

        Args:
            steps: The length of the unroll.
            complete: As in `StepResult`: what diverged or was ended early is replaced too.
        """
        replaced = []
        for k, is_complete in enumerate(complete):
            self._unrolls[k] += 1
            over = self._unrolls[k] == self._depth
            if self._horizon:
                self._left[k] -= steps
                over = over or self._left[k] <= 0
            replaced.append(over or not is_complete)
            if replaced[k]:
                self._unrolls[k] = 0
                if self._horizon:
                    self._left[k] = self._length(self._rngs[k])
        return replaced


def iterate(
    meta_step: MetaStep,
    rngs: Sequence[np.random.Generator],
    draw_length: Callable[[], int],
    step: Callable[[Any, Any, int], tuple[StepResult, Any, bool]],
    optimizer_states: Sequence[Any],
    own: range,
    lengths: Lengths,
    ages: Ages,
) -> Generator[UnrollRecord, None, list[Any]]:
    """Runs one unroll after the other until the iteration is over.

    Args:
        meta_step: Of the problem.
        rngs: Per optimizee of this process, the source of its draws.
        draw_length: Draws the length of the next unroll.
        step: (state, mini-batches, length) -> result, new state, whether it imitated.
        optimizer_states: Per optimizee of this process, the learned optimizer's state that it
            starts with; None: a fresh one.
        own: The numbers of this process's optimizees among all.
        lengths: How long the iteration lasts.
        ages: When the optimizees of all processes are replaced.

    Yields:
        Each unroll of each optimizee, those of other processes too.

    Returns:
        With `persistent`, the learned optimizer's states at the end; None for an optimizee that
        has diverged.
    """
    problem, optimizees = meta_step.problem, range(len(rngs))

    def start(k: int) -> Any:
        seed = seeds.draw(rngs[k])
        return meta_step.start(problem.init(seed), optimizer_states[k], seed)

    optimizer_states = list(optimizer_states)
    streams = [seeds.draw(rng) for rng in rngs]
    state: Any = None
    position, unrolls = 0, 0
    to_replace = list(optimizees)
    while not lengths.over(problem, position, unrolls):
        fresh = {k: start(k) for k in to_replace}
        if len(fresh) == len(optimizees):
            state = meta_step.layout.stack(list(fresh.values()))
        else:
            for k, one in fresh.items():
                state = meta_step.layout.put(state, k, one)
        length = draw_length()
        # The last mini-batch scores this unroll and starts the next.
        batches = meta_step.stream(streams, position, length + 1)
        result, state, imitated = step(state, batches, length)
        # NumPy needs the dtype of a bfloat16 scalar spelled out.
        result = StepResult(
            *(
                None if t is None else np.array(t.numpy(), t.dtype.as_numpy_dtype).reshape(-1)
                for t in result
            )
        )
        position, unrolls = position + length, unrolls + 1
        replaced = ages.after(length, result.complete)
        goes_on = not lengths.over(problem, position, unrolls)
        to_replace = [k for k in optimizees if replaced[own[k]]]
        for k in optimizees:
            # The optimizer's state of an optimizee that has diverged goes with it.
            lives_on = result.complete[own[k]] and lengths.persistent
            optimizer_states[k] = meta_step.optimizer_state(state, k) if lives_on else None
        for k in range(len(result.loss)):
            yield UnrollRecord(
                float(result.loss[k]),
                float(result.objective[k]),
                int(result.steps[k]),
                imitated,
                bool(result.finite[k]),
                replaced[k] and goes_on,
                result.gradient,
            )
    return optimizer_states
