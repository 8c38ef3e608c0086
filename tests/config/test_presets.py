"""Every preset is a job that can be trained."""

import json

import numpy as np
import pytest

import l2o
from config.overrides import PRESETS, merge_all, preset_names
from l2o.optimizer import OPTIMIZERS
from l2o.train import build_strategy, build_training, resolve_config
from tests.running import build_runner

TINY = [
    "strategy/num_periods=1",
    "strategy/epochs_per_period=1",
    "strategy/unroll_distribution=2",
    "strategy/validation_unroll=2",
    "training/epochs=1",
    "training/repeat=1",
]
SHRUNK = {"layers": [2], "batch_size": 700}


def on_digits(name, overrides=()):
    """A preset, with digits in place of MNIST, which is not at hand."""
    config = resolve_config(merge_all(presets=[name], overrides=overrides))
    for spec in [*config["problems"], *config["validation_problems"]]:
        if spec["kwargs"].get("dataset") == "mnist":
            spec["kwargs"]["dataset"] = "digits"
    return config


def train(config):
    held_out = config["loss_args"]["split"] == "held_out"
    for spec in [*config["problems"], *config["validation_problems"]]:
        if spec["target"] == "mlp_classifier":
            # A mini-batch of held-out examples is as large.
            spec["kwargs"] |= {**SHRUNK, "batch_size": 50} if held_out else SHRUNK
    rows = build_runner(config).train()
    assert len(rows) == 1
    assert np.isfinite(rows[0].validation_loss)
    return rows[0]


def test_there_is_a_preset_for_each_optimizer():
    names = [name for name in preset_names() if name.endswith("-paper")]
    constructors = [merge_all(presets=[name])["constructor"] for name in names]
    # LearnedMuon is of this project, so no paper has settings for it.
    assert sorted([*constructors, "LearnedMuon"]) == sorted(OPTIMIZERS.entries)
    kinds = ("-digits", "-held-out", "-mnist", "-wide")
    recipes = [name for name in preset_names() if name.endswith(kinds)]
    assert sorted([*recipes, "learned-muon"]) == sorted(l2o.pretrained())


NAMES = [name for name in preset_names() if name != "sample"]


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_a_config(name):
    config = resolve_config(merge_all(presets=[name]))
    assert build_strategy(config).plan([]).period == 0


# What they are made of is built in other tests.
@pytest.mark.parametrize(
    "name", [n if n == "rnnprop-paper" else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]
)
def test_a_preset_is_a_job(name):
    config = on_digits(name)
    training, strategy = build_training(config), build_strategy(config)
    members = [spec["draws"] if spec.get("sample") else 1 for spec in config["problems"]]
    assert len(training.problems) == sum(members)
    assert strategy.plan([]).period == 0


# What they are made of is traced in other tests, and the sample is trained below.
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_preset_trains(name):
    config = on_digits(name, TINY)
    # A trace for each of the problems would take a minute.
    config["problems"] = config["problems"][:1]
    # Where it imitates, it does nothing else in the first period.
    config["training"]["p_teacher"] = 0.0
    assert train(config).meta_loss is not None


# The sample imitates too.
@pytest.mark.slow
def test_the_rnnprop_recipe_begins_with_imitation():
    config = resolve_config(merge_all(presets=["rnnprop-digits"], overrides=TINY))
    config["problems"] = config["problems"][:1]
    assert [teacher["class_name"] for teacher in config["training"]["teachers"]] == ["Adam"]
    row = train(config)
    assert row.imitation_unrolls == row.unrolls > 0


def test_the_rnnprop_preset_has_both_training_tricks_and_validates_without():
    spec = resolve_config(merge_all(presets=["rnnprop-paper"]))
    names = [wrapper["target"] for wrapper in spec["problems"][0]["wrappers"]]
    assert names == ["RandomScaling", "ConvexCombination"]
    assert spec["validation_problems"][0]["wrappers"] == []


def test_the_sample_names_every_section_and_trains_on_another_data_set():
    path = PRESETS / "sample.json"
    sample = json.loads(path.read_text())
    assert sample["problems"][0]["kwargs"]["dataset"] == "mnist"
    config = merge_all(str(path), overrides=["problems/0/kwargs/dataset=digits", *TINY])
    resolved = resolve_config(config)
    for section in ("loss_args", "network", "training", "optimizer", "strategy"):
        assert sample[section].keys() <= resolved[section].keys()
    row = train(resolved)
    # p_teacher is 1 and the schedule begins with 1: everything imitates.
    assert row.imitation_unrolls == row.unrolls
