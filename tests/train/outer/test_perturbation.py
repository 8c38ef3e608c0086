"""Perturbed learned weights: what is drawn or computed, and that runs repeat."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2o.errors import UserError
from l2o.optimizer import OPTIMIZERS
from l2o.problems import Quadratic
from l2o.train import LossArgs, RunDirectory, Runner, Training
from l2o.train.estimators import ES, PES, FullES, TruncatedBackprop
from l2o.train.losses.imitation import ImitationLoss
from l2o.train.losses.teachers import Teacher
from l2o.train.outer.meta_step import MetaStep
from l2o.train.outer.perturbation import Perturbation
from l2o.train.session import start
from tests.tiny_rule import TinyOptimizer
from tests.train.runs.test_crash import Death

KINDS = ("gaussian", "relative", "sign_gradient", "projected_gradient")


@pytest.fixture(autouse=True)
def _eagerly():
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def drawn(kind, size, weights, seed=0):
    found = Perturbation(kind, size).perturbed(weights, tf.constant(seed), list)
    return [(a - b).numpy() for a, b in zip(found, weights, strict=True)]


WEIGHTS = [tf.fill([100, 200], 3.0), tf.zeros([4]), tf.concat([tf.ones([9999]), [1e4]], 0)]


def test_gaussian_noise_has_its_size_in_each_tensor():
    first, second, third = drawn("gaussian", 0.5, WEIGHTS)
    np.testing.assert_allclose([first.std(), third.std()], 0.5, rtol=0.03)
    np.testing.assert_allclose([first.mean(), third.mean()], 0.0, atol=0.02)
    assert second.any()
    assert abs(np.corrcoef(first.ravel()[:10000], third)[0, 1]) < 0.04, "draws of their own"


def test_relative_noise_has_the_scale_of_its_tensor():
    first, second, third = drawn("relative", 0.01, WEIGHTS)
    np.testing.assert_allclose(first.std(), 0.03, rtol=0.03)
    assert not second.any(), "a tensor of zeros"
    # The root mean square, which an outlier dominates.
    np.testing.assert_allclose(third.std(), 0.01 * np.sqrt((9999 + 1e8) / 1e4), rtol=0.05)


@pytest.mark.parametrize("kind", ["gaussian", "relative"])
def test_each_seed_has_its_own_noise(kind):
    first, again, other = (drawn(kind, 0.1, WEIGHTS, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[0], again[0])
    assert abs(np.corrcoef(first[0].ravel(), other[0].ravel())[0, 1]) < 0.03


def test_gradients_give_directions():
    weights = [tf.constant([1.0, 2.0, 3.0, 4.0, 5.0])]
    g = [tf.constant([2.0, -1e-4, 0.0, np.nan, -np.inf])]
    (signs,) = Perturbation("sign_gradient", 0.5).perturbed(weights, tf.constant(0), lambda: g)
    np.testing.assert_allclose(signs, [1.5, 1.5, 3.0, 4.0, 5.0])
    clipped = Perturbation("projected_gradient", 0.05).perturbed(
        [tf.zeros([5])], tf.constant(0), lambda: g
    )
    np.testing.assert_allclose(clipped[0], [0.05, -1e-5, 0.0, 0.0, 0.0], rtol=1e-5)


def test_sizes_are_those_of_the_paper():
    assert [Perturbation(kind).size for kind in KINDS] == [1e-3, 5e-4, 1e-3, 1e-4]
    assert Perturbation("relative", 0.25).size == 0.25
    for given in ({"kind": "noise"}, {"size": 0.0}, {"size": "1"}):
        with pytest.raises(UserError, match="training/perturbation/"):
            Perturbation(**given)


def make(perturbation, estimator=None, path=None, **options):
    return Training(
        TinyOptimizer(),
        [Quadratic(dimensions=2)],
        keras.optimizers.SGD(0.5),
        LossArgs(),
        perturbation=perturbation,
        estimator=estimator,
        repeat=3,
        **options,
    )


def train(training):
    records = list(training.train(0, np.random.default_rng(5), lambda rng: 2, 0.0))
    (weights,) = training.optimizer.network.get_weights()
    return [r.loss for r in records], weights


@pytest.mark.parametrize(
    "kind",
    [
        "gaussian",
        "projected_gradient",
        *(pytest.param(k, marks=pytest.mark.slow) for k in ("relative", "sign_gradient")),
    ],
)
def test_the_update_applies_to_the_weights_themselves(kind):
    """Without a meta-learning rate they stay; with one, the noise itself never adds up."""
    start = TinyOptimizer().network.get_weights()[0]
    training = make(Perturbation(kind, 0.3))
    gradients = []
    apply = training.meta_optimizer.apply
    training.meta_optimizer.apply = lambda g, w: (gradients.append(g[0].numpy()), apply(g, w))
    losses, weights = train(training)
    assert len(gradients) == 3
    np.testing.assert_allclose(weights, start - 0.5 * np.sum(gradients, 0), rtol=1e-5)
    assert losses != train(make(None))[0]


def test_a_validation_is_not_perturbed():
    found = []
    for perturbation in (None, Perturbation("gaussian", 0.5)):
        rngs = [np.random.default_rng(k) for k in range(4)]
        found.append([r.loss for r in make(perturbation).validate(0, rngs, 1)])
    assert found[0] == found[1]


@pytest.mark.parametrize("estimator", [ES, PES, FullES])
@pytest.mark.parametrize(
    "kind",
    # To an estimator it is noise as the other.
    [pytest.param(k, marks=pytest.mark.slow) if k == "relative" else k for k in KINDS],
)
def test_evolution_strategies_take_noise_only(kind, estimator):
    if kind in ("gaussian", "relative"):
        losses, weights = train(make(Perturbation(kind, 0.3), estimator()))
        plain = train(make(None, estimator()))
        assert losses != plain[0]
        assert np.isfinite(weights).all()
        return
    with pytest.raises(UserError) as error:
        make(Perturbation(kind), estimator())
    assert error.value.path == "training/perturbation/kind"
    assert "expected gaussian or relative" in error.value.message


def test_a_rehearsal_leaves_a_persistent_teacher_as_it_is():
    """Its momentum goes on once, although its unroll runs twice."""
    ends = []
    for kind in (None, "sign_gradient"):
        step = MetaStep(
            TinyOptimizer(),
            Quadratic(dimensions=2),
            estimator=TruncatedBackprop(),
            perturbation=kind and Perturbation(kind),
        )
        params = step.problem.init(0).params

        def momentum():
            return keras.optimizers.SGD(0.1, momentum=0.9)

        teacher = Teacher(momentum, step.optimizee, params, persistent=True)
        step.imitation = ImitationLoss(teachers=[teacher])
        meta = keras.optimizers.SGD(0.0)
        meta.build(step.optimizer.network.trainable_variables)
        state = step.start(step.problem.init(3))
        for _ in range(2):
            step.imitate(meta, tf.constant(0), state, (), 3)
        ends.append([v.numpy() for v in teacher.optimizers[0][0].variables])
    assert ends[0][0] == ends[1][0] == 6, "iterations"
    for a, b in zip(*ends, strict=True):
        np.testing.assert_array_equal(a, b)


def config(directory, kind):
    return {
        "directory": directory,
        "constructor": "Tiny",
        "problems": [{"target": "Quadratic", "kwargs": {"dimensions": 2}}],
        "training": {"perturbation": {"kind": kind, "size": 0.1}, "repeat": 2},
        "optimizer": {"config": {"learning_rate": 0.1}},
        "strategy": {"epochs_per_period": 1, "num_periods": 3, "unroll_distribution": 2},
    }


def files(directory):
    run = RunDirectory(directory)
    checkpoints = [p.read_bytes() for p in sorted(run.path.glob("checkpoints/*.npz"))]
    return run.summary_path.read_bytes(), checkpoints


# It sees a gradient. The others draw from the same seeds, and a run keeps nothing of any of them.
@pytest.mark.parametrize(
    "kind",
    [k if k == "sign_gradient" else pytest.param(k, marks=pytest.mark.slow) for k in KINDS],
)
def test_a_killed_run_ends_as_an_undisturbed_one(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(OPTIMIZERS.entries, "Tiny", TinyOptimizer)
    monkeypatch.setattr(Runner, "_validate", lambda self, *_: 0.0)
    start(config("whole", kind))
    write = RunDirectory.write_period

    def dying(run, row, *args):
        if row.period == 1:
            raise Death
        write(run, row, *args)

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "write_period", dying)
        with pytest.raises(Death):
            start(config("run", kind))
    assert len(RunDirectory("run").rows()) == 1
    start(config("run", kind))
    assert files("run") == files("whole")
    written = RunDirectory("run").read_config()["training"]["perturbation"]
    assert written == {"kind": kind, "size": 0.1}
