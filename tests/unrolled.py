"""The gradient of an unroll, as tests want it: in one call."""

import tensorflow as tf

from l2o.inner.backward import backward, what_to_keep
from l2o.inner.rule import Rule
from l2o.inner.unroll import never, unroll
from l2o.train.losses.meta import LossArgs, meta_loss

PLAIN = LossArgs(scale_objective=False, use_log_objective=False)


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
        unrolled = (rule, rule.values(), problem, carry, batches, steps)
        keep = what_to_keep(problem, carry, batches, second_derivatives)
        trajectory = unroll(*unrolled, ended=ended, keep=keep)
        with tf.GradientTape() as tape:
            tape.watch(trajectory.objectives)
            loss = meta_loss(trajectory, tf.ones([steps]), args)
        gradient = backward(
            *unrolled,
            trajectory,
            tape.gradient(loss, trajectory.objectives),
            keep=keep,
            second_derivatives=second_derivatives,
        )
        return loss, gradient, trajectory._replace(past=())

    return run
