"""Families of problems: what is drawn, what is refused, and runs on them."""

import json
import math

import numpy as np
import pytest

from config.overrides import merge_overrides
from l2o.errors import UserError
from l2o.train import RunDirectory, resolve_config
from l2o.train.build import build_training
from l2o.train.families import draw, members, members_of
from l2o.train.session import start

FAMILY = {
    "target": "mlp_classifier",
    "kwargs": {"batch_size": 32},
    "sample": {
        "layers": {"list": {"length": {"integer": [1, 3]}, "each": {"log_uniform": [8, 64]}}},
        "activation": {"choice": ["relu", "tanh"]},
    },
    "draws": 6,
    "wrappers": [{"target": "RandomScaling"}],
}


def drawn(distribution, count=4000):
    rng = np.random.default_rng(3)
    return [draw(distribution, rng) for _ in range(count)]


def resolved(*problems, **top):
    return resolve_config({"problems": list(problems), **top})


def test_what_each_distribution_draws():
    choices = drawn({"choice": ["a", [1, 2], None]})
    assert [choices.count(c) / 4000 for c in ("a", [1, 2], None)] == pytest.approx([1 / 3] * 3, 0.1)
    uniform = np.array(drawn({"uniform": [-1, 3]}))
    assert uniform.mean() == pytest.approx(1, abs=0.1)
    assert -1 <= uniform.min() < -0.99
    assert 2.99 < uniform.max() <= 3
    logs = np.log(drawn({"log_uniform": [0.001, 1000.0]}))
    quarters = np.quantile(logs, [0.25, 0.5, 0.75])
    np.testing.assert_allclose(quarters, math.log(1000) * np.array([-0.5, 0, 0.5]), atol=0.4)
    integers = drawn({"integer": [2, 4]})
    assert [integers.count(i) / 4000 for i in (2, 3, 4)] == pytest.approx([1 / 3] * 3, 0.1)
    widths = drawn({"log_uniform": [8, 128]})
    assert all(type(w) is int for w in widths)
    assert (min(widths), max(widths)) == (8, 128)
    assert np.median(widths) == pytest.approx(32, rel=0.1)
    lists = drawn({"list": {"length": {"choice": [0, 2]}, "each": {"integer": [1, 9]}}})
    assert {len(entries) for entries in lists} == {0, 2}
    assert len({tuple(entries) for entries in lists}) == 82


def test_members_differ_belong_to_their_seed_and_have_all_options():
    config = resolved(FAMILY)
    found = members_of(config, "problems")
    assert [path for path, _ in found] == ["problems/0"] * 6
    specs = [spec for _, spec in found]
    assert len({json.dumps(spec, sort_keys=True) for spec in specs}) == 6
    for spec in specs:
        assert 1 <= len(spec["kwargs"]["layers"]) <= 3
        assert spec["kwargs"]["batch_size"] == 32
        # A member is a complete spec: resolving it changes nothing.
        assert resolved(spec)["problems"] == [spec]
        assert spec["wrappers"][0]["kwargs"]["limit"] == 3.0
    assert [spec for _, spec in members_of(resolved(FAMILY), "problems")] == specs
    assert [spec for _, spec in members_of(resolved(FAMILY, seed=1), "problems")] != specs
    # The same family for validation has other members, and so has a second family in the list.
    both = resolved(FAMILY, FAMILY, validation_problems=[FAMILY])
    assert [spec for _, spec in members_of(both, "problems")][:6] == specs
    assert [spec for _, spec in members_of(both, "problems")][6:] != specs
    assert [spec for _, spec in members_of(both, "validation_problems")] != specs


def test_more_draws_and_another_order_of_options_keep_the_first_members():
    some = resolved(FAMILY)["problems"][0]
    more = resolved({**FAMILY, "draws": 9})["problems"][0]
    other = {**some, "sample": dict(reversed(some["sample"].items()))}
    assert members(more, 5)[:6] == members(some, 5) == members(other, 5)


