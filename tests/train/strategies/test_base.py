"""Simple runs: periods, resuming, one trace, what is written."""

import numpy as np
import pytest
import tensorflow as tf

import l2o
from l2o.errors import UserError
from l2o.problems import Instance, Problem, ProblemSpec
from l2o.train import LossArgs, RunDirectory, Runner, SimpleStrategy, Training
from l2o.train.runs.summary import Row
from l2o.train.strategies import schedules
from l2o.train.strategies.base import BaseStrategy, Finished, Period
from l2o.train.strategies.schedules import Fixed
from tests.draws import same_draws
from tests.tiny_rule import TinyOptimizer
from tests.train.parabola import TEACHERS, Parabola

ADAM = {"class_name": "Adam", "config": {"learning_rate": 0.01}}


def make(directory=None, seed=0, periods=3, training=None, sizes=(7,), **options):
    usual = {"epochs_per_period": 3, "unroll_distribution": 3, "validation_unroll": 6}
    options = {**usual, **options}
    same_draws(seed)
    made = Training(
        TinyOptimizer(),
        [ProblemSpec(lambda size=size: Parabola(size)) for size in sizes],
        ADAM,
        LossArgs(),
        **{"repeat": 2, **(training or {})},
    )
    run = RunDirectory(directory) if directory else None
    return Runner(made, SimpleStrategy(num_periods=periods, **options), run, seed)


def test_one_trace_for_a_whole_run_with_geometric_lengths():
    runner = make(periods=4, unroll_distribution=0.2)
    lengths = []
    draw = runner.strategy._draw_length
    runner.strategy._draw_length = lambda rng: lengths.append(draw(rng)) or lengths[-1]
    runner.train()
    assert len(set(lengths)) > 5
    for step in runner.training.steps:
        assert step.traces("train") == 1
    for step in runner.training.validation_steps:
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
    runner = make(periods=2, training={"p_teacher": 0.0}, unroll_distribution=4)
    runner.training.meta_optimizer.learning_rate = 0.0
    rows = runner.train()
    assert rows[0].validation_loss == rows[1].validation_loss
    assert rows[0].meta_loss != rows[1].meta_loss


def test_rows_count_what_happened():
    runner = make(
        periods=1,
        sizes=(None, 7),
        unroll_distribution=4,
        training={"teachers": TEACHERS, "p_teacher": 1.0},
        annealing_schedule=[1.0],
    )
    (row,) = runner.train()
    # Per epoch: 2 unrolls without data, 2 for 7 mini-batches with it.
    assert row.unrolls == row.imitation_unrolls == 3 * 4
    assert row.inner_steps == 3 * 4 * 4
    assert row.dropped == 0
    assert row.meta_loss is None
    assert row.imitation_loss is not None
    assert np.isfinite(row.validation_loss)


def test_the_schedule_anneals_the_imitation():
    factors = [
        SimpleStrategy(annealing_schedule=schedule, num_periods=3).plan([None] * period).annealing
        for schedule in (0.5, [0.2, 0.4, 0.6], lambda i: i / 10)
        for period in range(3)
    ]
    np.testing.assert_allclose(factors, [*np.exp([0, -0.5, -1]), 0.2, 0.4, 0.6, 0, 0.1, 0.2])


class Spoken(BaseStrategy):
    """Two periods, each with a part of what a plan may say."""

    def __init__(self, **said):
        super().__init__(epochs_per_period=2)
        self.said = said

    def plan(self, rows):
        i = len(rows)
        said = {"validation_unroll": 2, **self.said}
        return Period(0, i, Fixed(3), **said) if i < 2 else Finished("enough")

    def share_done(self, rows):
        return None


def imitating(**said):
    training = {"teachers": TEACHERS, "p_teacher": 0.5}
    runner = make(training=training)
    runner.strategy = Spoken(**said)
    asked, train = [], runner.training.train
    runner.training.train = lambda *args: asked.append(args[3]) or train(*args)
    return runner.train(), asked


def test_a_strategy_that_is_silent_about_imitation_does_not_switch_it_off():
    rows, asked = imitating()
    assert asked == [0.5] * 4
    assert all(0 < row.imitation_unrolls < row.unrolls for row in rows)
    rows, asked = imitating(annealing=0.0)
    assert asked == [0.0] * 4
    assert not any(row.imitation_unrolls for row in rows)


def test_a_period_that_says_nothing_has_the_defaults():
    assert Period(0, 0, Fixed(3)) == Period(0, 0, Fixed(3), 1.0, 50, None)
    assert SimpleStrategy(unroll_distribution=3).plan([]) == Period(0, 0, Fixed(3))
    # What it starts from and validates on is its own to say.
    runner = make()
    runner.strategy = Spoken(validation_unroll=2, start=(0, 0))
    with pytest.raises(UserError, match="no checkpoint of stage 0, period 0 in memory"):
        runner.train()


def test_a_strategy_is_data_that_many_runs_may_have():
    strategy = SimpleStrategy(num_periods=1, epochs_per_period=1, unroll_distribution=2)
    before = dict(vars(strategy))
    made = [make().training for _ in range(2)]
    assert Runner(made[0], strategy).train() == Runner(made[1], strategy, seed=0).train()
    assert vars(strategy) == before


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


@pytest.mark.parametrize(
    "name",
    [
        n if n == "Celo2" else pytest.param(n, marks=pytest.mark.slow)
        for n in sorted(l2o.optimizer.OPTIMIZERS.entries)
    ],
)
def test_where_every_gradient_is_zero_training_goes_on(name):
    optimizer = l2o.optimizer.OPTIMIZERS.entries[name]()
    before = optimizer.network.get_weights()
    made = Training(optimizer, [Flat()], ADAM, LossArgs(), repeat=3)
    lengths = {"unroll_distribution": 3, "validation_unroll": 2}
    strategy = SimpleStrategy(num_periods=1, epochs_per_period=1, **lengths)
    (row,) = Runner(made, strategy).train()
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


def exploding(some, run=None, **options):
    made = Training(TinyOptimizer(), [Exploding(some)], ADAM, LossArgs(), repeat=4, depth=1)
    return Runner(made, explosive(**options), run)


def explosive(**options):
    options = {"num_periods": 3, "validation_unroll": 2, "unroll_distribution": 4, **options}
    return SimpleStrategy(epochs_per_period=6, **options)


def test_a_run_that_learns_nothing_stops_and_says_why(tmp_path):
    run = RunDirectory(tmp_path)
    runner = exploding(False, run=run)
    before = runner.training.optimizer.network.get_weights()
    with pytest.raises(UserError, match=r"strategy/max_dropped: the run stops after period 0: 24"):
        runner.train()
    for a, b in zip(before, runner.training.optimizer.network.get_weights(), strict=True):
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
    strict = explosive(max_dropped=0.2)
    usual, loose = explosive(), explosive(max_dropped=1, num_periods=9)
    assert loose.would_have_run(usual, rows, 0.0)
    assert not strict.would_have_run(usual, rows, 0.0)


def test_another_annealing_is_another_run_only_where_something_imitates():
    rows = [Row(0, i, 0.1, None, None, 0.1, 10, 0, 10, 0) for i in range(2)]
    usual, other = explosive(), explosive(annealing_schedule=0.1)
    assert other.would_have_run(usual, rows, p_teacher=0.0)
    assert not other.would_have_run(usual, rows, p_teacher=0.2)
    assert other.would_have_run(usual, rows[:1], p_teacher=0.2), "period 0 has a factor of 1"
