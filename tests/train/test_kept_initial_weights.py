"""The option `initial_weights`: what a run keeps of it, and what Python programs start from."""

import json
import shutil
from contextlib import ExitStack

import numpy as np
import pytest

import l2o
from config.overrides import merge_overrides
from l2o.optimizer import saved
from l2o.problems import Quadratic
from l2o.train import (
    CurriculumLearningStrategy,
    LossArgs,
    RunDirectory,
    Runner,
    SimpleStrategy,
    Training,
    build_training,
    sources,
)
from l2o.train.runs.claim import Claim
from l2o.train.session import start
from tests.tiny_rule import TinyOptimizer
from tests.train import starting
from tests.train.runs.test_crash import Death, Disk
from tests.train.starting import (
    OTHERS,
    STRATEGY,
    WEIGHTS,
    config,
    refused,
    save,
    sha256,
)

_here = starting.here


def resume(directory="run", *overrides):
    read = {**RunDirectory(directory).read_config(), "directory": directory}
    start(merge_overrides(read, overrides), read)


def files(directory="run"):
    """All files but the log; of config.json what is no place."""
    run = RunDirectory(directory)
    found = {p.relative_to(directory): p for p in run.path.rglob("*") if p.is_file()}
    content = {k: p.read_bytes() for k, p in found.items() if k.name not in ("log.csv", ".lock")}
    return {
        **content,
        run.config_path.relative_to(directory): {**run.read_config(), "directory": 0},
    }


