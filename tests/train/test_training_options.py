"""The options of meta-training: `training/`, `loss_args/`, `estimator/` and `optimizer/`."""

import json
from collections import Counter
from contextlib import contextmanager

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2o.errors import UserError
from l2o.problems.problem import SplitBatches
from l2o.train import ESTIMATORS, LossArgs
from l2o.train.losses.meta import MetaLoss
from l2o.train.outer.meta_step import MetaStep
from tests.option_cases import LARGE_STEPS, LENGTH_3, MLP, Cases, base, close, run, sgd, teachers

cases = Cases()

# The objectives f_1, f_2, f_3 come from three unrolls of length 1.


def objectives():
    """Returns f_0 and [f_1, f_2, f_3] of an unroll of 3."""
    single = run("training/repeat=3").trained
    return single[0].objective_at(single[0].before.params), np.array([s.objective for s in single])


def log_ratios(epsilon=1e-6):
    f_0, f = objectives()
    return np.log(f + epsilon) - np.log(f_0 + epsilon)


@cases.add("training/unroll_weights", "training/unroll_weights=mean", LENGTH_3)
def _(typed):
    assert close(typed.rows[0].meta_loss, log_ratios().sum() / 3)
    assert close(run(LENGTH_3).rows[0].meta_loss, log_ratios().sum())
    last = run("training/unroll_weights=last", LENGTH_3)
    assert close(last.rows[0].meta_loss, log_ratios()[-1])


def distance(step, teacher_change):
    return np.sum((step.delta - teacher_change) ** 2)


def sgd_distances(step, *rates):
    return [distance(step, -rate * step.gradient) for rate in rates]


def imitates(row, distance, epsilon=1e-6):
    assert row.imitation_unrolls == row.unrolls == 1
    assert row.meta_loss is None
    assert close(row.imitation_loss, np.log(distance + epsilon))


@cases.add("training/teachers", *teachers(sgd(0.1), sgd(1.0)))
def _(run):
    imitates(run.rows[0], np.mean(sgd_distances(run.first, 0.1, 1.0)))


@cases.add("training/strategy", "training/strategy=max", *teachers(sgd(0.1), sgd(1.0)))
def _(run):
    imitates(run.rows[0], np.max(sgd_distances(run.first, 0.1, 1.0)))


def test_the_mean_of_logarithms_is_a_reduction_too():
    typed = ("training/strategy=mean_log", *teachers(sgd(0.1), sgd(1.0)))
    made = run(*typed)
    logs = np.log(np.array(sgd_distances(made.first, 0.1, 1.0)) + 1e-6)
    assert close(made.rows[0].imitation_loss, logs.mean())
    with pytest.raises(UserError, match=r"^training/strategy: mean_log is a mean of logarithms"):
        run("loss_args/use_log_objective=false", *typed)


@cases.add("training/teachers/<i>/class_name", *teachers({"class_name": "SGD"}))
def _(run):
    imitates(run.rows[0], sgd_distances(run.first, 0.01)[0])


@cases.add("training/teachers/<i>/config", *teachers({"config": {"learning_rate": 0.5}}))
def _(run):
    # Adam's first step is the learning rate in each coordinate.
    imitates(run.rows[0], distance(run.first, -0.5 * np.sign(run.first.gradient)))


@cases.add(
    "training/p_teacher",
    "training/repeat=40",
    teachers(sgd(0.1))[0],
    "training/p_teacher=0.5",
    traced=True,
)
def _(run):
    kinds = Counter(step.kind for step in run.trained)
    assert 8 < kinds["imitate"] < 32
    assert run.rows[0].imitation_unrolls == kinds["imitate"]
    assert run.rows[0].unrolls == 40
    assert base(run).rows[0].imitation_unrolls == 0


def iterations(optimizer):
    return int(optimizer.iterations.numpy())


@cases.add(
    "training/imitation_optimizer",
    'training/imitation_optimizer={"class_name": "SGD"}',
    *teachers(sgd(0.1)),
)
def _(typed):
    assert iterations(typed.training.imitation_optimizer) == 1
    assert iterations(typed.training.meta_optimizer) == 0
    assert typed.change.any(), "the meta-optimizer has a learning rate of 0"
    shared = run(*teachers(sgd(0.1)))
    assert iterations(shared.training.meta_optimizer) == 1
    assert not shared.change.any()


@cases.add(
    "training/imitation_optimizer/class_name",
    f"training/imitation_optimizer={json.dumps(sgd(0.5))}",
    *teachers(sgd(0.1)),
)
def _(typed):
    assert close(typed.change, -0.5 * run(*teachers(sgd(0.1))).meta_gradient)


def moves_by(run, rate):
    """Adam's first step is the learning rate wherever there is a gradient."""
    sizes = np.abs(run.change)
    assert close(sizes.max(), rate, rtol=1e-2)
    assert np.mean(sizes > 0.9 * rate) > 0.3


