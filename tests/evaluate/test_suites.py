import itertools
import json

import pytest

from config.overrides import merge_all, preset_names
from l2o.evaluate.suites import FIXED, SUITES, Case, built, generalization, resolved
from l2o.problems import KerasProblem
from l2o.train import resolve_config
from l2o.train.families import members_of
from l2o.train.resolve import resolve_problem


def test_each_problem_differs_in_one_respect_from_the_first():
    cases = generalization("training", {"layers": [12], "batch_size": 32}, 50)
    first, *others = cases
    assert first.name == "training"
    assert (first.target, first.steps) == ("mlp_classifier", 50)
    assert first.kwargs["layers"] == [12]
    assert [case.name for case in others] == [
        "relu", "elu", "tanh", "2-layers", "3-layers", "4-layers", "5x-wider", "conv", "batch-8",
        "batch-512", "10x-steps", "100x-steps", "breast_cancer", "wine",
    ]  # fmt: skip
    changed = {}
    for case in others:
        if case.target == first.target:
            changed[case.name] = {k: v for k, v in case.kwargs.items() if v != first.kwargs[k]}
    assert changed["relu"] == {"activation": "relu"}
    assert changed["3-layers"] == {"layers": [12, 12, 12]}
    assert changed["5x-wider"] == {"layers": [60]}
    assert changed["batch-8"] == {"batch_size": 8}
    assert changed["wine"] == {"dataset": "wine"}
    assert changed["100x-steps"] == {}
    assert {c.name: c.steps for c in others if c.steps != 50} == {
        "10x-steps": 500, "100x-steps": 5000,
    }  # fmt: skip
    conv = next(case for case in others if case.target == "conv_classifier")
    assert conv.kwargs["batch_size"] == 32


def test_what_is_equal_to_the_first_is_left_out():
    names = [c.name for c in generalization("base", {"activation": "relu", "layers": [20, 20]}, 9)]
    assert "relu" not in names
    assert "2-layers" not in names
    assert len(names) == 13
    assert len(set(names)) == 13


@pytest.mark.parametrize("suite", sorted(set(SUITES.entries) - FIXED))
def test_every_problem_can_be_built(suite):
    cases = SUITES.entries[suite]("base", {}, 5)
    assert cases[0] == resolved(Case("base", "mlp_classifier", {}, 5))
    assert len({case.name for case in cases}) == len(cases)
    for case in cases:
        assert isinstance(built(case), KerasProblem)


@pytest.mark.parametrize(
    ("suite", "expected"),
    [
        ("dm", {"2x-steps": 200, "2x-wider": 100, "2-layers": 100, "relu": 100}),
        ("rnnprop", {
            "10x-steps": 1000, "100x-steps": 10_000, "relu": 100, "elu": 100, "tanh": 100,
            "2-layers": 100, "3-layers": 100, "4-layers": 100, "5-layers": 100, "conv": 100,
        }),
        ("scale", {
            "10x-steps": 1000, "100x-steps": 10_000, "conv": 1000, "breast_cancer": 1000,
            "wine": 1000, "regression": 1000,
        }),
        ("refutation", {
            "breast_cancer": 100, "wine": 100, "regression": 100, "10x-wider": 100,
            "label-noise": 100, "batch-8": 100, "batch-512": 100,
        }),
    ],
)  # fmt: skip
def test_the_suites_of_the_papers(suite, expected):
    first, *others = SUITES.entries[suite]("base", {}, 100)
    assert {case.name: case.steps for case in others} == expected
    targets = {"conv": "conv_classifier", "regression": "mlp_regressor"}
    changed = {
        "relu": {"activation": "relu"},
        "elu": {"activation": "elu"},
        "tanh": {"activation": "tanh"},
        "breast_cancer": {"dataset": "breast_cancer", "batch_size": 32},
        "wine": {"dataset": "wine", "batch_size": 32},
        "2x-wider": {"layers": [40]},
        "10x-wider": {"layers": [200]},
        "batch-8": {"batch_size": 8},
        "batch-512": {"batch_size": 512},
        "label-noise": {"label_noise": 0.3},
        **{f"{n}-layers": {"layers": [20] * n} for n in (2, 3, 4, 5)},
        **{f"{n}x-steps": {} for n in (2, 10, 100)},
    }
    for case in others:
        assert case.target == targets.get(case.name, "mlp_classifier")
        if case.name in targets:
            assert case == resolved(Case(case.name, case.target, {}, case.steps))
        else:
            assert case.kwargs == {**first.kwargs, **changed[case.name]}


