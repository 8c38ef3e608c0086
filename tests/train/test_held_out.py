"""`loss_args/split`: updates scored on examples that the optimizee does not train on."""

from contextlib import contextmanager
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2o.errors import UserError
from l2o.problems import GradientNoise, Quadratic, RandomScaling, keras_problem
from l2o.problems.problem import HeldOut
from l2o.train import LossArgs, Replicas, Runner, SimpleStrategy, Training
from l2o.train.estimators import ES, PES, TruncatedBackprop
from l2o.train.losses.imitation import ImitationLoss
from l2o.train.losses.meta import MetaLoss
from l2o.train.losses.teachers import Teacher
from l2o.train.outer.meta_step import MetaStep
from tests.optimizees import optimizer_of
from tests.tiny_rule import TinyOptimizer

STEPS, EPSILON = 3, 1e-6
RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 4)).astype(np.float32)
Y = np.argmax(X @ RNG.standard_normal((4, 3)), 1).astype(np.int32)
# All of the test split is spoilt, so that nothing can use it.
TEST = (np.full([10, 4], np.nan), np.zeros(10, np.int32))


def network(normed):
    def build_model():
        return keras.Sequential(
            [
                keras.Input((4,)),
                # The gradient of a bias before the normalisation would be mere rounding errors.
                keras.layers.Dense(
                    5, use_bias=not normed, kernel_regularizer=keras.regularizers.L2(0.05)
                ),
                # Its averages matter after the first mini-batch already.
                *([keras.layers.BatchNormalization(momentum=0.5)] if normed else []),
                keras.layers.Activation("tanh"),
                keras.layers.Dropout(0.3),
                keras.layers.Dense(3),
            ]
        )

    return build_model


def classifier(normed=False, x=X):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return keras_problem(network(normed), ((x, Y), TEST), loss, 6)


@contextmanager
def quickly(optimizees):
    """Few steps of one optimizee take longer to trace than to run."""
    tf.config.run_functions_eagerly(optimizees == 1)
    yield
    tf.config.run_functions_eagerly(False)


def meta_step(problem, optimizees=1, optimizer=None, estimator=None, replicas=None, **args):
    args = LossArgs(split="held_out", **args)
    return MetaStep(
        optimizer or TinyOptimizer(),
        problem,
        MetaLoss(args),
        estimator=estimator,
        optimizees=optimizees,
        replicas=replicas,
    )


def prepared(step, seeds):
    """The start and the mini-batches of optimizees with these seeds."""
    starts = [step.start(step.problem.init(seed), seed=seed) for seed in seeds]
    return step.layout.stack(starts), step.stream(seeds, 0, STEPS + 1)


def learn(step, state, batches, kind="train"):
    """The meta-gradient, flat, and the result of an unroll."""
    # Its momentum after the first step is the gradient.
    sgd = keras.optimizers.SGD(1.0, momentum=0.9)
    sgd.build(step.optimizer.network.trainable_variables)
    kept = step.optimizer.network.get_weights()
    optimizees = len(step.layout.own)
    draws = step.seeds(range(optimizees))
    with quickly(optimizees):
        result, _ = getattr(step, kind)(sgd, draws, state, batches, STEPS)
    step.optimizer.network.set_weights(kept)
    return np.concatenate([-m.numpy().ravel() for m in sgd.variables[2:]]), result


def cross_entropy(model, params, state, chosen):
    """That of examples, from the outputs of the Keras model when it is not trained."""
    variables = [*model.trainable_variables, *model.non_trainable_variables]
    for variable, value in zip(variables, [*params, *state], strict=True):
        variable.assign(value)
    outputs = np.asarray(model(X[chosen], training=False), np.float64)
    logs = outputs - np.log(np.exp(outputs).sum(1, keepdims=True))
    return -logs[np.arange(len(chosen)), Y[chosen]].mean()


def by_hand(step, problem, seed, grads=None):
    """The objectives, their references and the gradients of an unroll.

    Args:
        grads: The gradients that the updates get, if not those of the training mini-batches.
    """
    model, batches = problem.model(0), step.problem.stream(seed, 0, STEPS + 1)
    held_out = batches.held_out.batch.indices.numpy()
    start = params, model_state = problem.init(seed)
    state, found = step.optimizer.initial_state(params, seed), []
    for i in range(STEPS):
        train = tf.nest.map_structure(lambda b, i=i: b[i], batches.train)
        with tf.GradientTape() as tape:
            tape.watch(params)
            f, model_state = problem.objective(params, model_state, train)
        got = tape.gradient(f, params) if grads is None else grads[i]
        deltas, state = step.optimizer.update(params, got, state)
        params = [p + d for p, d in zip(params, deltas, strict=True)]
        scored = cross_entropy(model, params, model_state, held_out[i + 1])
        found.append((scored, cross_entropy(model, *start, held_out[i + 1]), got))
    return [np.array(v) for v in list(zip(*found, strict=True))[:2]], [g for *_, g in found]


