import pytest

from l2o.evaluate.suites import SUITES, Case, generalization, resolved
from l2o.problems import KerasProblem
from l2o.train.build import problem_from


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


@pytest.mark.parametrize("suite", sorted(SUITES.entries))
def test_every_problem_can_be_built(suite):
    for case in SUITES.entries[suite]("base", {}, 5):
        assert isinstance(problem_from(case.target, case.kwargs), KerasProblem)


def test_defaults_are_written_out():
    case = resolved(Case("a", "mlp_classifier", {"layers": [3]}, 1))
    assert case.kwargs["layers"] == [3]
    assert case.kwargs["dataset"] == "digits"
