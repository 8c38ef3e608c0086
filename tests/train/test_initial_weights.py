"""The option `initial_weights`: what a run starts from, and what it keeps of it."""

import json
import pickle
import shutil
from contextlib import ExitStack

import numpy as np
import pytest
import tensorflow as tf

import l2o
from config.overrides import merge_overrides
from l2o.errors import UserError
from l2o.optimizer import OPTIMIZERS, saved
from l2o.problems import Quadratic
from l2o.train import (
    CurriculumLearningStrategy,
    LossArgs,
    Replicas,
    RunDirectory,
    Runner,
    SimpleStrategy,
    Training,
    build_optimizer,
    build_training,
    resolve_config,
    sources,
)
from l2o.train.runs.claim import Claim
from l2o.train.session import start
from tests.tiny_rule import TinyOptimizer
from tests.train.runs.test_crash import Death, Disk

WEIGHTS = [[0.3], [0.2]]
OTHERS = [[0.7], [0.1]]
STRATEGY = {
    "Simple": {"num_periods": 2, "unroll_distribution": 1, "validation_unroll": 2},
    "CurriculumLearning": {"schedule": [1, 2, 2], "min_periods": 1},
}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """A place with saved weights in `source`, where a tiny rule can be named in a config."""
    monkeypatch.setitem(OPTIMIZERS.entries, "Tiny", TinyOptimizer)
    monkeypatch.chdir(tmp_path)
    save("source", WEIGHTS)
    # Fast, and it tells weights apart.
    monkeypatch.setattr(Runner, "_validate", lambda self, *_: validation_loss(self.training))
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def validation_loss(training):
    (found,) = training.optimizer.network.get_weights()
    return float(np.abs(found - 0.5).sum())


def save(path, weights, **options):
    optimizer = TinyOptimizer(**options)
    optimizer.set_learned_weights([np.array(weights)])
    optimizer.save(path, about="tested")


def sha256(weights):
    return saved.digest("tests>TinyOptimizer", [np.array(weights, np.float32)])


def config(directory="run", *overrides, strategy="Simple", **job):
    job = {
        "directory": directory,
        "constructor": "Tiny",
        "initial_weights": "source",
        "problems": [{"target": "Quadratic", "kwargs": {"dimensions": 2}}],
        # So large that a curriculum, which goes on while it improves, soon ends.
        "optimizer": {"config": {"learning_rate": 1.0}},
        "strategy_constructor": strategy,
        "strategy": {"epochs_per_period": 1, **STRATEGY[strategy]},
        **job,
    }
    return merge_overrides(job, overrides)


def resume(directory="run", *overrides):
    read = {**RunDirectory(directory).read_config(), "directory": directory}
    start(merge_overrides(read, overrides), read)


def weights(directory="run", period=0):
    (found,) = l2o.load(directory, period=period).network.get_weights()
    return found.tolist()


def files(directory="run"):
    """All files but the log; of config.json what is no place."""
    run = RunDirectory(directory)
    found = {p.relative_to(directory): p for p in run.path.rglob("*") if p.is_file()}
    content = {k: p.read_bytes() for k, p in found.items() if k.name not in ("log.csv", ".lock")}
    return {
        **content,
        run.config_path.relative_to(directory): {**run.read_config(), "directory": 0},
    }


def refused(act, path="initial_weights"):
    """The message of a refusal, which writes nothing."""
    before = sorted(p for p in RunDirectory("run").path.rglob("*"))
    with pytest.raises(UserError) as error:
        act()
    assert error.value.path == path
    assert sorted(p for p in RunDirectory("run").path.rglob("*")) == before
    return error.value.message


