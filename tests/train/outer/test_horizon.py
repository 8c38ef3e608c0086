"""Trainings of drawn lengths, out of step with each other."""

import numpy as np
import pytest
import tensorflow as tf

from l2o.errors import UserError
from l2o.train import LossArgs, Replicas, RunDirectory, Runner, SimpleStrategy, Training
from l2o.train.estimators import ES, PES, FullES, TruncatedBackprop
from l2o.train.outer.iteration import Ages, Lengths, UnrollRecord, draw_training_length
from l2o.train.outer.signal_to_noise import Signal
from tests.draws import same_draws
from tests.tiny_rule import TinyOptimizer
from tests.train.parabola import Parabola

ENDS = (100, 2000)


def ages(horizon, optimizees, seed=0, **options):
    rngs = np.random.default_rng(seed).spawn(optimizees)
    return Ages(Lengths(1, 1, 0, False, horizon), rngs, **options)


def lives(given, unroll, total):
    """Per optimizee, the steps of its trainings one after the other, in unrolls of one length."""
    count = len(given._unrolls)
    found, steps = [[] for _ in range(count)], [0] * count
    for _ in range(total // unroll):
        replaced = given.after(unroll, [True] * count)
        for k in range(count):
            steps[k] += unroll
            if replaced[k]:
                found[k].append(steps[k])
                steps[k] = 0
    return found


def test_lengths_are_log_uniform_between_both_ends():
    rng = np.random.default_rng(0)
    drawn = np.array([draw_training_length(rng, ENDS) for _ in range(4000)])
    assert (drawn >= 100).all()
    assert (drawn <= 2000).all()
    quartiles = np.quantile(drawn, [0.25, 0.5, 0.75])
    np.testing.assert_allclose(quartiles, 100 * 20 ** np.array([0.25, 0.5, 0.75]), rtol=0.08)
    assert {draw_training_length(rng, (3, 3)) for _ in range(9)} == {3}


def test_a_training_ends_with_the_first_unroll_that_reaches_its_length():
    first, *later = np.array(lives(ages(ENDS, 1), 1, 40_000)[0])
    assert 1 <= first <= 2000
    assert min(later) >= 100
    assert max(later) <= 2000
    # The same lengths, in unrolls of 50, are rounded up.
    np.testing.assert_array_equal(
        lives(ages(ENDS, 1), 50, 20_000)[0][:9], 50 * np.ceil(np.array([first, *later][:9]) / 50)
    )


def test_the_first_trainings_have_a_random_part_behind_them():
    firsts = [own[0] for own in lives(ages(ENDS, 400), 1, 2000)]
    lengths = [draw_training_length(np.random.default_rng(k), ENDS) for k in range(4000)]
    assert np.mean(firsts) == pytest.approx(np.mean(lengths) / 2, rel=0.15)
    assert min(firsts) < 20
    assert len(set(firsts)) > 250


def test_what_diverges_or_is_a_whole_training_is_replaced_too():
    one = ages((50, 50), 2)
    assert one.after(1, [False, True])[0]
    # The new one has its whole length before it.
    assert [one.after(10, [True, True])[0] for _ in range(5)] == [False] * 4 + [True]
    assert ages((50, 50), 2, whole_trainings=True).after(1, [True, True]) == [True, True]


def make(estimator=None, **options):
    same_draws(0)
    return Training(
        TinyOptimizer(),
        [Parabola(size=11)],
        {"class_name": "Adam", "config": {"learning_rate": 0.01}},
        LossArgs(),
        estimator=estimator,
        batch_of_problems=4,
        **options,
    )


def run(training, horizon, length=5, seed=0):
    rng = np.random.default_rng(seed)
    return list(training.train(0, rng, lambda rng: length, 0.0, horizon))


# The states of PES are replaced in a test below.
@pytest.mark.parametrize(
    "estimator", [None, pytest.param(PES(), marks=pytest.mark.slow)], ids=["backprop", "PES"]
)
def test_optimizees_are_replaced_one_by_one_without_a_new_trace(estimator):
    training = make(estimator)
    unrolls = run(training, (10, 40))
    assert len(unrolls) == 4 * 8, "as long as the longest training, not as an epoch of 11"
    replaced = np.array([u.replaced for u in unrolls]).reshape(8, 4)
    assert 4 <= replaced.sum() <= 16
    assert (replaced.sum(1) < 4).all(), "not all at once"
    assert training.steps[0].traces("train") == 1
    assert not replaced[-1].any(), "the iteration is over"
    # An optimizee for each replacement, and four to start with.
    training.problems[0].inits.clear()
    run(training, (10, 40))
    assert len(training.problems[0].inits) == 4 + replaced.sum()


def test_a_horizon_changes_no_other_draw():
    without, long = (
        [u.loss for u in run(make(epochs=2), horizon)][:8] for horizon in (None, (120, 120))
    )
    # Nothing is replaced in the first two unrolls of these lengths.
    assert without == long


def test_full_es_unrolls_whole_trainings():
    training = make(FullES(), epochs=10)
    unrolls = run(training, (10, 40))
    steps = {u.steps // 2 for u in unrolls}
    assert len(steps) > 2
    assert min(steps) >= 10
    assert max(steps) <= 40
    assert [u.replaced for u in unrolls] == [True] * (len(unrolls) - 4) + [False] * 4
    assert {u.steps for u in run(training, None)} == {10}, "both signs of five steps"


def test_the_state_of_a_pair_is_replaced_with_its_optimizee():
    training = make(PES(sigma=0.1))
    found, (step,) = [], training.steps
    train = step.train

    def spy(meta_optimizer, draws, state, batches, steps):
        result, after = train(meta_optimizer, draws, state, batches, steps)
        found.append((state, after))
        return result, after

    step.train = spy
    unrolls = run(training, (10, 40))
    replaced = np.array([u.replaced for u in unrolls]).reshape(-1, 4)
    for i, (before, after) in enumerate(found):
        np.testing.assert_allclose(after.xi, before.xi + after.e, rtol=1e-6)
        assert np.abs(after.e).min() > 0
        assert len(np.unique(after.e)) == tf.size(after.e), "each optimizee has an e of its own"
        last = replaced[i - 1] if i else np.ones(4, bool)
        for k in range(4):
            assert (not np.any(before.xi[k])) == last[k]
            fresh = np.array_equal(before.plus.params[0][k], before.minus.params[0][k])
            assert fresh == last[k], "both start from one point, and go on apart"


def test_the_default_has_no_horizon():
    assert TruncatedBackprop().copies == 1
    assert not any(u.replaced for u in run(make(epochs=4), None))


@pytest.mark.parametrize(
    ("estimator", "epochs"),
    [
        (PES(refresh=8), 1),
        # FullES keeps less: a training ends with each unroll.
        pytest.param(FullES(schedule="warmup_cosine"), 3, marks=pytest.mark.slow),
        pytest.param(TruncatedBackprop(schedule="cosine"), 3, marks=pytest.mark.slow),
    ],
    ids=["PES", "FullES", "backprop"],
)
def test_a_run_that_was_interrupted_is_the_undisturbed_one(tmp_path, estimator, epochs):
    def runner(path):
        strategy = SimpleStrategy(
            num_periods=2, epochs_per_period=1, unroll_distribution=0.3, horizon=(5, 30)
        )
        return Runner(make(estimator, epochs=epochs), strategy, RunDirectory(path), seed=3)

    def interrupt(rows):
        raise UserError("interrupted")

    whole = runner(tmp_path / "whole").train()
    with pytest.raises(UserError, match="interrupted"):
        runner(tmp_path / "killed").train(on_period=interrupt)
    again = runner(tmp_path / "killed")
    assert again.train() == whole
    assert all(row.replaced for row in whole)
    for name, array in RunDirectory(tmp_path / "whole").read_checkpoint(0, 1).items():
        np.testing.assert_array_equal(again.run.read_checkpoint(0, 1)[name], array)


# What is split is that of distributed/test_replicas.py, and what an estimator keeps that of
# estimators/test_base.py.
@pytest.mark.slow
@pytest.mark.parametrize("estimator", [e(sigma=0.1) for e in (PES, ES, FullES)])
def test_two_devices_give_what_one_gives(estimator):
    two = Replicas(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
    one, shared = make(estimator), make(estimator, replicas=two)
    for a, b in zip(run(one, (10, 40)), run(shared, (10, 40)), strict=True):
        assert a.replaced == b.replaced
        np.testing.assert_allclose(a.loss, b.loss, rtol=1e-4)
        np.testing.assert_allclose(a.gradient, b.gradient, rtol=1e-3)


def test_a_period_keeps_no_gradients_and_counts_none_that_was_not_applied(tmp_path):
    strategy = SimpleStrategy(num_periods=1, epochs_per_period=1, unroll_distribution=3)
    (row,) = Runner(make(), strategy).train()
    assert row.gradient_norm > 0
    same_draws(0)
    never = Training(
        TinyOptimizer(),
        [Parabola(size=11, explode_from=0)],
        {"class_name": "Adam"},
        LossArgs(),
    )
    with pytest.raises(UserError, match="unrolls were dropped"):
        Runner(never, strategy, RunDirectory(tmp_path)).train()
    (row,) = RunDirectory(tmp_path).rows()
    assert row.dropped == row.unrolls
    assert row.gradient_norm is None


def test_signal_to_noise_of_known_gradients():
    rng, mean = np.random.default_rng(0), np.array([3.0, 4.0])
    signal = Signal()
    record = UnrollRecord(0.0, 0.0, 1, False, True)
    for _ in range(4000):
        gradient = (mean + rng.normal(scale=2.0, size=2)).astype("float32")
        for _ in range(3):  # the optimizees of one meta-step
            signal.add(record._replace(gradient=gradient))
    signal.add(record._replace(gradient=np.full(2, np.nan)))
    signal.add(record._replace(gradient=100 * mean, imitation=True))
    assert signal.to_noise == pytest.approx(25 / 8, rel=0.05)
    noise = Signal()
    for _ in range(4000):
        noise.add(record._replace(gradient=rng.normal(size=50)))
    assert noise.to_noise < 1e-3
    assert noise.norm == pytest.approx(50**0.5, rel=0.02)
    assert Signal().to_noise is Signal().norm is None
