"""Simple runs: periods, resuming, one trace, what is written."""

import numpy as np
import pytest
import tensorflow as tf

import l2o
from l2o.errors import UserError
from l2o.problems import ProblemSpec
from l2o.train import LossArgs, RunDirectory, SimpleStrategy, Training, schedules
from tests.train.test_training import TEACHERS, Parabola

ADAM = {"class_name": "Adam", "config": {"learning_rate": 0.01}}


def make(directory=None, seed=0, periods=3, training=None, sizes=(7,), **options):
    options = {"epochs_per_period": 3, "validation_unroll": 6, **options}
    tf.keras.utils.set_random_seed(seed)
    made = Training(
        l2o.RNNPropOptimizer(layers=(4,)),
        [ProblemSpec(lambda size=size: Parabola(size)) for size in sizes],
        ADAM,
        LossArgs(),
        **{"repeat": 2, **(training or {})},
    )
    run = RunDirectory(directory) if directory else None
    return SimpleStrategy(made, run, seed, num_periods=periods, **options)


def test_one_trace_for_a_whole_run_with_geometric_lengths():
    strategy = make(periods=4, unroll_distribution=0.2)
    lengths = []
    draw = strategy._draw_length
    strategy._draw_length = lambda rng: lengths.append(draw(rng)) or lengths[-1]
    strategy.train()
    assert len(set(lengths)) > 5
    for step in strategy.training.steps:
        assert step.traces("train") == 1
    for step in strategy.training.validation_steps:
        assert step.traces("validate") == 1


def test_a_killed_and_resumed_run_equals_an_undisturbed_one(tmp_path):
    options = {
        "training": {
            "persistent": True,
            "batch_of_problems": 2,
            "teachers": TEACHERS,
            "p_teacher": 0.7,
            "imitation_optimizer": {"class_name": "SGD"},
        },
        "unroll_distribution": 0.3,
    }
    make(tmp_path / "whole", **options).train()

    class Killed(BaseException):
        pass

    class Killer:
        """Stops the run at a sign of life that contains `stop`."""

        def __init__(self, stop):
            self.stop = stop

        def update(self, text, done):
            if self.stop in text:
                raise Killed

        def line(self, text):
            pass

    for stop in ("period 0, step", "period 1, step", "period 2, validation"):
        with pytest.raises(Killed):
            make(tmp_path / "killed", **options).train(Killer(stop))
    assert 0 < len(RunDirectory(tmp_path / "killed").rows()) < 3
    make(tmp_path / "killed", **options).train()
    whole, killed = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "killed")
    assert whole.summary_path.read_bytes() == killed.summary_path.read_bytes()
    assert len(whole.rows()) == 3
    for row in whole.rows():
        expected = whole.read_checkpoint(row.stage, row.period)
        got = killed.read_checkpoint(row.stage, row.period)
        assert expected.keys() == got.keys()
        for name in expected:
            np.testing.assert_array_equal(expected[name], got[name], err_msg=name)


def test_seeds_make_runs(tmp_path):
    def losses(name, seed):
        return [r.meta_loss for r in make(tmp_path / name, seed=seed, periods=1).train()]

    assert losses("a", 1) == losses("b", 1) != losses("c", 2)


def test_validation_takes_the_same_optimizees_every_period():
    strategy = make(periods=2, training={"p_teacher": 0.0}, unroll_distribution=4)
    strategy.training.meta_optimizer.learning_rate = 0.0
    rows = strategy.train()
    assert rows[0].validation_loss == rows[1].validation_loss
    assert rows[0].meta_loss != rows[1].meta_loss


def test_rows_count_what_happened():
    strategy = make(
        periods=1,
        sizes=(None, 7),
        unroll_distribution=4,
        training={"teachers": TEACHERS, "p_teacher": 1.0},
        annealing_schedule=[1.0],
    )
    (row,) = strategy.train()
    # Per epoch: 2 unrolls without data, 2 for 7 mini-batches with it.
    assert row.unrolls == row.imitation_unrolls == 3 * 4
    assert row.inner_steps == 3 * 4 * 4
    assert row.dropped == 0
    assert row.meta_loss is None
    assert row.imitation_loss is not None
    assert np.isfinite(row.validation_loss)


def test_the_schedule_anneals_the_imitation():
    probabilities = [
        make(training={"teachers": TEACHERS, "p_teacher": 0.5}, annealing_schedule=schedule)
        .plan([None] * period)
        .p_teacher
        for schedule in (0.5, [0.2, 0.4, 0.6], lambda i: i / 10)
        for period in range(3)
    ]
    expected = [*(0.5 * np.exp([0, -0.5, -1])), 0.1, 0.2, 0.3, 0, 0.05, 0.1]
    np.testing.assert_allclose(probabilities, expected)


def test_unroll_distributions():
    rng = np.random.default_rng(0)
    draw = schedules.unroll_length(0.05)
    lengths = [draw(rng) for _ in range(4000)]
    assert min(lengths) == 1
    assert np.mean(lengths) == pytest.approx(20, rel=0.1)
    # A geometric variable exceeds twice its mean with probability 0.95^40.
    assert np.mean(np.array(lengths) > 40) == pytest.approx(0.95**40, rel=0.2)
    assert schedules.unroll_length(7)(rng) == 7
    assert schedules.unroll_length(lambda: 3.6)(rng) == 4
    assert schedules.unroll_length(lambda: 0.0)(rng) == 1


@pytest.mark.parametrize("wrong", [0, -1, 0.0, 1.5])
def test_unroll_distributions_that_are_none(wrong):
    with pytest.raises(UserError, match="strategy/unroll_distribution"):
        schedules.unroll_length(wrong)


@pytest.mark.parametrize("wrong", [[1.0], [1.0, 0.5, 2.0], -0.1])
def test_annealing_schedules_that_are_none(wrong):
    with pytest.raises(UserError, match="strategy/annealing_schedule"):
        schedules.annealing(wrong, periods=3)
