"""The four scripts as a user runs them: as processes, in a directory of their own."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.scripts import ROOT, TINY, files, succeed


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A directory in which a tiny RNNProp has been trained, and what train.py printed."""
    cwd = tmp_path_factory.mktemp("trained")
    return cwd, succeed(cwd, "train", "constructor=RNNProp", *TINY)


def test_train_writes_a_run(trained):
    cwd, printed = trained
    config = json.loads((cwd / "weights/config.json").read_text())
    assert config["constructor"] == "RNNProp"
    assert config["network"]["alpha"] == 0.1, "every default is written out"
    rows = list(csv.DictReader((cwd / "weights/summary.csv").open()))
    assert [row["period"] for row in rows] == ["0", "1"]
    assert all(np.isfinite(float(row["validation_loss"])) for row in rows)
    assert len(list((cwd / "weights/checkpoints").iterdir())) == 2
    assert "period 1, meta-loss" in printed
    assert printed.splitlines()[-1].startswith("next: python evaluate.py weights --problem")


# Within one process tests/evaluate has all of it.
@pytest.mark.slow
def test_evaluate_compares_with_tuned_baselines(trained):
    cwd, _ = trained
    options = ["--problem", "mlp_classifier", "layers=[3]", "--steps", "4", "--seeds", "2"]
    printed = succeed(cwd, "evaluate", "weights/", *options, "--period", "0")
    assert "weights: RNNProp, period 0" in printed
    for name in ("SGD", "Momentum", "RMSprop", "Adam", "AdamW"):
        assert f"\n{name} " in printed
    assert printed.splitlines()[-1] == "next: python evaluate.py weights/ --suite generalization"
    result = json.loads((cwd / "weights/eval/mlp_classifier.json").read_text())
    learned = result["optimizers"]["weights"]
    best = result["optimizers"][result["best_baseline"]]
    assert len(learned["measures"]["train_loss"]["values"]) == 2
    assert learned["ratio_to_best"]["value"] == pytest.approx(
        learned["measures"]["train_loss"]["mean"] / best["measures"]["train_loss"]["mean"]
    )
    assert (cwd / "weights/eval/mlp_classifier.png").read_bytes().startswith(b"\x89PNG")
    page = (cwd / "weights/report.html").read_text()
    assert "Meta-training" in page
    assert "--period 0" in page
    assert "&quot;constructor&quot;: &quot;RNNProp&quot;" in page


