"""The hook of `Runner.train`: what it gets, and that nothing it does changes the run."""

import csv

import keras
import numpy as np
import pytest

from l2o.errors import UserError
from l2o.problems import Quadratic
from l2o.train import CurriculumLearningStrategy, LossArgs, RunDirectory, Runner, SimpleStrategy
from l2o.train import Training as L2OTraining
from l2o.train.distributed.devices import Replicas
from tests.tiny_rule import TinyOptimizer

quick = pytest.mark.usefixtures("quick_periods")


def runner(path=None, periods=3, strategy=None, **options):
    training = L2OTraining(
        TinyOptimizer(), [Quadratic(dimensions=2)], {"class_name": "Adam"}, LossArgs(), repeat=1,
        **options,
    )  # fmt: skip
    strategy = strategy or SimpleStrategy(
        num_periods=periods, epochs_per_period=1, unroll_distribution=3, validation_unroll=2
    )
    return Runner(training, strategy, path and RunDirectory(path), seed=3)


def written(path):
    """What a run has computed: the summary and every array of every checkpoint."""
    run = RunDirectory(path)
    arrays = {
        (row.period, name): array.tobytes()
        for row in run.rows()
        for name, array in run.read_checkpoint(row.stage, row.period).items()
    }
    return run.summary_path.read_bytes(), arrays


def test_it_gets_the_rows_of_the_summary_as_a_plain_dict(tmp_path):
    found = []
    strategy = CurriculumLearningStrategy(
        schedule=[2, 3, 4], min_periods=1, max_stages=2, epochs_per_period=1
    )
    runner(tmp_path, strategy=strategy).train(on_period=found.append)
    with RunDirectory(tmp_path).summary_path.open() as file:
        rows = list(csv.DictReader(file))
    assert [period["number"] for period in found] == list(range(1, len(rows) + 1))
    assert {period["stage"] for period in found} == {0, 1}
    for period, row in zip(found, rows, strict=True):
        assert type(period) is dict
        assert period.keys() == {"directory", "number", *row}
        assert period["directory"] == str(tmp_path)
        assert {type(value) for value in period.values()} <= {str, int, float, type(None)}
        for name, text in row.items():
            assert ("" if period[name] is None else str(period[name])) == text


@quick
def test_a_run_in_memory_has_no_directory():
    found = []
    runner(periods=1).train(on_period=found.append)
    assert [(period["directory"], period["number"]) for period in found] == [(None, 1)]


@quick
def test_a_resumed_run_tells_new_periods_only_and_goes_on_counting(tmp_path):
    found = []
    runner(tmp_path, 1).train(on_period=found.append)
    runner(tmp_path, 3).train(on_period=found.append)
    runner(tmp_path, 3).train(on_period=found.append)
    assert [(period["number"], period["period"]) for period in found] == [(1, 0), (2, 1), (3, 2)]


@quick
@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("x"),
        pytest.param(StopIteration(), marks=pytest.mark.slow),
        KeyboardInterrupt(),
    ],
)
def test_an_error_stops_the_run_after_the_period_which_is_kept(tmp_path, error):
    runner(tmp_path / "whole").train()

    def fail(period):
        if period["number"] == 2:
            # The period is complete on disk when the hook is called.
            assert len(RunDirectory(tmp_path / "stopped").rows()) == 2
            raise error

    with pytest.raises(type(error)):
        runner(tmp_path / "stopped").train(on_period=fail)
    log = RunDirectory(tmp_path / "stopped").log_path.read_text()
    assert "stop" in log.splitlines()[-1]
    found = []
    runner(tmp_path / "stopped").train(on_period=found.append)
    assert [period["number"] for period in found] == [3]
    assert written(tmp_path / "stopped") == written(tmp_path / "whole")


@quick
def test_nothing_that_it_does_changes_the_run(tmp_path):
    def disturb(period):
        period.update(validation_loss=-9.0, stage=7, number=0)
        period.pop("period")
        keras.utils.set_random_seed(period["number"])
        model = keras.Sequential([keras.layers.Dense(2)])
        model.compile("adam", "mse")
        model.fit(np.ones((4, 2)), np.ones((4, 2)), verbose=0)
        return "a value"

    runner(tmp_path / "whole").train()
    rows = runner(tmp_path / "disturbed").train(on_period=disturb)
    assert rows == RunDirectory(tmp_path / "whole").rows()
    assert written(tmp_path / "disturbed") == written(tmp_path / "whole")


@pytest.mark.parametrize("hook", ["wandb.log", 3, [print]])
def test_what_cannot_be_called_is_refused_before_anything_is_written(tmp_path, hook):
    with pytest.raises(UserError, match="on_period: expected a callable; got"):
        runner(tmp_path / "run").train(on_period=hook)
    assert not (tmp_path / "run").exists()


@quick
def test_only_the_chief_calls_it(monkeypatch):
    found = []
    one = runner(periods=1)
    monkeypatch.setattr(Replicas, "is_chief", property(lambda self: False))
    one.train(on_period=found.append)
    assert found == []
