"""Runs that are extended, claimed and refused, as train.py and resume.py have them."""

import csv
import json
import shutil

import pytest

import l2o
from config.overrides import merge_overrides
from l2o import keras_optimizers
from l2o.errors import UserError
from l2o.train import RunDirectory, session
from l2o.train.session import start
from tests.running import quick_periods

pytestmark = pytest.mark.usefixtures("quick_periods")

BASE = {
    "network": {"layers": [3]},
    "problems": [{"target": "Quadratic", "kwargs": {"dimensions": 2}}],
    "training": {"repeat": 2},
}
SIMPLE = {
    "num_periods": 1,
    "epochs_per_period": 1,
    "unroll_distribution": 2,
    "validation_unroll": 2,
}
TRAINED = ["strategy/num_periods=2", "strategy/unroll_distribution=1"]
CURRICULUM = {"min_periods": 1, "epochs_per_period": 1, "schedule": [2, 3, 4, 5]}


def config(path, strategy="Simple", *overrides):
    options = SIMPLE if strategy == "Simple" else CURRICULUM
    job = {**BASE, "directory": str(path), "strategy_constructor": strategy, "strategy": options}
    return merge_overrides(job, overrides)


def train(path, strategy, *overrides):
    start(config(path, strategy, *overrides))
    return path


def resume(path, *overrides):
    read = {**RunDirectory(path).read_config(), "directory": str(path)}
    start(merge_overrides(read, overrides), read)


