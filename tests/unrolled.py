"""Trajectories, and the gradient of an unroll in one call, as tests want them."""

import tensorflow as tf

from l2o.inner.rule import Rule
from l2o.inner.trajectory import Carry, Trajectory
from l2o.inner.unroll import Unroll, never
from l2o.train.losses.base import LossArgs
from l2o.train.losses.meta import MetaLoss

PLAIN = LossArgs(scale_objective=False, use_log_objective=False)


def trajectory(f, f_0, steps, parameters=(), dtype=tf.float32):
    """A trajectory of these objectives and references, of which `steps` ran."""
    return Trajectory(
        tf.constant(f, dtype),
        tf.constant(f_0, dtype),
        [tf.constant(p, dtype) for p in parameters],
        tf.constant(steps),
        tf.constant(True),
        Carry([], [], ()),
    )


def meta_gradient(
    optimizer, problem, carry, batches, steps, *, args=PLAIN, second_derivatives=False, ended=never
):
    """Returns the meta-loss with weights 1, its gradient by the learned weights, the trajectory."""
    return meta_gradients(
        optimizer,
        problem,
        carry,
        batches,
        args=args,
        second_derivatives=second_derivatives,
        ended=ended,
    )(tf.constant(steps))


def meta_gradients(
    optimizer, problem, carry, batches, *, args=PLAIN, second_derivatives=False, ended=never
):
    """Returns a function of the steps that does so, traced once."""
    rule = Rule(optimizer)

    @tf.function(autograph=False)
    def run(steps):
        unroll = Unroll(
            rule,
            rule.values(),
            problem,
            carry,
            batches,
            steps,
            second_derivatives=second_derivatives,
        )
        trajectory = unroll.forward(ended=ended, record=True)
        with tf.GradientTape() as tape:
            tape.watch(trajectory.objectives)
            loss = MetaLoss(args)(trajectory, steps)
        gradient = unroll.backward(trajectory, tape.gradient(loss, trajectory.objectives))
        return loss, gradient, trajectory._replace(history=())

    return run