@cases.add(
    "training/imitation_optimizer/config",
    'training/imitation_optimizer={"config": {"learning_rate": 0.02}}',
    *teachers(sgd(0.1)),
)
def _(run):
    moves_by(run, 0.02)


def beside(typed, change):
    """Whether the meta-gradient is that at the initial weights plus `change`, and they stay."""
    assert not typed.change.any(), "the meta-optimizer has a learning rate of 0"
    optimizer, parts = typed.training.optimizer, iter(change)
    optimizer.network.set_weights([w + next(parts) for w in typed.initial])
    plain = run(LENGTH_3)
    assert not close(typed.meta_gradient, plain.meta_gradient, rtol=1e-6, atol=0)
    step = MetaStep(optimizer, typed.training.problems[0], MetaLoss(LossArgs()))
    adam = keras.optimizers.Adam(0.0)
    adam.build(optimizer.network.trainable_variables)
    before = typed.first.before
    step.train(adam, tf.constant(0), before, (), 3)
    moments = [v.numpy().ravel() for v in adam.variables if "momentum" in v.path]
    assert close(typed.meta_gradient, np.concatenate(moments) / 0.1)


def signs(weights):
    """The sign of the meta-gradient without a perturbation, in the shapes of the weights."""
    flat, found = np.sign(run(LENGTH_3).meta_gradient), []
    for w in weights:
        found.append(flat[: w.size].reshape(w.shape))
        flat = flat[w.size :]
    return found


@cases.add("training/perturbation", 'training/perturbation={"kind": "sign_gradient"}', LENGTH_3)
def _(typed):
    assert typed.config["training"]["perturbation"] == {"kind": "sign_gradient", "size": 1e-3}
    beside(typed, [1e-3 * s for s in signs(typed.initial)])


@cases.add(
    "training/perturbation/kind",
    "training/perturbation/kind=sign_gradient",
    "training/perturbation/size=0.01",
    LENGTH_3,
)
def _(typed):
    beside(typed, [0.01 * s for s in signs(typed.initial)])


@cases.add(
    "training/perturbation/size",
    "training/perturbation/size=0.5",
    "training/perturbation/kind=sign_gradient",
    LENGTH_3,
)
def _(typed):
    beside(typed, [0.5 * s for s in signs(typed.initial)])


@cases.add("training/epochs", "training/epochs=3", *MLP)
def _(typed):
    # 1437 examples are 2 mini-batches of 700.
    assert [step.length for step in typed.trained] == [2, 2, 2]
    assert [step.length for step in run(*MLP).trained] == [2]
    assert sum(step.fresh for step in typed.trained) == 1


@cases.add("training/depth", "training/depth=2", "training/repeat=4")
def _(typed):
    assert [step.fresh for step in typed.trained] == [True, False, True, False]
    usual = run("training/repeat=4")
    assert [step.fresh for step in usual.trained] == [True, False, False, False]


@cases.add("training/batch_of_problems", "training/batch_of_problems=3")
def _(typed):
    assert len(typed.trained) == typed.rows[0].unrolls == 3
    assert len({step.objective for step in typed.trained}) == 3, "of three optimizees"
    assert close(typed.rows[0].meta_loss, np.mean([step.loss for step in typed.trained]))


@cases.add("training/repeat", "training/repeat=3")
def _(run):
    assert len(run.trained) == run.rows[0].unrolls == 3
    assert len(base(run).trained) == 1
    ends = [step.end for step in run.trained[:2]]
    starts = [step.start for step in run.trained[1:]]
    assert np.array_equal(ends, starts), "of one optimizee"


TWO_OPTIMIZEES = ("strategy/epochs_per_period=2", *teachers(sgd(0.1)))


@cases.add("training/persistent", "training/persistent=true", *TWO_OPTIMIZEES)
def _(typed):
    fresh = run(*TWO_OPTIMIZEES)
    for made, lives_on in ((typed, True), (fresh, False)):
        first, second = made.trained
        assert first.fresh
        assert second.fresh
        ended = tf.nest.flatten(first.after.optimizer_state)
        started = tf.nest.flatten(second.before.optimizer_state)
        same = [close(a, b) for a, b in zip(ended, started, strict=True)]
        assert all(same) if lives_on else not any(same)
        (teacher,) = made.training.steps[0].imitation.teachers
        assert iterations(teacher.optimizers[0][0]) == (2 if lives_on else 1)


def slope(run):
    """The derivative of the only unroll's loss along its reported meta-gradient, by differences."""
    step, direction = run.first, run.meta_gradient
    losses = []
    for way in (1, -1):
        start = 0
        for variable, weight in zip(run.network.trainable_variables, run.initial, strict=True):
            part = direction[start : start + weight.size].reshape(weight.shape)
            start += weight.size
            variable.assign(weight + way * 1e-3 / np.linalg.norm(direction) * part)
        result, _ = run.training.steps[0].validate(step.before, step.batches, step.length)
        losses.append(float(result.loss))
    for variable, weight in zip(run.network.trainable_variables, run.initial, strict=True):
        variable.assign(weight)
    return (losses[0] - losses[1]) / 2e-3