def files(path):
    """All files but the log; of config.json what is no place."""
    found = {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    return {k: v for k, v in found.items() if k.name not in ("log.csv", "config.json")}


@pytest.mark.parametrize(
    ("strategy", "shorter", "longer"),
    [
        ("Simple", ["strategy/num_periods=1"], ["strategy/num_periods=3"]),
        pytest.param(
            "Simple",
            ["strategy/annealing_schedule=[0.5]"],
            ["strategy/annealing_schedule=[0.5,0.1]", "strategy/num_periods=2"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "CurriculumLearning",
            ["strategy/max_stages=1"],
            ["strategy/max_stages=2"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "CurriculumLearning",
            ["strategy/schedule=[2,3]"],
            ["strategy/schedule=[2,3,4]"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=["periods", "annealing", "stages", "schedule"],
)
def test_an_extended_run_is_the_longer_one(tmp_path, capsys, strategy, shorter, longer):
    whole = train(tmp_path / "whole", strategy, *longer)
    path = train(tmp_path / "extended", strategy, *shorter)
    done = len(RunDirectory(path).rows())
    assert done < len(RunDirectory(whole).rows())
    resume(path, *longer)
    assert f"going on after {done} periods in {path}" in capsys.readouterr().out
    assert files(path) == files(whole)
    assert len(files(path)) == 1 + len(RunDirectory(whole).rows())
    written = [json.loads((p / "config.json").read_text()) for p in (path, whole)]
    assert {**written[0], "directory": ""} == {**written[1], "directory": ""}
    # And it is what train.py takes for the same run from now on.
    before = files(path)
    start(config(path, strategy, *longer))
    assert files(path) == before


def as_of_before_estimators(path):
    """Writes a run's config.json as it was when `second_derivatives` was one of `training`."""
    written = json.loads((path / "config.json").read_text())
    del written["estimator_constructor"]
    own = written.pop("estimator")["second_derivatives"]
    written["training"]["second_derivatives"] = own
    (path / "config.json").write_text(json.dumps(written))
    return written


# Several runs, one after the other.
@pytest.mark.slow
def test_a_run_of_before_estimators_goes_on(tmp_path):
    through = "training/second_derivatives=true"
    whole = train(tmp_path / "whole", "Simple", "strategy/num_periods=2", through)
    path = train(tmp_path / "run", "Simple", through)
    old = as_of_before_estimators(path)
    assert old["training"]["second_derivatives"] is True
    # train.py and resume.py take it for the same run, in either spelling.
    for text in (through, "estimator/second_derivatives=true"):
        start(config(path, "Simple", text))
        resume(path, text)
        assert json.loads((path / "config.json").read_text()) == old
    for text in ("training/second_derivatives=false", "estimator/second_derivatives=false"):
        with pytest.raises(UserError, match=r"it differs in estimator/second_derivatives\)"):
            start(config(path, "Simple", text))
        with pytest.raises(UserError, match="1 trained periods; estimator/second_derivatives"):
            resume(path, text)
    assert l2o.load(path)
    resume(path, "strategy/num_periods=2")
    assert files(path) == files(whole)
    written = [json.loads((p / "config.json").read_text()) for p in (path, whole)]
    assert {**written[0], "directory": ""} == {**written[1], "directory": ""}


def test_a_config_is_resolved_once_and_each_optimizer_tried_once(tmp_path, monkeypatch):
    calls = []
    for name in ("resolve", "tried"):
        original = getattr(keras_optimizers, name)

        def counted(spec, path, name=name, original=original):
            calls.append((name, path))
            return original(spec, path)

        monkeypatch.setattr(keras_optimizers, name, counted)
    job = config(tmp_path / "run", "Simple", 'training/teachers=[{"class_name": "SGD"}]')
    job["training"]["imitation_optimizer"] = {}
    start(job, initialize=True)
    paths = ["optimizer", "training/imitation_optimizer", "training/teachers/0"]
    assert sorted(calls) == [(name, path) for name in ("resolve", "tried") for path in paths]


@pytest.mark.parametrize(
    ("overrides", "paths"),
    [
        (["strategy/num_periods=1"], "strategy/num_periods"),
        (["strategy/epochs_per_period=2"], "strategy/epochs_per_period"),
        (["strategy/validation_unroll=3"], "strategy/validation_unroll"),
        (["strategy/unroll_distribution=3", "strategy/num_periods=9"], "unroll_distribution"),
        (["strategy_constructor=CurriculumLearning"], "strategy_constructor"),
        (["strategy/num_periods=9", "seed=3", "training/epochs=2"], "seed, training/epochs would"),
        (["network/layers=[4]"], "network/layers"),
        # To Python 1 and 1.0 are the same; a length and a probability are not.
        (["strategy/unroll_distribution=1.0"], "strategy/unroll_distribution"),
        (["problems/1/target=Booth"], "problems/1/target"),
        (["optimizer/config/learning_rate=0.1"], "optimizer/config/learning_rate"),
    ],
)
def test_what_has_been_trained_does_not_change(trained, overrides, paths):
    before = {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()}
    with pytest.raises(UserError, match=f"has 2 trained periods; .*{paths}"):
        resume(trained, *overrides)
    assert {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()} == before


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    with quick_periods():
        return train(tmp_path_factory.mktemp("trained") / "run", "Simple", *TRAINED)


# What a strategy says of it is tested in strategies/test_base.py.
@pytest.mark.slow
def test_annealing_matters_where_there_is_something_to_anneal(tmp_path):
    taught = ['training/teachers=[{"class_name": "SGD"}]', "training/p_teacher=1"]
    path = train(tmp_path / "run", "Simple", *taught, "strategy/num_periods=2")
    with pytest.raises(UserError, match="strategy/annealing_schedule would have changed them"):
        resume(path, "strategy/annealing_schedule=0.1")
    resume(
        path, "strategy/annealing_schedule=[1.0,0.6065306597126334,0.1]", "strategy/num_periods=3"
    )
    assert len(RunDirectory(path).rows()) == 3


# A run that trains for several stages.
@pytest.mark.slow
def test_a_schedule_that_is_shorter_than_what_was_trained(tmp_path):
    path = train(tmp_path / "run", "CurriculumLearning", "strategy/schedule=[2,3,4]")
    assert RunDirectory(path).rows()[-1].stage == 1
    with pytest.raises(UserError, match="strategy/schedule would have changed them"):
        resume(path, "strategy/schedule=[2,3]")


@pytest.mark.parametrize("power", ["1000000", "1e308", "1e6"])
def test_a_schedule_that_turns_out_to_be_none_writes_nothing(tmp_path, power):
    options = ["strategy/schedule={}", f"strategy/schedule/power={power}"]
    with pytest.raises(UserError, match=r"strategy/schedule: expected a length from 1 to"):
        train(tmp_path / "run", "CurriculumLearning", *options)
    assert not (tmp_path / "run").exists() or list((tmp_path / "run").iterdir()) == []


def test_a_config_that_another_process_has_changed_meanwhile(trained):
    read = {**RunDirectory(trained).read_config(), "directory": str(trained)}
    read["strategy"] = {**read["strategy"], "num_periods": 1}
    with pytest.raises(UserError, match=r"config\.json has changed since it was read"):
        start(read, read)


def test_a_run_that_was_moved_goes_on_where_it_is(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "moved")
    resume(tmp_path / "moved", "strategy/num_periods=3")
    assert len(RunDirectory(tmp_path / "moved").rows()) == 3
    assert len(RunDirectory(trained).rows()) == 2


@pytest.mark.parametrize("directory", ["x" * 300, "a\0b", "a\nb", "\udcff", "x/" * 600])
def test_a_directory_that_is_no_path(directory, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="directory: "):
        start(config(directory))
    assert list(tmp_path.iterdir()) == []


def test_before_the_first_period_everything_may_change(tmp_path):
    path = tmp_path / "run"
    start(config(path), initialize=True)
    with pytest.raises(UserError, match=r"another config \(it differs in seed\)"):
        start(config(path, "Simple", "seed=1"))
    resume(path, "constructor=RNNProp", "network/layers=[2]", "seed=1")
    written = RunDirectory(path).read_config()
    assert (written["constructor"], written["seed"]) == ("RNNProp", 1)
    assert len(RunDirectory(path).rows()) == 1


def test_train_says_how_to_extend(trained, tmp_path):
    said = r"differs in strategy/num_periods\).* extend it with: l2o resume"
    with pytest.raises(UserError, match=said):
        start(config(trained, "Simple", *TRAINED, "strategy/num_periods=5"))


def test_another_process_is_waited_for(trained, monkeypatch):
    # It is told before anything is built, which takes time.
    monkeypatch.setattr(session, "build_training", None)
    with RunDirectory(trained).locked():
        for go_on in (lambda: resume(trained), lambda: start(config(trained, "Simple", *TRAINED))):
            with pytest.raises(UserError, match="is being written by process"):
                go_on()


def test_checkpoints_are_removed_when_it_is_asked_for_later(tmp_path):
    path = train(tmp_path / "run", "Simple", "strategy/num_periods=4")
    assert len(list((path / "checkpoints").iterdir())) == 4
    resume(path, "strategy/keep_checkpoints=1")
    run = RunDirectory(path)
    left = {run.checkpoint_path(0, row.period) for row in (run.best(), run.rows()[-1])}
    assert {*(path / "checkpoints").iterdir()} == left


def test_a_missing_checkpoint_is_made_again(tmp_path, capsys):
    path = train(tmp_path / "run", "Simple", "strategy/num_periods=3")
    before = files(path)
    RunDirectory(path).checkpoint_path(0, 2).unlink()
    resume(path)
    assert "the checkpoints of the last 1 periods are missing" in capsys.readouterr().out
    assert files(path) == before


def test_times_are_in_the_log(trained):
    lines = list(csv.DictReader((trained / "log.csv").open()))
    events = [line["event"] for line in lines]
    assert events == ["start", "period", "period", "finish"]
    assert "tensorflow" in lines[0]["about"]
    assert all(float(line["seconds"]) > 0 for line in lines if line["event"] == "period")
    assert "time" not in (trained / "summary.csv").read_text().splitlines()[0]