# Each is a Keras model of its own.
@pytest.mark.slow
@pytest.mark.parametrize("suite", sorted(FIXED))
def test_every_problem_of_a_fixed_suite_can_be_built(suite):
    for case in map(resolved, SUITES.entries[suite]("base", {}, 5)):
        # MNIST is not everywhere, and has the same options as the others.
        if case.name != "mnist":
            assert isinstance(built(case), KerasProblem)


def test_the_modern_suite():
    cases = SUITES.entries["modern"]("base", {"layers": [1]}, 100)
    assert {case.name: case.steps for case in cases if case.steps != 300} == {
        "million": 50,
        "long": 1000,
    }
    assert [case.name for case in cases] == [
        "char-transformer", "char-lstm", "vit", "mixer", "residual", "autoencoder", "vae",
        "batch-norm", "million", "long", "regression", "mnist",
    ]  # fmt: skip
    million = next(case for case in cases if case.name == "million")
    sizes = [64, *million.kwargs["layers"], 10]
    assert sum((a + 1) * b for a, b in itertools.pairwise(sizes)) > 960_000
    for case in cases:
        resolve_problem({"target": case.target, "kwargs": case.kwargs}, "")


def test_the_families_are_always_the_same_twenty_problems():
    cases = SUITES.entries["families"]("base", {}, 10)
    assert cases == SUITES.entries["families"]("other", {"layers": [1]}, 10)
    assert len({case.name for case in cases}) == len({repr(case.kwargs) for case in cases}) == 20
    assert {case.steps for case in cases} == {30}
    kinds = [case.target for case in cases]
    assert [kinds.count(k) for k in dict.fromkeys(kinds)] == [12, 5, 3]
    assert {len(case.kwargs["layers"]) for case in cases[:12]} == {1, 2, 3}
    for case in cases:
        resolve_problem({"target": case.target, "kwargs": case.kwargs}, "")


def test_recipes_train_on_no_problem_of_a_fixed_suite_but_the_regression():
    names = {}
    for suite in FIXED:
        for case in SUITES.entries[suite]("base", {}, 1):
            spec = resolve_problem({"target": case.target, "kwargs": case.kwargs}, "")
            names[spec["target"], json.dumps(spec["kwargs"], sort_keys=True)] = case.name
    found = set()
    for preset in preset_names():
        config = resolve_config(merge_all(presets=[preset]))
        for _, spec in members_of(config, "problems"):
            key = (spec["target"], json.dumps(spec["kwargs"], sort_keys=True))
            if key in names:
                found.add((names[key], preset))
    held_out = [preset for preset in preset_names() if preset.endswith("-held-out")]
    assert found == {("regression", preset) for preset in [*held_out, "rnnprop-wide"]}
    assert len(held_out) == 4


def test_conv_is_on_the_data_of_the_first():
    base = {"dataset": "mnist", "batch_size": 8, "image_size": 14, "label_noise": 0.5}
    conv = next(c for c in SUITES.entries["rnnprop"]("base", base, 1) if c.name == "conv")
    assert {k: conv.kwargs[k] for k in base} == base


def test_defaults_are_written_out():
    case = resolved(Case("a", "mlp_classifier", {"layers": [3]}, 1))
    assert case.kwargs["layers"] == [3]
    assert case.kwargs["dataset"] == "digits"
