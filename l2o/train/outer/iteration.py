"""An iteration: unrolls of the optimizees of one problem, which are replaced on the way."""

from __future__ import annotations

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
    """

    loss: float
    objective: float
    steps: int
    imitation: bool
    finite: bool


class Lengths(NamedTuple):
    """How long an iteration and its optimizees last; the options of `Training`.

    epochs: Passes over the data; the last unroll is completed.
    repeat: Unrolls of a problem without data.
    depth: Unrolls before an optimizee is replaced; 0: not within the iteration.
    persistent: Whether the learned optimizer's state lives on when the optimizee is replaced.
    """

    epochs: int
    repeat: int
    depth: int
    persistent: bool

    def over(self, problem: Problem, position: int, unrolls: int) -> bool:
        """Returns whether an iteration is over after so many mini-batches and unrolls."""
        if problem.steps_per_epoch is None:
            return unrolls >= self.repeat
        return position >= self.epochs * problem.steps_per_epoch


def iterate(
    meta_step: MetaStep,
    rngs: Sequence[np.random.Generator],
    draw_length: Callable[[], int],
    step: Callable[[Any, Any, int], tuple[StepResult, Any, bool]],
    optimizer_states: Sequence[Any],
    own: range,
    lengths: Lengths,
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
        lengths: How long the iteration and its optimizees last.

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
    # How many unrolls each optimizee has had.
    ages = [0 for _ in optimizees]
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
            *(np.array(t.numpy(), t.dtype.as_numpy_dtype).reshape(-1) for t in result)
        )
        position, unrolls = position + length, unrolls + 1
        to_replace = []
        for k in optimizees:
            ages[k] += 1
            # Replace what diverged or was ended early. The optimizer's state for it goes too.
            complete = result.complete[own[k]]
            last = meta_step.estimator.whole_trainings or ages[k] == lengths.depth
            if not complete or last:
                ages[k] = 0
                to_replace.append(k)
            lives_on = complete and lengths.persistent
            optimizer_states[k] = meta_step.optimizer_state(state, k) if lives_on else None
        for k in range(len(result.loss)):
            yield UnrollRecord(
                float(result.loss[k]),
                float(result.objective[k]),
                int(result.steps[k]),
                imitated,
                bool(result.finite[k]),
            )
    return optimizer_states