def test_a_family_resolves_to_itself_and_other_problems_do_not_change():
    config = resolved({"target": "Quadratic", "sample": {"dimensions": {"integer": [2, 5]}}})
    assert config["problems"][0]["draws"] == 8
    assert config["problems"][0]["kwargs"] == {}
    assert resolve_config(json.loads(json.dumps(config))) == config
    assert resolved({"target": "Quadratic"})["problems"] == [
        {"target": "Quadratic", "args": [], "kwargs": {"dimensions": 10}, "wrappers": []}
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sample": 5}, ["problems/0/sample:", "an object", "got 5"]),
        ({"sample": {"layer": {"choice": [[1]]}}}, ["problems/0/sample/layer:", "mean layers?"]),
        ({"sample": {"layers": [8, 9]}}, ["problems/0/sample/layers:", '{"choice": [a, b, ...]}']),
        ({"sample": {"layers": {"choise": [[8]]}}}, ["sample/layers:", "mean choice?"]),
        ({"sample": {"layers": {"choice": []}}}, ["sample/layers/choice:", "at least one value"]),
        ({"sample": {"layers": {"choice": [[8], 9]}}}, ["sample/layers:", "got 9"]),
        ({"sample": {"layers": {"choice": [[8], [0]]}}}, ["sample/layers/0:", "got 0"]),
        ({"sample": {"activation": {"choice": ["rleu"]}}}, ["sample/activation:", "mean relu?"]),
        ({"sample": {"batch_size": {"integer": [0, 8]}}}, ["sample/batch_size:", "got 0"]),
        ({"sample": {"batch_size": {"integer": [8, 4]}}}, ["batch_size/integer:", "smaller one"]),
        ({"sample": {"batch_size": {"integer": [4.5, 8]}}}, ["batch_size/integer:", "integers"]),
        ({"sample": {"batch_size": {"integer": [4, True]}}}, ["batch_size/integer:", "numbers"]),
        ({"sample": {"batch_size": {"uniform": [4, 8.5]}}}, ["sample/batch_size:", "got 8.5"]),
        ({"sample": {"batch_size": {"log_uniform": [0, 8]}}}, ["log_uniform:", "positive"]),
        ({"sample": {"batch_size": {"log_uniform": [8]}}}, ["log_uniform:", "two numbers"]),
        ({"sample": {"batch_size": {"log_uniform": "8"}}}, ["log_uniform:", "two numbers"]),
        ({"sample": {"layers": {"list": {"each": 1}}}}, ["layers/list:", "length and each"]),
        (
            {"sample": {"layers": {"list": {"length": {"choice": [-1]}, "each": {"choice": [1]}}}}},
            ["layers/list/length:", "got -1"],
        ),
        (
            {"sample": {"layers": {"list": {"length": {"choice": [1]}, "each": {"coice": [1]}}}}},
            ["layers/list/each:", "mean choice?"],
        ),
        ({"sample": {"batch_size": {"choice": [8]}}}, ["sample/batch_size:", "has a value too"]),
        ({"draws": 0}, ["problems/0/draws:", "got 0"]),
        ({"draw": 3}, ["problems/0/draw:", "unknown"]),
    ],
)
def test_a_wrong_family_is_refused_by_its_path(changes, words):
    family = {**FAMILY, **changes}
    if "has a value too" not in words:
        family["kwargs"] = {}
    with pytest.raises(UserError) as error:
        resolved(family)
    for word in words:
        assert word in str(error.value)


def test_draws_without_sample_and_a_drawn_positional_argument_are_refused():
    with pytest.raises(UserError, match="problems/0/draws: there is no problems/0/sample"):
        resolved({"target": "Quadratic", "draws": 3})
    sample = {"dimensions": {"choice": [2]}}
    with pytest.raises(UserError, match="dimensions has a value too"):
        resolved({"target": "Quadratic", "args": [3], "sample": sample})


QUADRATICS = {
    "network": {"layers": [3]},
    "problems": [{"target": "Quadratic", "sample": {"dimensions": {"integer": [2, 4]}}}],
    "training": {"repeat": 2},
    "strategy": {"num_periods": 1, "epochs_per_period": 1, "unroll_distribution": 2},
}


def test_equal_members_share_what_is_compiled():
    config = merge_overrides(QUADRATICS, ["problems/0/draws=12"])
    training = build_training(resolve_config(config))
    sizes = [problem.dimensions for problem in training.problems]
    assert len(sizes) == 12
    assert set(sizes) == {2, 3, 4}
    assert len({id(step) for step in training.steps}) == 3
    for step, size in zip(training.steps, sizes, strict=True):
        assert step.problem.dimensions == size
    # Teachers have a state for each place in the list.
    imitating = merge_overrides(
        config, ['training/teachers=[{"class_name": "SGD"}]', "training/p_teacher=0.5"]
    )
    training = build_training(resolve_config(imitating))
    assert len({id(step) for step in training.steps}) == 12


@pytest.mark.usefixtures("quick_periods")
def test_a_run_on_a_family_resumes_to_the_last_bit(tmp_path, capsys):
    job = merge_overrides(QUADRATICS, ["problems/0/draws=2"])

    def train(name, periods):
        path = tmp_path / name
        start(merge_overrides({**job, "directory": str(path)}, [f"strategy/num_periods={periods}"]))
        return path

    whole = train("whole", 2)
    assert "2 drawn of Quadratic" in capsys.readouterr().out
    part = train("part", 1)
    read = RunDirectory(part).read_config()
    start(merge_overrides({**read, "directory": str(part)}, ["strategy/num_periods=2"]), read)
    listed = json.loads((part / "members.json").read_text())
    config = resolve_config(read)
    assert listed["problems"] == [spec for _, spec in members_of(config, "problems")]
    assert listed["validation_problems"] == []
    for file in ("summary.csv", "members.json", "checkpoints/stage_00_period_0001.npz"):
        assert (part / file).read_bytes() == (whole / file).read_bytes()
