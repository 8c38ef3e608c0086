"""Stages: their lengths, when they end, what the next one starts from, resuming."""

from functools import partial

import numpy as np
import pytest

from l2o.errors import UserError
from l2o.problems import ProblemSpec
from l2o.train import CurriculumLearningStrategy, LossArgs, RunDirectory, Runner, Training
from l2o.train.runs.summary import Row, best_row
from l2o.train.strategies.base import Finished, Period
from tests.draws import same_draws
from tests.tiny_rule import TinyOptimizer
from tests.train.parabola import TEACHERS, Parabola


def rows(*stages):
    """Per stage: what it started from, then its validation losses."""
    return [
        Row(stage, period, 0.0, None, None if period else start, loss, 1, 0, 1, 0)
        for stage, (start, *losses) in enumerate(stages)
        for period, loss in enumerate(losses)
    ]


def test_a_stage_trains_with_its_length_and_validates_with_the_next():
    strategy = CurriculumLearningStrategy(schedule=[3, 5, 9], min_periods=1)
    first = strategy.plan([])
    assert (first.stage, first.period, first.start) == (0, 0, None)
    assert (first.draw_length(None), first.validation_unroll) == (3, 5)
    second = strategy.plan(rows([1.0, 0.5, 0.6]))
    assert (second.stage, second.period) == (1, 0)
    assert (second.draw_length(None), second.validation_unroll) == (5, 9)
    assert first.annealing == second.annealing == 1


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"base": 50, "power": 2}, [50, 100, 200, 400]),
        ({"base": 10}, [10, 20, 40, 80]),
        ({"power": 1.5}, [50, 75, 112, 169]),
        (lambda i: 7 * i + 1, [1, 8, 15, 22]),
        ([4, 4, 6, 8], [4, 4, 6, 8]),
        (np.array([4, 4, 6, 8]), [4, 4, 6, 8]),
        (lambda i: np.int64(i + 1), [1, 2, 3, 4]),
    ],
    ids=["both", "base", "power", "callable", "list", "array", "numpy"],
)
def test_schedules(schedule, expected):
    length = CurriculumLearningStrategy(schedule=schedule)._length
    assert [length(stage) for stage in range(4)] == expected


def test_the_default_schedule_is_the_seeds():
    first = CurriculumLearningStrategy().plan([])
    assert (first.draw_length(None), first.validation_unroll) == (50, 100)


@pytest.mark.parametrize(
    "options",
    [
        {"schedule": [3]},
        {"schedule": []},
        {"schedule": [3, 0]},
        {"schedule": [3, 5], "max_stages": 2},
        {"schedule": [3, 10**7]},
    ],
    ids=str,
)
def test_schedules_that_are_none(options):
    with pytest.raises(UserError, match="strategy/schedule"):
        CurriculumLearningStrategy(**options)


def test_a_callable_that_gives_no_length_is_refused():
    with pytest.raises(UserError, match="strategy/schedule"):
        CurriculumLearningStrategy(schedule=lambda i: 1 - i).plan([])


def test_a_stage_lasts_min_periods_and_on_while_validation_improves():
    strategy = CurriculumLearningStrategy(min_periods=3)

    def next_of(*losses):
        period = strategy.plan(rows([1.0, *losses]))
        return period.stage, period.period

    assert next_of(0.9, 1.5) == (0, 2), "below min_periods whatever it validates at"
    assert next_of(0.9, 0.8, 0.7) == (0, 3), "still improving"
    assert next_of(0.9, 0.8, 0.7, 0.6) == (0, 4)
    assert next_of(0.9, 0.6, 0.7) == (1, 0), "no better than period 1"
    assert next_of(0.9, 0.8, 0.7, 0.7) == (1, 0)
    assert next_of(0.9, float("inf"), 0.95) == (1, 0)


def test_the_next_stage_starts_from_the_best_weights():
    strategy = CurriculumLearningStrategy(min_periods=2)
    assert strategy.plan(rows([1.0, 0.4, 0.6])).start == (0, 0)
    assert strategy.plan(rows([1.0, 0.8, 0.6, 0.7])).start == (0, 1)
    assert strategy.plan(rows([1.0, 0.5, 0.6], [2.0, 1.0, 1.5])).start == (1, 0)
    assert strategy.plan(rows([1.0, 0.5, 0.6], [2.0])[:2]).start == (0, 0)


def test_the_reasons_to_end():
    better = rows([1.0, 0.5, 0.6])
    worse = rows([1.0, 0.5, 0.6], [0.7, 0.7, 0.9])
    diverged = rows([float("inf"), float("inf"), float("inf")])
    for history in (worse, diverged):
        end = CurriculumLearningStrategy(min_periods=2).plan(history)
        assert isinstance(end, Finished)
        assert "validates better than the weights it started from" in end.reason
    two = partial(CurriculumLearningStrategy, min_periods=2)
    assert "max_stages" in two(max_stages=1).plan(better).reason
    assert "schedule ends" in two(schedule=[3, 4]).plan(better).reason
    assert isinstance(two(max_stages=2).plan(better), Period)


def test_lengths_that_outgrow_every_unroll_end_the_run():
    strategy = CurriculumLearningStrategy(schedule={"base": 400_000, "power": 2}, min_periods=1)
    assert isinstance(strategy.plan([]), Period)
    end = strategy.plan(rows((0.5, 0.2, 0.3)))
    assert end == Finished("the lengths of stage 1 are longer than any unroll may be")