def die_in_the_first_period(*job, **options):
    """Starts a run that dies when its first period is trained, but not written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunDirectory, "write_period", lambda *_: (_ for _ in ()).throw(Death))
        with pytest.raises(Death):
            start(config(*job, **options))
    assert RunDirectory(job[0] if job else "run").rows() == []


# What the run keeps.


def change_source(how):
    if how == "changed":
        save("source", OTHERS)
    elif how == "of another class":
        l2o.DMOptimizer(layers=(2,)).save("source")
    elif how == "damaged":
        saved.file_of("source").write_bytes(b"")
    else:
        shutil.rmtree("source")


@pytest.mark.parametrize(
    ("strategy", "how", "again"),
    [
        ("Simple", "changed", "resume"),
        ("Simple", "gone", "train"),
        ("Simple", "changed", "initialized"),
        ("CurriculumLearning", "changed", "train"),
        ("CurriculumLearning", "gone", "resume"),
    ],
)
def test_killed_in_the_first_period_it_ends_as_undisturbed(strategy, how, again, capsys):
    start(config("whole", strategy=strategy))
    if again == "initialized":
        start(config(strategy=strategy), initialize=True)
    else:
        die_in_the_first_period(strategy=strategy)
    change_source(how)
    capsys.readouterr()
    start(config(strategy=strategy)) if again == "train" else resume()
    path = RunDirectory("run").initial_path(sha256(WEIGHTS))
    line = f"source has other learned weights now; this run keeps to {path}\n"
    printed = capsys.readouterr().out
    assert (line in printed) == (how == "changed")
    assert "initial weights: those of source (tested)\n" in printed
    assert files("run") == files("whole")


@pytest.mark.parametrize(
    "how",
    [
        "changed",
        "gone",
        pytest.param("of another class", marks=pytest.mark.slow),
        pytest.param("damaged", marks=pytest.mark.slow),
    ],
)
def test_after_the_first_period_the_source_does_not_matter(how, capsys):
    start(config("whole"))
    start(config("run", "strategy/num_periods=1"))
    RunDirectory("run").initial_path(sha256(WEIGHTS)).unlink()
    change_source(how)
    capsys.readouterr()
    resume("run", "strategy/num_periods=2")
    printed = capsys.readouterr().out
    assert ("source has other learned weights now" in printed) == (
        how in ("changed", "of another class")
    )
    assert "initial weights:" not in printed
    whole = files("whole")
    del whole[RunDirectory("run").initial_path(sha256(WEIGHTS)).relative_to("run")]
    assert files("run") == whole
    start(config("run"))
    assert files("run") == whole


def test_a_run_that_is_trained_further_is_a_source_that_changes(capsys):
    start(config("trained", "strategy/num_periods=1", initial_weights=None))
    start(config("whole", initial_weights="trained"))
    die_in_the_first_period(initial_weights="trained")
    run = RunDirectory("trained")
    better = {**run.read_checkpoint(0, 0), "network/0": np.float32(OTHERS)}
    run.write_period(run.rows()[0]._replace(period=1, validation_loss=-1.0), better)
    assert run.best().period == 1
    resume()
    assert "trained has other learned weights now" in capsys.readouterr().out
    assert files("run") == files("whole")


@pytest.mark.parametrize("other", ["other", None, "source/"])
def test_train_refuses_another_value(other):
    start(config("run", "strategy/num_periods=1"))
    save("other", OTHERS)
    message = refused(
        lambda: start(config("run", "strategy/num_periods=1", initial_weights=other)), ""
    )
    assert message == (
        "run holds a run with another config (it differs in initial_weights); nothing was written: "
        "choose another directory=..., go on with: l2o resume run, or extend it with: l2o "
        "resume run key/path=value"
    )
    message = refused(lambda: resume("run", f"initial_weights={json.dumps(other)}"), "")
    assert message.startswith("run has 1 trained periods; initial_weights would have changed them;")


def test_before_the_first_period_it_may_change():
    save("other", OTHERS)
    start(config("whole", initial_weights="other"))
    start(config(), initialize=True)
    resume("run", "initial_weights=other")
    assert files("run") == files("whole")
    # And to none at all.
    start(config("other_run"), initialize=True)
    resume("other_run", "initial_weights=null")
    assert list(RunDirectory("other_run").path.glob("initial_*")) == []
    assert RunDirectory("other_run").read_config()["initial_weights_sha256"] is None


@pytest.mark.parametrize("how", ["damaged", "exchanged"])
def test_a_record_that_was_changed_is_refused(how):
    die_in_the_first_period()
    path = RunDirectory("run").initial_path(sha256(WEIGHTS))
    if how == "damaged":
        path.write_bytes(path.read_bytes()[:-1])
        what = f"{path} is not a saved optimizer, or is damaged: File is not a zip file"
    else:
        save("other", OTHERS)
        shutil.copy("other/optimizer.npz", path)
        what = f"{path} has other learned weights than run/config.json says"
    then = "; without the file, they are read from source again, if they are still the same"
    assert refused(resume) == what + then
    assert refused(lambda: start(config())) == what + then
    # As it says.
    path.unlink()
    save("source", OTHERS)
    assert "source has other learned weights than before" in refused(resume)
    save("source", WEIGHTS)
    resume()
    start(config("whole"))
    assert files("run") == files("whole")


class Plan:
    """As much of a strategy as a claim asks for."""

    def __init__(self, **_):
        pass

    def plan(self, rows):
        pass


def claim(source, sha256=None, known=None):
    """What a session does with the disk before the first period; returns the weights."""
    run = RunDirectory("run")
    changes = {"initial_weights": source, "initial_weights_sha256": sha256}
    one = {"directory": "run", "distribute": "none", "strategy": {}, **changes}
    with ExitStack() as stack:
        claimed = Claim(one, run, known, dict)
        claimed.check(stack)
        claimed.read_initial(sources.read_initial)
        claimed.take(stack, Plan())
        return claimed.initial.weights[0].tolist()


def test_a_death_at_any_operation_leaves_a_config_and_its_weights():
    """The run is started from `source`, then told to start from `other`; the process may die."""
    save("other", OTHERS)
    kept = {name: saved.read(name) for name in ("source", "other")}
    deaths, found = 0, set()
    for left in range(1000):
        shutil.rmtree("run", ignore_errors=True)
        try:
            with pytest.MonkeyPatch.context() as patch:
                Disk(patch, left)
                claim("source")
                claim("other", known=RunDirectory("run").read_config())
            names = sorted(p.name for p in RunDirectory("run").path.iterdir())
            break
        except Death:
            deaths += 1
        if not RunDirectory("run").exists():
            continue
        # Only what the run has recorded is left.
        for name in kept:
            saved.write(name, kept[name]._replace(weights=[np.float32([[9], [9]])]))
        read = RunDirectory("run").read_config()
        got = claim(read["initial_weights"], read["initial_weights_sha256"], known=read)
        assert got == kept[read["initial_weights"]].weights[0].tolist()
        found.add(read["initial_weights"])
        left_over = sorted(p.name for p in RunDirectory("run").path.iterdir())
        assert len(left_over) == 2, left_over
        for name, whole in kept.items():
            saved.write(name, whole)
    assert len(names) == 2
    assert found == {"source", "other"}
    assert deaths > 20


# From Python.


def python(optimizer, periods=1, strategy=SimpleStrategy, **options):
    training = Training(
        optimizer,
        [Quadratic(2)],
        {"class_name": "SGD", "config": {"learning_rate": options.pop("rate", 0.01)}},
        LossArgs(use_log_objective=False),
    )
    if strategy is SimpleStrategy:
        options = {"num_periods": periods, "unroll_distribution": 1, "validation_unroll": 1}
    return Runner(training, strategy(epochs_per_period=1, **options), RunDirectory("run"))


@pytest.mark.parametrize("strategy", [SimpleStrategy, CurriculumLearningStrategy])
def test_a_training_goes_on_from_the_weights_of_its_optimizer(strategy):
    options = {"schedule": [1, 1], "min_periods": 1} if strategy is not SimpleStrategy else {}
    python(l2o.load("source"), rate=0.0, strategy=strategy, **options).train()
    checkpoint = RunDirectory("run").read_checkpoint(0, 0)
    np.testing.assert_array_equal(checkpoint["network/0"], np.float32(WEIGHTS))
    account = RunDirectory("run").read_account()
    assert account["initial_weights_sha256"] == sha256(WEIGHTS)


def test_an_account_has_the_weights_that_a_run_started_from():
    python(l2o.load("source")).train()
    # A program makes its optimizer again, perhaps with random weights: the checkpoint counts.
    for optimizer in (TinyOptimizer(), l2o.load("source")):
        runner = python(optimizer, periods=2)
        runner.train()
        assert RunDirectory("run").read_account()["initial_weights_sha256"] == sha256(WEIGHTS)
    assert len(runner.train()) == 2
    whole = RunDirectory("run").read_checkpoint(0, 1)
    shutil.rmtree("run")
    python(l2o.load("source"), periods=2).train()
    np.testing.assert_array_equal(
        RunDirectory("run").read_checkpoint(0, 1)["network/0"], whole["network/0"]
    )


def test_before_the_first_period_the_weights_of_the_object_count():
    run = RunDirectory("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunDirectory, "write_period", lambda *_: (_ for _ in ()).throw(Death))
        with pytest.raises(Death):
            python(l2o.load("source")).train()
    assert run.read_account()["initial_weights_sha256"] == sha256(WEIGHTS)
    save("source", OTHERS)
    python(l2o.load("source"), rate=0.0).train()
    assert run.read_account()["initial_weights_sha256"] == sha256(OTHERS)
    np.testing.assert_array_equal(run.read_checkpoint(0, 0)["network/0"], np.float32(OTHERS))


def test_an_account_of_an_earlier_version_has_none():
    python(l2o.load("source")).train()
    run = RunDirectory("run")
    account = run.read_account()
    del account["initial_weights_sha256"]
    run.write_account(account)
    assert len(python(l2o.load("source"), periods=2).train()) == 2
    assert run.read_account()["initial_weights_sha256"] is None


def test_a_config_s_weights_are_those_that_python_has_to_start_from():
    start(config(), initialize=True)
    run = RunDirectory("run")
    complete = run.read_config()
    strategy = SimpleStrategy(epochs_per_period=1, **STRATEGY["Simple"])
    other = Runner(build_training({**complete, "initial_weights": None}), strategy, run)
    assert refused(other.train) == (
        "run starts from other learned weights than this optimizer has; expected those of "
        f"{run.initial_path(sha256(WEIGHTS))}"
    )
    assert len(Runner(build_training(complete), strategy, run).train()) == 2
    start(config("whole"))
    assert files("run") == files("whole")
    # From now on the checkpoints count.
    assert (
        len(Runner(build_training({**complete, "initial_weights": None}), strategy, run).train())
        == 2
    )