def loss_of(f, f_0):
    return np.sum(np.log(f + EPSILON) - np.log(f_0 + EPSILON))


def difference_quotients(step, problem, seed, constant):
    """The derivatives of the loss by the learned weights.

    Args:
        constant: Whether the gradients that the updates get stay as they are.
    """
    grads = by_hand(step, problem, seed)[1] if constant else None
    (weights,) = step.optimizer.network.get_weights()
    found = []
    for k in range(weights.size):
        ends = []
        for way in (0.01, -0.01):
            moved = weights.copy().ravel()
            moved[k] += way
            step.optimizer.network.set_weights([moved.reshape(weights.shape)])
            ends.append(loss_of(*by_hand(step, problem, seed, grads)[0]))
        found.append((ends[0] - ends[1]) / 0.02)
    step.optimizer.network.set_weights([weights])
    return np.array(found)


@pytest.mark.parametrize(
    ("normed", "second", "seeds"),
    [
        pytest.param(False, False, [0], marks=pytest.mark.slow),
        (True, False, [1]),
        pytest.param(False, True, [0], marks=pytest.mark.slow),
        (True, True, [2]),
        (False, False, [0, 3]),
        pytest.param(True, False, [1, 4], marks=pytest.mark.slow),
        pytest.param(True, True, [1, 4], marks=pytest.mark.slow),
    ],
)
def test_the_loss_and_its_gradient_are_those_of_held_out_examples(normed, second, seeds):
    problem = classifier(normed)
    step = meta_step(
        problem, len(seeds), TinyOptimizer(scale=0.3), TruncatedBackprop(second_derivatives=second)
    )
    gradient, result = learn(step, *prepared(step, seeds))
    rows = [by_hand(step, problem, seed)[0] for seed in seeds]
    np.testing.assert_allclose(np.ravel(result.loss), [loss_of(*r) for r in rows], atol=2e-5)
    np.testing.assert_allclose(np.ravel(result.objective), [f[-1] for f, _ in rows], rtol=1e-5)
    slopes = [difference_quotients(step, problem, seed, constant=not second) for seed in seeds]
    expected = np.mean(slopes, 0)
    assert np.abs(expected).max() > 0.02
    np.testing.assert_allclose(gradient, expected, atol=0.01 * np.abs(expected).max())


def test_an_early_end_compares_held_out_objectives():
    problem = classifier()
    step = meta_step(problem)
    (f, f_0), _ = by_hand(step, problem, 0)
    ratios = f / f_0
    assert len(set(ratios)) == STEPS
    for factor in (0.999 * ratios[1], 1.001 * ratios.max()):
        over = np.flatnonzero(ratios > factor)
        ends = meta_step(problem, obj_train_max_multiplier=float(factor))
        state, batches = prepared(ends, [0])
        _, result = learn(ends, state, batches)
        expected = over[0] + 1 if len(over) else STEPS
        assert int(result.steps) == expected
        np.testing.assert_allclose(result.loss, loss_of(f[:expected], f_0[:expected]), atol=2e-5)
        # A validation runs on.
        with quickly(1):
            validated, _ = ends.validate(state, batches, STEPS)
        np.testing.assert_allclose(validated.loss, loss_of(f, f_0), atol=2e-5)


