"""The option `initial_weights`: what a run starts from, and what does not fit."""

import pickle
import shutil

import numpy as np
import pytest

import l2o
from config.overrides import merge_overrides
from l2o.errors import UserError
from l2o.optimizer import OPTIMIZERS, saved
from l2o.train import (
    Replicas,
    RunDirectory,
    build_optimizer,
    build_training,
    resolve_config,
)
from l2o.train.session import start
from tests.tiny_rule import TinyOptimizer
from tests.train import starting
from tests.train.starting import (
    OTHERS,
    STRATEGY,
    WEIGHTS,
    config,
    refused,
    save,
    sha256,
    weights,
)

_here = starting.here


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
NAMES = ", ".join(sorted(l2o.pretrained()))
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