def die_in_the_first_period(*job, **options):
    """Starts a run that dies when its first period is trained, but not written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunDirectory, "write_period", lambda *_: (_ for _ in ()).throw(Death))
        with pytest.raises(Death):
            start(config(*job, **options))
    assert RunDirectory(job[0] if job else "run").rows() == []


# What a run starts from.


@pytest.mark.parametrize("source", ["source", "source/", "source/optimizer.npz", "trained"])
def test_a_run_starts_from_them(source, capsys):
    if source == "trained":
        start(config("trained", "optimizer/config/learning_rate=0.0"))
    start(config("run", "optimizer/config/learning_rate=0.0", "seed=3", initial_weights=source))
    assert weights() == np.array(WEIGHTS, np.float32).tolist()
    run = RunDirectory("run")
    written = run.read_config()
    assert written["initial_weights"] == source
    assert written["initial_weights_sha256"] == sha256(WEIGHTS)
    about = "tested" if source != "trained" else "period 0 of trained"
    assert f"\ninitial weights: those of {source} ({about})\n" in capsys.readouterr().out
    # The file is a saved optimizer itself.
    start(config("again", initial_weights=str(run.initial_path(sha256(WEIGHTS)))))
    assert RunDirectory("again").read_config()["initial_weights_sha256"] == sha256(WEIGHTS)


@pytest.mark.parametrize("strategy", sorted(STRATEGY))
def test_the_first_validation_is_of_these_weights(strategy):
    start(config("random", initial_weights=None, strategy=strategy))
    start(config("run", strategy=strategy))
    still = ["optimizer/config/learning_rate=0.0"]
    start(config("still", *still, strategy=strategy))
    random, first, untrained = (RunDirectory(p).rows()[0] for p in ("random", "run", "still"))
    assert first.start_loss == untrained.start_loss == untrained.validation_loss
    assert random.start_loss != first.start_loss != first.validation_loss
    assert first.start_loss == pytest.approx(0.5)


def test_a_run_directory_stands_for_its_best_period():
    start(config("trained", "strategy/num_periods=3", "optimizer/config/learning_rate=0.3"))
    best = RunDirectory("trained").best()
    start(config("run", "optimizer/config/learning_rate=0.0", initial_weights="trained"))
    assert weights() == weights("trained", best.period)


def test_other_options_of_the_network_are_those_of_the_run(capsys):
    start(config("run", "network/scale=0.2", "optimizer/config/learning_rate=0.0"))
    optimizer = l2o.load("run")
    assert optimizer.scale == 0.2
    assert optimizer.network.get_weights()[0].tolist() == np.array(WEIGHTS, np.float32).tolist()
    assert "(tested); they were trained with network/scale=0.1 (here 0.2)\n" in (
        capsys.readouterr().out
    )


def test_build_training_reads_them_too():
    complete = resolve_config(config())
    for build in (build_optimizer, lambda c: build_training(c).optimizer):
        assert build(complete).network.get_weights()[0].tolist() == weights_of("source")
    pinned = {**complete, "initial_weights_sha256": sha256(WEIGHTS)}
    assert build_optimizer(pinned).network.get_weights()[0].tolist() == weights_of("source")
    save("source", OTHERS)
    assert refused(lambda: build_training(pinned)) == (
        f"source has other learned weights than before: their SHA-256 is {sha256(OTHERS)}; "
        f"expected {sha256(WEIGHTS)}, as initial_weights_sha256 says"
    )


def weights_of(path):
    return saved.read(path).weights[0].tolist()


def test_the_chief_reads_and_the_others_receive():
    class Worker(Replicas):
        def from_chief(self, make):
            assert not self.is_chief
            return sent[0]

    class Chief(Replicas):
        def from_chief(self, make):
            sent.append(super().from_chief(make))
            return sent[0]

    sent, complete = [], resolve_config(config())
    chief = build_optimizer(complete, Chief())
    shutil.rmtree("source")
    worker = build_optimizer(complete, Worker(index=1))
    for optimizer in (chief, worker):
        np.testing.assert_array_equal(optimizer.network.get_weights(), [np.float32(WEIGHTS)])


# What does not fit.

RNN = {"constructor": "RNNProp", "network": {"layers": [3]}}
NAMES = "dm-digits, learned-muon, rnnprop-digits, scale-basic-digits, scale-hierarchical-digits"
NO_OPTIMIZER = (
    "is not a run directory (it has no config.json), not a saved optimizer (no optimizer.npz) and "
    "none of those that come with l2o"
)


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ({"initial_weights": "nowhere"}, f"nowhere {NO_OPTIMIZER}: {NAMES}"),
        (
            {"initial_weights": "rnnprop-digit"},
            f"rnnprop-digit {NO_OPTIMIZER} (did you mean rnnprop-digits?): {NAMES}",
        ),
        ({"initial_weights": "."}, f". {NO_OPTIMIZER}: {NAMES}"),
        (
            {"initial_weights": "dm-digits"},
            "dm-digits has the learned weights of DM; expected those of Tiny, or constructor=DM",
        ),
        (
            {**RNN, "initial_weights": "source"},
            "source has the learned weights of Tiny; expected those of RNNProp, or "
            "constructor=Tiny",
        ),
        (
            {**RNN, "network": {"layers": [20, 3]}, "initial_weights": "rnnprop-digits"},
            "the learned weights of rnnprop-digits do not fit this network: array 5 of the shape "
            "(20, 80) where (20, 12) belongs; expected what they were trained with: "
            "network/layers=[20,20] (here [20,3])",
        ),
        ({"initial_weights": 5}, "expected a string or null; got 5"),
        (
            {"initial_weights": ""},
            'String should have at least 1 character; got ""',
        ),
        (
            {"initial_weights": "started"},
            "started has no trained weights yet; train with: l2o resume started",
        ),
        (
            {"initial_weights": "foreign"},
            "cannot use foreign/config.json: network/layer: unknown option (did you mean "
            "network/name?); known here: name, scale",
        ),
        (
            {"initial_weights": "mixed"},
            "mixed/checkpoints/stage_00_period_0000.npz has the weights of OtherOptimizer; "
            "expected those of TinyOptimizer",
        ),
        (
            {"initial_weights": "pickled"},
            "pickled/optimizer.npz is not a saved optimizer, or is damaged: File is not a zip file",
        ),
        (
            {"initial_weights": "trained/checkpoints/stage_00_period_0000.npz"},
            "trained/checkpoints/stage_00_period_0000.npz is not a saved optimizer, or is damaged: "
            "its seal is not that of an optimizer",
        ),
        (
            {"initial_weights_sha256": "0" * 64},
            f"source has other learned weights than before: their SHA-256 is {sha256(WEIGHTS)}; "
            f"expected {'0' * 64}, as initial_weights_sha256 says",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line_and_writes_nothing(job, message, tmp_path, trained):
    shutil.copytree(trained, "trained")
    start(config("started"), initialize=True)
    shutil.copytree(trained, "foreign")
    run = RunDirectory("foreign")
    run.write_config({**run.read_config(), "network": {"layer": 3}})
    shutil.copytree(trained, "mixed")
    run = RunDirectory("mixed")
    row = run.rows()[0]
    run.write_period(row, {**run.read_checkpoint(0, 0), "optimizer": np.array("OtherOptimizer")})
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled/optimizer.npz").write_bytes(pickle.dumps(Payload(tmp_path / "escaped")))
    assert refused(lambda: start(config(**job))) == message
    assert not RunDirectory("run").path.exists()
    assert not (tmp_path / "escaped").exists()


class Payload:
    """Writes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import os

        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trained run that started from random weights."""
    path = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OPTIMIZERS.entries, "Tiny", TinyOptimizer)
        start(config(str(path), "strategy/num_periods=1", initial_weights=None))
    return path


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"initial_weights_sha256": "0" * 64}, "there is no initial_weights; expected null"),
        (
            {"initial_weights": "a", "initial_weights_sha256": "ABC"},
            'expected 64 hexadecimal digits; got "ABC"',
        ),
    ],
)
def test_a_checksum_that_is_none(given, message):
    with pytest.raises(UserError) as error:
        resolve_config({"problems": [{"target": "Booth"}], **given})
    assert str(error.value) == f"initial_weights_sha256: {message}"


def test_another_source_drops_the_checksum_of_the_one_before():
    base = {"initial_weights": "a", "initial_weights_sha256": "0" * 64}
    assert merge_overrides(base, ["initial_weights=a"]) == base
    assert merge_overrides(base, ["initial_weights=b"]) == {"initial_weights": "b"}
    assert merge_overrides(base, ["initial_weights=null"]) == {"initial_weights": None}
    both = ["initial_weights_sha256=x", "initial_weights=b"]
    assert merge_overrides(base, both) == {"initial_weights": "b", "initial_weights_sha256": "x"}


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