@cases.add(
    "estimator/second_derivatives",
    "estimator/second_derivatives=true",
    *LARGE_STEPS,
    constructor="RNNProp",
)
def _(typed):
    # Only the true gradient is the loss's slope.
    assert close(slope(typed), np.linalg.norm(typed.meta_gradient), rtol=0.02)
    first_order = run(*LARGE_STEPS, constructor="RNNProp")
    assert not close(slope(first_order), np.linalg.norm(first_order.meta_gradient), rtol=0.05)
    assert typed.rows[0].meta_loss == first_order.rows[0].meta_loss


@cases.add("loss_args/scale_objective", "loss_args/scale_objective=false", LENGTH_3)
def _(run):
    assert close(run.rows[0].meta_loss, np.log(objectives()[1] + 1e-6).sum())


@cases.add("loss_args/use_log_objective", "loss_args/use_log_objective=false", LENGTH_3)
def _(typed):
    f_0, f = objectives()
    assert close(typed.rows[0].meta_loss, (f / (f_0 + 1e-6)).sum())
    imitating = run("loss_args/use_log_objective=false", *teachers(sgd(0.1)))
    assert close(imitating.rows[0].imitation_loss, sgd_distances(imitating.first, 0.1)[0])


@cases.add(
    "loss_args/use_numerator_epsilon",
    "loss_args/use_numerator_epsilon=false",
    LENGTH_3,
    "loss_args/epsilon=1.0",
)
def _(run):
    f_0, f = objectives()
    assert close(run.rows[0].meta_loss, (np.log(f) - np.log(f_0 + 1)).sum())


@cases.add("loss_args/epsilon", "loss_args/epsilon=1.0", LENGTH_3)
def _(run):
    assert close(run.rows[0].meta_loss, log_ratios(epsilon=1.0).sum())


@cases.add(
    "loss_args/obj_train_max_multiplier", "loss_args/obj_train_max_multiplier=0.001", LENGTH_3
)
def _(typed):
    assert (typed.first.length, typed.first.steps) == (3, 1)
    assert close(typed.rows[0].meta_loss, log_ratios()[0])
    assert run(LENGTH_3).first.steps == 3
    # Just where f_1 is f_0 + (k - 1) |f_0|.
    f_0, f = objectives()
    for k, steps in ((0.999 * f[0] / f_0, 1), (1.001 * f.max() / f_0, 3)):
        assert run(f"loss_args/obj_train_max_multiplier={k}", LENGTH_3).first.steps == steps


@cases.add(
    "loss_args/split",
    "loss_args/split=held_out",
    *MLP,
    "problems/0/kwargs/batch_size=230",
    "strategy/unroll_distribution=1",
)
def _(typed):
    # 287 of 1437 examples are held out; the others are 5 mini-batches of 230.
    assert len(typed.trained) == 5
    problem, trained_on, scored_on = typed.first.problem.problem, set(), set()
    for step in typed.trained:
        assert isinstance(step.batches, SplitBatches)
        held_out = step.batches.held_out.batch.indices.numpy()[1]
        trained_on |= {*step.batches.train.indices.numpy()[0]}
        scored_on |= {*held_out}
        examples = problem.dataset.train.take(held_out)
        f, f_0 = (
            problem.score(carry.params, carry.model_state, examples)[0].numpy()
            for carry in (step.after, step.before)
        )
        assert close(step.objective, f)
        assert close(step.loss, np.log(f + 1e-6) - np.log(f_0 + 1e-6))
    assert len(trained_on) == 1150
    assert not trained_on & scored_on


# optimizer


@cases.add("optimizer/class_name", f"optimizer={json.dumps(sgd(0.5))}")
def _(run):
    assert close(run.change, -0.5 * base(run).meta_gradient)


@cases.add("optimizer/config", "optimizer/config/learning_rate=0.02")
def _(run):
    assert not base(run).change.any()
    moves_by(run, 0.02)


class Through(ESTIMATORS.entries["TruncatedBackprop"]):
    """An estimator without options: TruncatedBackprop with second derivatives."""

    def __init__(self):
        super().__init__(second_derivatives=True)


@contextmanager
def another_estimator(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ESTIMATORS.entries, "Through", Through)
        yield


@cases.add(
    "estimator_constructor",
    "estimator_constructor=Through",
    *LARGE_STEPS,
    constructor="RNNProp",
    within=another_estimator,
)
def _(typed):
    assert typed.config["estimator"] == {}
    same = run("estimator/second_derivatives=true", *LARGE_STEPS, constructor="RNNProp")
    assert np.array_equal(typed.meta_gradient, same.meta_gradient)
    usual = run(*LARGE_STEPS, constructor="RNNProp")
    assert not np.array_equal(typed.meta_gradient, usual.meta_gradient)


test_option_changes_what_it_should = cases.test()
test_a_case_fails_if_its_option_is_ignored = cases.test_ignored()
