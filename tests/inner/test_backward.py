"""The backward pass of an unroll whose changes have a factor, against finite differences."""

import numpy as np
import pytest
import tensorflow as tf

from l2o.inner import lanes, unroll
from l2o.inner.batched import Batched, stack
from l2o.inner.rule import Rule
from l2o.inner.trajectory import Carry
from l2o.inner.unroll import Unroll
from tests.by_loop import Bowl, Whole, Wide, gradient_of, loop

STEPS = 5
# A row for each optimizee.
FACTORS = np.array([[0.2, 1.0, 0.7, 0.4, 0.1], [1.0, 0.9, 0.8, 0.7, 0.6], [0.0, 2.0, 0.5, 1, 3]])


@pytest.mark.parametrize(
    ("kind", "second_derivatives", "count", "own"),
    [
        (Wide, True, None, False),
        (Wide, False, 3, True),
        (Whole, True, 3, False),
        # Each of these differs from one above in one thing.
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                (Whole, True, None, False),
                (Wide, False, None, False),
                (Wide, False, 3, False),
                (Wide, True, 3, True),
                (Whole, True, 3, True),
            )
        ),
    ],
)
def test_factors_take_part_in_the_gradient(monkeypatch, kind, second_derivatives, count, own):
    # Lanes that cut optimizees apart, and states that are recomputed.
    monkeypatch.setattr(lanes, "cores", lambda: 2)
    monkeypatch.setattr(lanes, "SMALLEST_LANE", 5)
    monkeypatch.setattr(unroll, "MEMORY", 0)
    optimizer, problem, scale = kind(scale=0.5), Bowl(), np.arange(1.0, STEPS + 1)
    optimizer.xla = False
    carries = []
    for k in range(count or 1):
        instance = problem.init(k)
        carries.append(Carry(*instance, optimizer.initial_state(instance.params)))
    rule, table = Rule(optimizer), tf.constant(FACTORS if own else FACTORS[0])

    @tf.function(autograph=False)
    def run():
        made = Unroll(
            rule,
            rule.values(),
            Batched(problem, count) if count else problem,
            stack(carries) if count else carries[0],
            (),
            tf.constant(STEPS),
            second_derivatives=second_derivatives,
            multiplier=lambda i: table[..., i],
        )
        done = made.forward(record=True)
        d_objectives = tf.constant(scale)[:, tf.newaxis] if count else tf.constant(scale)
        d_objectives += tf.zeros_like(done.objectives)
        return done.objectives, made.backward(done, d_objectives)

    objectives, (gradient,) = run()
    of_each = [FACTORS[k if own else 0] for k in range(len(carries))]
    both = list(zip(carries, of_each, strict=True))
    by_hand = np.array([loop(optimizer, problem, *one)[0] for one in both])
    np.testing.assert_allclose(objectives, by_hand.T if count else by_hand[0], rtol=1e-12)
    slopes = [
        gradient_of(optimizer, problem, *one, lambda f: f @ scale, second_derivatives)
        for one in both
    ]
    np.testing.assert_allclose(gradient, sum(slopes), rtol=1e-6)