def test_the_best_row_of_all_stages_is_that_of_the_last_that_improved():
    improved = rows([1.0, 0.5, 0.6], [3.0, 2.0, 2.5])
    assert best_row(improved)[:2] == (1, 0), "losses of other lengths do not compare"
    assert best_row(rows([1.0, 0.5, 0.6], [0.3, 0.3, 0.4]))[:2] == (0, 0)
    assert best_row(rows([1.0, 2.0]))[:2] == (0, 0), "there is no better"


def test_the_share_that_is_done_grows_to_one_or_is_unknown():
    strategy = CurriculumLearningStrategy(min_periods=2, max_stages=2)
    history = rows([1.0, 0.9, 0.8, 0.7, 0.7], [1.0, 0.9, 0.8])
    shares = [strategy.share_done(history[:n]) for n in range(len(history) + 1)]
    assert shares == [0, 0.25, 0.5, 0.5, 0.5, 0.75, 1]
    assert CurriculumLearningStrategy().share_done(history) is None


def make(directory=None, rate=0.01, training=None, **options):
    same_draws(0)
    made = Training(
        TinyOptimizer(),
        [ProblemSpec(lambda: Parabola(7))],
        {"class_name": "Adam", "config": {"learning_rate": rate}},
        LossArgs(),
        **(training or {}),
    )
    run = RunDirectory(directory) if directory else None
    options = {
        "epochs_per_period": 2, "schedule": [3, 5, 8, 11], "min_periods": 2, "max_stages": 3,
        **options,
    }  # fmt: skip
    return Runner(made, CurriculumLearningStrategy(**options), run)


def recorded(call, kind, lengths):
    def spy(*args):
        lengths.append((kind, args[-1]))
        return call(*args)

    return spy


class Lines:
    def __init__(self):
        self.lines, self.shares = [], []

    def update(self, text, done):
        self.shares.append(done)

    def line(self, text):
        self.lines.append(text)

    end = line


def test_a_run_trains_stage_after_stage_and_says_why_it_ends(tmp_path):
    progress = Lines()
    runner = make(tmp_path)
    lengths = []
    (step,), (validation,) = runner.training.steps, runner.training.validation_steps
    for owner, kind in ((step, "train"), (validation, "validate")):
        setattr(owner, kind, recorded(getattr(owner, kind), kind, lengths))
    found = runner.train(progress)
    assert {n for kind, n in lengths if kind == "train"} == {3, 5, 8}
    assert {n for kind, n in lengths if kind == "validate"} == {5, 8, 11}
    assert {row.stage for row in found} == {0, 1, 2}
    assert progress.lines[-1] == f"finished: {runner.strategy.plan(found).reason}"
    assert any(line.startswith("stage 1, period 0, start loss") for line in progress.lines)
    assert progress.shares == sorted(progress.shares)
    assert progress.shares[-1] <= 1
    assert step.traces("train") == validation.traces("validate") == 1
    # The weights a stage starts from are the best ones of the stage before.
    run = RunDirectory(tmp_path)
    for stage in (1, 2):
        before = best_row([row for row in found if row.stage == stage - 1])
        runner.training.load_state(run.read_checkpoint(before.stage, before.period), "")
        period = runner.strategy._make(stage, 0)
        first = next(row for row in found if row.stage == stage)
        assert runner._validate(period, lambda *_: None) == first.start_loss
        assert all(row.start_loss is None for row in found if row.period > 0)
    assert run.best() == best_row(found)


# It runs every stage twice.
@pytest.mark.slow
def test_a_run_without_a_directory_is_the_same(tmp_path):
    assert make().train() == make(tmp_path).train()


def test_weights_that_do_not_change_end_the_run():
    progress = Lines()
    found = make(rate=0.0).train(progress)
    assert len(found) == 2
    assert found[0].start_loss == found[0].validation_loss == found[1].validation_loss
    assert "no period of stage 0" in progress.lines[-1]


@pytest.mark.slow
def test_killed_again_and_again_inside_stages_and_at_their_boundaries(tmp_path):
    training = {
        "persistent": True,
        "teachers": TEACHERS,
        "p_teacher": 0.5,
        "imitation_optimizer": {"class_name": "SGD"},
    }
    whole = make(tmp_path / "whole", training=training).train()
    updates = Lines()
    make(tmp_path / "count", training=training).train(updates)

    class Killed(BaseException):
        pass

    class Killer(Lines):
        def __init__(self, stop):
            super().__init__()
            self.stop = stop

        def update(self, text, done):
            if self.stop in text:
                raise Killed

        def line(self, text):
            if text.startswith(self.stop):
                raise Killed

    stage = max(row.stage for row in whole)
    assert stage == 2
    # Where it is stopped: within a stage, at the last word of one, at the first of the next.
    last = max(row.period for row in whole if row.stage == 0)
    stops = ["period 1, step", f"period {last},", "stage 1, period 0, step", "stage 1, period 0,"]
    for stop in [*stops, "stage 2, period 0, validation"]:
        with pytest.raises(Killed):
            make(tmp_path / "killed", training=training).train(Killer(stop))
    assert make(tmp_path / "killed", training=training).train() == whole
    a, b = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "killed")
    assert a.summary_path.read_bytes() == b.summary_path.read_bytes()
    for row in whole:
        expected, got = (run.read_checkpoint(row.stage, row.period) for run in (a, b))
        assert expected.keys() == got.keys()
        for name in expected:
            np.testing.assert_array_equal(expected[name], got[name], err_msg=name)