@pytest.mark.slow
def test_the_loaded_optimizer_trains_a_model_in_another_process(trained):
    cwd, _ = trained
    code = """
import keras, numpy as np, l2o
opt = l2o.load("weights")
arrays = np.load("weights/checkpoints/stage_00_period_0001.npz")
last = l2o.load("weights", period=1)
for i, w in enumerate(last.network.get_weights()):
    np.testing.assert_array_equal(w, arrays[f"network/{i}"])
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
model.compile(optimizer=opt, loss="mse")
x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
before = model.get_weights()
model.fit(x, x[:, :2], verbose=0)
assert any((a != b).any() for a, b in zip(before, model.get_weights()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# Within one process train/test_session.py has it.
@pytest.mark.slow
def test_a_finished_run_that_is_resumed_stays_as_it_is(trained):
    cwd, _ = trained
    before = files(cwd / "weights")
    assert "going on after 2 periods" in succeed(cwd, "resume", "weights/")
    assert files(cwd / "weights") == before


def test_training_again_with_another_config_is_refused(trained, refuse_here):
    cwd, _ = trained
    before = files(cwd / "weights")
    line = refuse_here(cwd, "train", "constructor=RNNProp", *TINY, "network/alpha=0.2", "seed=3")
    assert "network/alpha, seed" in line
    assert files(cwd / "weights") == before


@pytest.mark.slow
def test_initialize_then_resume_equals_train(trained, tmp_path, refuse_here):
    cwd, _ = trained
    arguments = ["--initialize", "constructor=RNNProp", *TINY]
    assert "resume.py weights" in succeed(tmp_path, "train", *arguments)
    assert [p.name for p in (tmp_path / "weights").iterdir()] == ["config.json"]
    assert "train with: python resume.py" in refuse_here(tmp_path, "evaluate", "weights")
    assert succeed(tmp_path, "resume", "weights", "--quiet") == ""
    assert (tmp_path / "weights/summary.csv").read_bytes() == (
        cwd / "weights/summary.csv"
    ).read_bytes()


# tests/test_all_runs.py has it for each optimizer; within one process test_horizon.py has it.
@pytest.mark.slow
def test_killed_and_resumed_equals_undisturbed(trained, tmp_path):
    cwd, _ = trained
    command = [sys.executable, str(ROOT / "train.py"), "constructor=RNNProp", *TINY]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    summary = tmp_path / "weights/summary.csv"
    deadline = time.monotonic() + 120
    while not summary.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert summary.exists()
    succeed(tmp_path, "resume", "weights")
    undisturbed = files(cwd / "weights")
    for name in ("summary.csv", "config.json"):
        assert (tmp_path / "weights" / name).read_bytes() == undisturbed[Path(name)]
    for name in (p for p in undisturbed if p.parts[0] == "checkpoints"):
        with np.load(cwd / "weights" / name) as a, np.load(tmp_path / "weights" / name) as b:
            assert a.files == b.files
            for key in a.files:
                np.testing.assert_array_equal(a[key], b[key])


@pytest.mark.slow
def test_killed_before_a_period_and_resumed_without_its_source(trained, tmp_path):
    cwd, _ = trained
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    arguments = ["constructor=RNNProp", *TINY, "initial_weights=source"]
    for place in (whole, killed):
        shutil.copytree(cwd / "weights", place / "source")
    assert "initial weights: those of source (period" in succeed(whole, "train", *arguments)
    command = [sys.executable, str(ROOT / "train.py"), *arguments]
    process = subprocess.Popen(command, cwd=killed, stdout=subprocess.PIPE, text=True)
    # Its first line comes after config.json, and before the first period.
    assert process.stdout.readline().startswith("RNNProp on mlp_classifier")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (killed / "weights/summary.csv").exists()
    shutil.rmtree(killed / "source")
    succeed(killed, "resume", "weights")
    assert files(killed / "weights") == files(whole / "weights")


# Within one process evaluate/test_baselines.py has most of it.
@pytest.mark.slow
def test_baseline_sweeps(tmp_path):
    options = ["--steps", "4", "--seeds", "2", "--learning-rates", "0.1,0.001", "layers=[3]"]
    printed = succeed(tmp_path, "baseline", "--optimizer", "RMSprop", *options)
    result = json.loads((tmp_path / "baseline.json").read_text())
    means = {r: v["train_loss"]["mean"] for r, v in result["learning_rates"].items()}
    assert set(means) == {"0.001", "0.1"}
    assert means[f"{result['best']:g}"] == min(means.values())
    assert f"RMSprop {result['best']:g} *" in printed
    assert (tmp_path / "baseline.png").exists()
    assert printed.splitlines()[-1].startswith("next: ")


@pytest.mark.slow
def test_a_tfds_set_end_to_end(tmp_path):
    from tests.problems.sets import prepare

    prepare("mnist", (28, 28, 1), {"train": 40, "test": 10}, tmp_path / "data", classes=10)
    options = [*TINY, "problems/0/kwargs/dataset=mnist", "problems/0/kwargs/batch_size=4"]
    printed = succeed(tmp_path, "train", *options, TFDS_DATA_DIR=str(tmp_path / "data"))
    assert "mlp_classifier (mnist)" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["strategy/num_period=5"], ["strategy/num_period:", "strategy/num_periods"]),
        (["constructor=RNProp"], ["constructor:", "RNNProp"]),
        (["initial_weights=dm-digit"], ["train.py: initial_weights: dm-", "mean dm-digits?"]),
        (["problems/0/kwargs/dataset=digit"], ["problems/0/kwargs/dataset:", "digits"]),
        (["--preset", "rnprop"], ["--preset:"]),
        (["network/activation=tnh"], ["network/activation:", "tanh"]),
        (["strategy/num_periods=five"], ["strategy/num_periods:", "an integer"]),
        (["training/p_teacher=1"], ["training/p_teacher:"]),
        (["--config", "none.json"], ["none.json"]),
        (["--perod"], ["--perod"]),
        (["directory=/proc/none"], ["/proc/none"]),
        (["--gpus", "7"], ["--gpus: no GPU 7; there are:"]),
        (["--gpus", "a"], ["--gpus", "numbers like 0,1"]),
        (["--cpu", "--gpus", "0"], ["--gpus", "not allowed with", "--cpu"]),
        (["distribute=mirored"], ["distribute:", "mirrored"]),
        (["distribute=multi_worker"], ["TF_CONFIG:", "expected something like"]),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(tmp_path, refuse_here, arguments, words):
    line = refuse_here(tmp_path, "train", *arguments)
    for word in ["train.py: ", *words]:
        assert word in line
    assert files(tmp_path) == {}


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("resume", ["nowhere"], ["nowhere is not a run directory"]),
        ("evaluate", ["nowhere"], ["nowhere is not a run directory"]),
        ("evaluate", ["weights", "--problem", "mlp"], ["no problem called 'mlp'"]),
        ("evaluate", ["weights", "--period", "7"], ["no period 7"]),
        ("evaluate", ["weights", "layer=[3]"], ["layer:", "layers"]),
        ("evaluate", ["weights", "--steps", "0"], ["--steps", "expected 1 to"]),
        ("evaluate", ["weights", "--suite", "generl"], ["--suite", "generalization"]),
        ("evaluate", ["weights", "dataset=wine", "--problem", "conv_classifier"], ["wine has no"]),
        ("evaluate", ["weights", "--target", "-1"], ["--target", "positive numbers"]),
        ("evaluate", ["layers=[3]"], ["expected a DIRECTORY"]),
        ("evaluate", ["--quiet", "weights", "nowhere"], ["nowhere is not a run directory"]),
        ("baseline", ["--optimizer", "Adan"], ["--optimizer", "Adam"]),
        ("baseline", ["--learning-rates", "0.1,x"], ["--learning-rates", "0.1,x"]),
        ("baseline", ["--output", "no/such/b.json"], ["--output", "no/such"]),
        ("baseline", ["--output", "/dev/null"], ["--output: /dev/null is not a file"]),
        ("baseline", ["--output", "weights"], ["--output: weights is not a file"]),
        ("baseline", ["--seeds", "99999999999999999999"], ["--seeds", "1 to 2147483647"]),
    ],
)
def test_wrong_input_of_the_other_scripts(trained, refuse_here, name, arguments, words):
    cwd, _ = trained
    before = files(cwd)
    line = refuse_here(cwd, name, *arguments)
    for word in [f"{name}.py: ", *words]:
        assert word in line
    assert files(cwd) == before


@pytest.mark.parametrize("damage", ["config", "checkpoint", "other optimizer"])
def test_a_damaged_run_is_refused(trained, tmp_path, refuse_here, damage):
    cwd, _ = trained
    shutil.copytree(cwd / "weights", tmp_path / "weights")
    config = tmp_path / "weights/config.json"
    if damage == "config":
        config.write_text(config.read_text()[:100])
    elif damage == "checkpoint":
        for path in (tmp_path / "weights/checkpoints").iterdir():
            path.write_bytes(path.read_bytes()[:500])
    else:
        changed = json.loads(config.read_text())
        changed |= {"constructor": "DM", "network": {}}
        config.write_text(json.dumps(changed))
    before = files(tmp_path)
    for name in ("evaluate", "resume"):
        assert "weights" in refuse_here(tmp_path, name, "weights")
    assert files(tmp_path) == before
