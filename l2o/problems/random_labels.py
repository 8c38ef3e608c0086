"""Classification problems whose classes differ between optimizees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from l2o.errors import UserError
from l2o.options import Count
from l2o.problems.datasets import Dataset
from l2o.problems.keras_model import KerasProblem
from l2o.problems.problem import Batch, HeldOut, Instance, Problem
from l2o.problems.wrappers import Wrapper


class RandomLabels(Wrapper):
    """Each optimizee has the classes in groups of its own, and learns to tell the groups apart.

    The optimizee's seed draws which classes share a label. So optimizees have different tasks on
    the same examples. A mere permutation of the labels would not make a different task: the units
    of the last layer are drawn alike, so it would only permute their names. The outputs beyond the
    number of groups stay, and the optimizee learns that they are never right.

    Args:
        problem: A classifier of a data set, or wrappers around one.
        groups: Number of groups, at most that of the classes. Each has at least one class [5].

    Raises:
        UserError: If the problem is another one, or has too few classes.
    """

    def __init__(self, problem: Problem, groups: Count = 5) -> None:
        super().__init__(problem)
        innermost = problem
        while isinstance(innermost, Wrapper):
            innermost = innermost.problem
        if not (isinstance(innermost, KerasProblem) and isinstance(innermost.dataset, Dataset)):
            raise UserError(
                f"{problem.name} has no classes: expected a classifier, such as mlp_classifier"
            )
        self.classes = innermost.dataset.classes
        if groups > self.classes:
            raise UserError(
                f"{innermost.dataset.name} has {self.classes} classes: expected at most as many "
                f"groups of RandomLabels; got {groups}"
            )
        self.groups = groups
        self._innermost = innermost

    def init(self, seed: int) -> Instance:
        """See `Problem.init`; model_state starts with the label of each class, [classes] int32."""
        inner, rng = self.problem.init(seed), self.generator(seed)
        # One class for each group, and then any group for each of the others.
        others = rng.integers(self.groups, size=self.classes - self.groups)
        labels = rng.permutation(np.concatenate([np.arange(self.groups), others]))
        return Instance(inner.params, [tf.constant(labels, tf.int32), *inner.model_state])

    def objective(
        self, params: Sequence[tf.Tensor], model_state: Sequence[tf.Tensor], batch: Batch
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """See `Problem.objective`."""
        table, *inner_state = model_state
        held_out = isinstance(batch, HeldOut)
        inputs, classes = self._innermost.examples_of(batch.batch if held_out else batch)
        relabelled = inputs, tf.gather(table, classes)
        loss, inner_state = self.problem.objective(
            params, inner_state, HeldOut(relabelled) if held_out else relabelled
        )
        return loss, [table, *inner_state]
