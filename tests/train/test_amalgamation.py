"""Optimizer amalgamation end to end: the policy is trained, and a student imitates it."""

import numpy as np
import pytest
import tensorflow as tf

import l2o
from l2o.optimizer import OPTIMIZERS
from l2o.train import ESTIMATORS, RunDirectory, Runner, build_training, resolve_config
from l2o.train.session import start
from tests.tiny_rule import TinyOptimizer
from tests.train.runs.test_crash import Death

POOL = {"pool": ["Adam", "PowerSign"], "rates": [0.125, 0.0625], "layers": [3]}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.setitem(OPTIMIZERS.entries, "Tiny", TinyOptimizer)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Runner, "_validate", lambda self, *_: 0.0)
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def config(directory, **job):
    return {
        "directory": directory,
        "constructor": "Choice",
        "network": POOL,
        "problems": [{"target": "Quadratic", "kwargs": {"dimensions": 2}}],
        "optimizer": {"config": {"learning_rate": 0.1}},
        "strategy": {"epochs_per_period": 1, "num_periods": 2, "unroll_distribution": 2},
        **job,
    }


def student(directory, *others, **training):
    learned = {"class_name": "l2o", "config": {"directory": "policy"}}
    options = {"teachers": [learned, *others], "p_teacher": 1.0, **training}
    return config(directory, constructor="Tiny", network={}, training=options)


def files(directory):
    run = RunDirectory(directory)
    checkpoints = [p.read_bytes() for p in sorted(run.path.glob("checkpoints/*.npz"))]
    return run.summary_path.read_bytes(), checkpoints


def die_in_the_second_period(job):
    write = RunDirectory.write_period

    def dying(run, row, *args):
        if row.period == 1:
            raise Death
        write(run, row, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunDirectory, "write_period", dying)
        with pytest.raises(Death):
            start(job)


@pytest.mark.parametrize("estimator", sorted(ESTIMATORS.entries))
def test_every_estimator_trains_the_policy(estimator):
    training = build_training(resolve_config(config("run", estimator_constructor=estimator)))
    before = training.optimizer.network.get_weights()
    (record,) = training.train(0, np.random.default_rng(0), lambda rng: 2, 0.0)
    assert record.finite
    assert np.abs(record.gradient).max() > 0
    after = training.optimizer.network.get_weights()
    assert all(np.any(a != b) for a, b in zip(before, after, strict=True))


def test_a_killed_policy_ends_as_an_undisturbed_one():
    start(config("whole", training={"persistent": True}))
    die_in_the_second_period(config("run", training={"persistent": True}))
    start(config("run", training={"persistent": True}))
    assert files("run") == files("whole")


def test_a_student_follows_the_mixture():
    start(config("policy"))
    die_in_the_second_period(student("run"))
    start(student("run"))
    start(student("whole"))
    assert files("run") == files("whole")

    training = build_training(resolve_config(student("other")))
    problem, starts = training.problems[0], []
    original = problem.init
    problem.init = lambda seed: starts.append(original(seed)) or starts[-1]
    (record,) = training.train(0, np.random.default_rng(0), lambda rng: 2, 1.0)
    instance, ends = starts[-1], []
    # Trained weights: those of the student are set back, because an update followed.
    for rule in (TinyOptimizer(), l2o.load("policy")):
        (x,), state, path = instance.params, rule.initial_state(instance.params), []
        for _ in range(2):
            with tf.GradientTape() as tape:
                tape.watch(x)
                f, _ = problem.objective([x], instance.model_state, ())
            (delta,), state = rule.update([x], [tape.gradient(f, x)], state)
            x = x + delta
            path.append(x.numpy())
        ends.append(path)
    distances = [np.sum((a - b) ** 2) for a, b in zip(*ends, strict=True)]
    np.testing.assert_allclose(record.loss, np.sum(np.log(np.array(distances) + 1e-6)), rtol=1e-4)


@pytest.mark.parametrize("strategy", ["mean", "max", "mean_log"])
def test_teachers_of_all_kinds_side_by_side(strategy):
    l2o.ChoiceOptimizer(**POOL).save("policy")
    others = [{"class_name": name} for name in ("PowerSign", "AddSign", "Adam")]
    losses = []
    for chosen in ([], *([other] for other in others), others):
        job = student("run", *chosen, strategy=strategy)
        training = build_training(resolve_config(job))
        (record,) = training.train(0, np.random.default_rng(0), lambda rng: 1, 1.0)
        losses.append(record.loss)
    alone, *pairs, together = losses
    # The distance to each other teacher, from that to it and the policy.
    p = np.exp(alone)
    if strategy == "mean":
        each = [2 * np.exp(pair) - p for pair in pairs]
        np.testing.assert_allclose(together, np.log(np.mean([p, *each])), rtol=1e-3)
    elif strategy == "max":
        np.testing.assert_allclose(together, max(pairs), rtol=1e-5)
    else:
        each = [2 * pair - alone for pair in pairs]
        np.testing.assert_allclose(together, np.mean([alone, *each]), rtol=1e-4)
    assert len({*losses}) > 2
