"""Simple runs: periods, resuming, one trace, what is written."""

import numpy as np
import pytest
import tensorflow as tf

import l2o
from l2o.errors import UserError
from l2o.optimizer import TrainableOptimizer
from l2o.problems import Instance, Problem, ProblemSpec
from l2o.train import LossArgs, RunDirectory, SimpleStrategy, Training
from l2o.train.runs.summary import Row
from l2o.train.strategies import schedules
from tests.train.outer.test_training import TEACHERS, Parabola

ADAM = {"class_name": "Adam", "config": {"learning_rate": 0.01}}


@pytest.fixture(autouse=True)
def _not_compiled(monkeypatch):
    """These runs are so short that they would mostly wait for XLA's compiler."""
    monkeypatch.setattr(TrainableOptimizer, "xla", False)


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


@pytest.mark.slow
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

        end = line

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


class Flat(Problem):
    """An objective whose gradient is zero everywhere."""

    def init(self, seed):
        return Instance([tf.ones(3)], [])

    def objective(self, params, model_state, batch):
        return 1.0 + 0.0 * tf.reduce_sum(params[0] ** 2), model_state


@pytest.mark.parametrize("name", sorted(l2o.optimizer.OPTIMIZERS.entries))
def test_where_every_gradient_is_zero_training_goes_on(name):
    optimizer = l2o.optimizer.OPTIMIZERS.entries[name]()
    optimizer.xla = False
    before = optimizer.network.get_weights()
    made = Training(optimizer, [Flat()], ADAM, LossArgs(), repeat=3)
    (row,) = SimpleStrategy(
        made, None, 0, num_periods=1, epochs_per_period=1, validation_unroll=2
    ).train()
    assert (row.dropped, row.meta_loss, row.validation_loss) == (0, 0.0, 0.0)
    for a, b in zip(before, optimizer.network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


class Exploding(Parabola):
    """Is not finite from its third evaluation on; with `some`, a quarter of the instances."""

    def __init__(self, some):
        super().__init__(explode_from=2)
        self.some = some

    def init(self, seed):
        instance = super().init(seed)
        y, count = instance.model_state
        return instance._replace(model_state=[y, count - 1e6 * (self.some and seed % 4 > 0)])


def exploding(some, **options):
    made = Training(
        l2o.RNNPropOptimizer(layers=(3,)), [Exploding(some)], ADAM, LossArgs(), repeat=4, depth=1
    )
    options = {"num_periods": 3, "validation_unroll": 2, "unroll_distribution": 4, **options}
    return SimpleStrategy(made, options.pop("run", None), 0, epochs_per_period=6, **options)


def test_a_run_that_learns_nothing_stops_and_says_why(tmp_path):
    run = RunDirectory(tmp_path)
    strategy = exploding(False, run=run)
    before = strategy.training.optimizer.network.get_weights()
    with pytest.raises(UserError, match=r"strategy/max_dropped: the run stops after period 0: 24"):
        strategy.train()
    for a, b in zip(before, strategy.training.optimizer.network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    (row,) = run.rows()
    assert row.dropped == row.unrolls == 24
    # It stops again at once, and goes on where it was told to.
    with pytest.raises(UserError, match="stops after period 0"):
        exploding(False, run=run).train()
    assert len(run.rows()) == 1
    assert len(exploding(False, run=run, max_dropped=1).train()) == 3


def test_fewer_than_the_stated_share_are_counted_and_left_out():
    rows = exploding(True).train()
    assert len(rows) == 3
    assert 0 < rows[0].dropped < rows[0].unrolls / 2
    assert np.isfinite(rows[0].meta_loss)
    share = max(row.dropped / row.unrolls for row in rows)
    with pytest.raises(UserError, match="stops after"):
        exploding(True, max_dropped=0.9 * share).train()


def test_a_share_that_an_earlier_period_dropped_is_no_extension():
    rows = [Row(0, i, 0.1, None, None, 0.1, 10, 0, 10, dropped) for i, dropped in enumerate([3, 0])]
    strict = exploding(True, max_dropped=0.2)
    usual, loose = exploding(True), exploding(True, max_dropped=1, num_periods=9)
    assert loose.would_have_run(usual, rows)
    assert not strict.would_have_run(usual, rows)