@pytest.mark.parametrize("optimizees", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("part", ["train", "held_out"])
def test_an_objective_that_is_not_finite_ends_the_unroll_of_its_optimizee(part, optimizees):
    def chosen(seed):
        parts = meta_step(classifier()).problem.stream(seed, 0, STEPS + 1)
        # Nothing is scored on the first.
        return parts.train.indices.numpy(), parts.held_out.batch.indices.numpy()[1:]

    # An example of mini-batch 2 of the second optimizee, and of no other until then.
    used = {i for of_part in chosen(0) for i in of_part.ravel()}
    *before, last = chosen(7)[0][:3] if part == "train" else chosen(7)[1][:2]
    spoilt = X.copy()
    spoilt[next(i for i in last if i not in {*np.ravel(before), *used})] = np.nan
    problem = classifier(x=spoilt)
    alone = meta_step(problem)
    _, result = learn(alone, *prepared(alone, [7]))
    assert (int(result.steps), bool(result.finite), bool(result.complete)) == (2, False, False)
    if optimizees == 1:
        return
    step = meta_step(problem, 2)
    gradient, both = learn(step, *prepared(step, [0, 7]))
    assert both.steps.numpy().tolist() == [STEPS, 2]
    assert both.finite.numpy().tolist() == [True, False]
    expected, _ = learn(alone, *prepared(alone, [0]))
    np.testing.assert_allclose(gradient, expected, rtol=1e-4)


def test_teachers_train_on_the_mini_batches_of_the_student():
    problem = classifier()
    split, whole = meta_step(problem), MetaStep(TinyOptimizer(), problem)
    state, batches = prepared(split, [0])
    for step in (split, whole):
        create = partial(keras.optimizers.Adam, 0.1)
        params = problem.init(0).params
        step.imitation = ImitationLoss(teachers=[Teacher(create, step.optimizee, params, False)])
    got, of_split = learn(split, state, batches, "imitate")
    expected, result = learn(whole, state, batches.train, "imitate")
    np.testing.assert_array_equal(got, expected)
    assert of_split.loss == result.loss


@pytest.mark.parametrize("second", [False, True])
def test_imitation_differentiates_no_held_out_objective(second):
    problem, differentiated = classifier(normed=True), []
    step = meta_step(problem, estimator=TruncatedBackprop(second_derivatives=second))
    params, objective = problem.init(0).params, step.problem.objective

    @tf.custom_gradient
    def noticed(*values):
        return values, lambda *grads: differentiated.append(step) or grads

    def watched(params, model_state, batch):
        held_out = isinstance(batch, HeldOut)
        return objective(list(noticed(*params)) if held_out else params, model_state, batch)

    step.problem.objective = watched
    teacher = Teacher(partial(keras.optimizers.SGD, 0.1), step.optimizee, params, False)
    step.imitation = ImitationLoss(teachers=[teacher])
    learn(step, *prepared(step, [0]), "imitate")
    assert not differentiated
    learn(step, *prepared(step, [0]))
    assert differentiated


def training(problems, split="held_out", **options):
    return Training(
        TinyOptimizer(),
        problems,
        {"class_name": "Adam", "config": {"learning_rate": 0.01}},
        LossArgs(split=split),
        **options,
    )


@pytest.mark.slow
def test_persistent_evolution_strategies_train_and_validate_with_it():
    problem = GradientNoise(RandomScaling(classifier(), 1.0))
    made = training([problem], batch_of_problems=2, estimator=PES(sigma=0.05))
    strategy = SimpleStrategy(
        num_periods=1, epochs_per_period=1, unroll_distribution=3, validation_unroll=3
    )
    (row,) = Runner(made, strategy).train()
    # 48 of 60 examples are 8 mini-batches of 6; the last unroll is completed.
    assert (row.unrolls, row.dropped) == (2 * 3, 0)
    assert np.isfinite([row.meta_loss, row.validation_loss]).all()
    assert made.optimizer.network.get_weights()[0].ravel().tolist() != pytest.approx([0.5, 0.1])


@pytest.mark.parametrize(
    ("estimator", "optimizees"),
    [
        pytest.param(ES(sigma=0.1), 1, marks=pytest.mark.slow),
        # The mean of the losses of a pair is that of theta, up to the square of sigma.
        (PES(sigma=1e-3), 1),
        pytest.param(PES(sigma=1e-3), 2, marks=pytest.mark.slow),
    ],
    ids=["ES", "PES", "PES, two"],
)
def test_evolution_strategies_report_the_loss_of_held_out_examples(estimator, optimizees):
    problem, seeds = classifier(normed=True), range(optimizees)
    step = meta_step(problem, optimizees, estimator=estimator)
    _, result = learn(step, *prepared(step, seeds))
    expected = [loss_of(*by_hand(step, problem, seed)[0]) for seed in seeds]
    np.testing.assert_allclose(np.ravel(result.loss), expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "normed"), [("DM", True), ("ScaleHierarchical", False)])
def test_optimizees_side_by_side_equal_each_alone(name, normed):
    problem, seeds = classifier(normed), [0, 3, 5]
    step = meta_step(problem, len(seeds), optimizer_of(name))
    gradient, result = learn(step, *prepared(step, seeds))
    one = meta_step(problem, 1, optimizer_of(name))
    each = [learn(one, *prepared(one, [seed])) for seed in seeds]
    np.testing.assert_allclose(result.loss, [own.loss for _, own in each], atol=1e-4)
    expected = np.mean([g for g, _ in each], 0)
    np.testing.assert_allclose(gradient, expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.slow
def test_two_devices_give_what_one_gives():
    problem, seeds = GradientNoise(classifier(normed=True)), [0, 3]
    two = Replicas(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
    made, one = meta_step(problem, 1, replicas=two), meta_step(problem, 2)
    gradient, result = learn(made, *prepared(made, seeds))
    expected, wanted = learn(one, *prepared(one, seeds))
    np.testing.assert_allclose(result.loss, wanted.loss, atol=1e-5)
    np.testing.assert_allclose(gradient, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("section", ["problems", "validation_problems"])
def test_problems_that_cannot_be_split_are_refused(section):
    given = {"problems": [classifier()], section: [Quadratic()]}
    with pytest.raises(UserError) as error:
        training(**given)
    assert str(error.value) == (
        'loss_args/split: Quadratic has no training examples that can be held out: expected "train"'
        ", or only problems that are Keras models, such as mlp_classifier"
    )
    training(**given, split="train")
