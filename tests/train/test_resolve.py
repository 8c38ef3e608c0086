import inspect
import json

import keras
import pytest

import l2o
from config.overrides import merge_all, preset_names
from l2o.errors import UserError
from l2o.problems import KerasProblem, ProblemSpec
from l2o.train import resolve_config

# Defaults the seed README documents; written down here once more on purpose.
SEED = {
    "DM": {"layers": [20, 20], "name": "DMOptimizer"},
    "RNNProp": {
        "layers": [20, 20],
        "beta_1": 0.9,
        "beta_2": 0.9,
        "alpha": 0.1,
        "epsilon": 1e-10,
        "name": "RNNPropOptimizer",
    },
    "ScaleBasic": {
        "layers": [20, 20],
        "init_lr": [1.0, 1.0],
        "name": "ScaleBasicOptimizer",
    },
    "ScaleHierarchical": {
        "param_units": 10,
        "tensor_units": 5,
        "global_units": 5,
        "init_lr": [1e-6, 1e-2],
        "timescales": 5,
        "epsilon": 1e-10,
        "name": "ScaleHierarchicalOptimizer",
    },
}
CELL = {
    "activation": "tanh",
    "recurrent_activation": "sigmoid",
    "use_bias": True,
    "kernel_initializer": "glorot_uniform",
    "recurrent_initializer": "orthogonal",
    "bias_initializer": "zeros",
    "unit_forget_bias": True,
}
PROBLEMS = [{"target": "mlp_classifier"}]


@pytest.mark.parametrize("constructor", SEED)
def test_defaults_are_those_of_the_seed(constructor):
    config = resolve_config({"constructor": constructor, "problems": PROBLEMS})
    assert {**SEED[constructor], **CELL}.items() <= config["network"].items()
    assert config["strategy"] == {
        "max_dropped": 0.5,
        "keep_checkpoints": None,
        "horizon": None,
        "epochs_per_period": 10,
        "num_periods": 100,
        "unroll_distribution": 0.05,
        "annealing_schedule": 0.5,
        "validation_unroll": 50,
    }
    assert config["training"] == {
        "unroll_weights": "sum",
        "teachers": [],
        "p_teacher": 0.0,
        "imitation_optimizer": None,
        "strategy": "mean",
        "epochs": 1,
        "depth": 0,
        "repeat": 1,
        "persistent": False,
        "perturbation": None,
        "batch_of_problems": 1,
    }
    assert config["estimator_constructor"] == "TruncatedBackprop"
    assert config["estimator"] == {"second_derivatives": False, "schedule": "constant"}
    assert config["loss_args"] == {
        "scale_objective": True,
        "use_log_objective": True,
        "obj_train_max_multiplier": -1,
        "use_numerator_epsilon": True,
        "epsilon": 1e-6,
        "split": "train",
    }
    assert config["optimizer"]["class_name"] == "Adam"
    adam = {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999}
    assert adam.items() <= config["optimizer"]["config"].items()
    assert config["directory"] == "weights"


def test_a_resolved_config_is_complete_and_resolves_to_itself():
    config = resolve_config(merge_all(overrides=["training/p_teacher=0"]))
    assert resolve_config(json.loads(json.dumps(config))) == config
    assert set(config["problems"][0]["kwargs"]) == set(
        inspect.signature(l2o.problems.mlp_classifier).parameters
    )


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["strategy/num_period=5"], ["strategy/num_period:", "mean strategy/num_periods?"]),
        (["num_periods=5"], ["num_periods:", "mean strategy/num_periods?"]),
        (
            ["constructor=RNProp"],
            [
                "constructor:",
                "mean RNNProp?",
                "DM, LearnedMuon, RNNProp, ScaleBasic, ScaleHierarchical",
            ],
        ),
        (["strategy_constructor=Simpel"], ["strategy_constructor:", "mean Simple?"]),
        (["problems/0/target=mlp"], ["problems/0/target:", "mlp_classifier"]),
        (["problems/0/kwargs/layer=[1]"], ["problems/0/kwargs/layer:", "kwargs/layers?"]),
        (["problems/0/kwargs/activation=sigmod"], ["kwargs/activation:", "mean sigmoid?"]),
        (["problems/0/kwargs/batch_size=0"], ["problems/0/kwargs/batch_size:", "got 0"]),
        (["problems=[]"], ["problems:", "at least one"]),
        (["network/activation=tnh"], ["network/activation:", "mean tanh?"]),
        (["network/kernel_initializer=x"], ["network/kernel_initializer:"]),
        (["network/layers=[]"], ["network/layers:"]),
        (["network/layers=[20,0]"], ["network/layers/1:", "got 0"]),
        (["network/layers=20"], ["network/layers:", "a list of integers", "got 20"]),
        (["network/beta_1=0.9"], ["network/beta_1:", "unknown option"]),
        (["network=5"], ["network:", "an object"]),
        (["strategy/num_periods=five"], ["strategy/num_periods:", "an integer", '"five"']),
        (["strategy/num_periods=true"], ["strategy/num_periods:", "an integer"]),
        (["strategy/num_periods=5.0"], ["strategy/num_periods:", "an integer"]),
        (["strategy/annealing_schedule=x"], ["strategy/annealing_schedule:", "a number"]),
        (["training/persistent=1"], ["training/persistent:", "true or false"]),
        (["training/unroll_weights=median"], ["training/unroll_weights:", "mean mean?"]),
        (["training/unroll_weights=tial"], ["training/unroll_weights:", "mean tail?"]),
        (["loss_args/split=heldout"], ["loss_args/split:", "mean held_out?"]),
        (["training/perturbation/kind=gausian"], ["perturbation/kind:", "mean gaussian?"]),
        (["estimator/schedule=cosin"], ["estimator/schedule:", "mean cosine?"]),
        (
            ["estimator_constructor=FullES", "estimator/schedule=warmup"],
            ["estimator/schedule:", '"warmup_cosine"; got "warmup"'],
        ),
        (["estimator_constructor=PES", "estimator/schedule=cosine"], ["estimator/schedule:"]),
        (["training/p_teacher=2"], ["training/p_teacher:", "got 2"]),
        (["loss_args/epsilon=0"], ["loss_args/epsilon:", "got 0"]),
        (["optimizer/class_name=Adm"], ["optimizer/class_name:", "mean Adam?"]),
        (["optimizer/config/lr=1"], ["optimizer/config/lr:"]),
        (["optimizer/config/learning_rate=fast"], ["learning_rate:", "a number"]),
        (["estimator_constructor=Truncated"], ["estimator_constructor:", "TruncatedBackprop"]),
        (["estimator/second_derivative=true"], ["mean estimator/second_derivatives?"]),
        (["second_derivatives=true"], ["mean estimator/second_derivatives?"]),
        (["estimator/second_derivatives=1"], ["estimator/second_derivatives:", "true or false"]),
        (["training/second_derivatives=1"], ["second_derivatives:", "true or false"]),
        (["estimator=5"], ["estimator:", "an object"]),
        (["estimator=5", "training/second_derivatives=true"], ["estimator"]),
        (['training/teachers=[{"class_name": "Sdg"}]'], ["training/teachers/0/", "SGD"]),
        (["seed=-1"], ["seed:", "got -1"]),
        (["network/p=81"], ["network/p:", "got 81"]),
        (["constructor=RNNProp", "network/epsilon=1e-30"], ["network/epsilon:", "got 1e-30"]),
        (["strategy/validation_unroll=1e9"], ["strategy/validation_unroll:", "an integer"]),
        (["strategy/validation_unroll=10000000"], ["strategy/validation_unroll:", "1000000"]),
        (["directory=5"], ["directory:", "a string"]),
        (["directory="], ["directory:", "at least 1"]),
        (["network/kernel_initializer=constant"], ["network/kernel_initializer:"]),
    ],
)
def test_wrong_options_are_refused_by_path(overrides, words):
    with pytest.raises(UserError) as error:
        resolve_config(merge_all(overrides=overrides))
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_positional_arguments_of_a_problem():
    spec = {"target": "mlp_classifier", "args": [[5], "digits"], "kwargs": {"batch_size": 32}}
    (resolved,) = resolve_config({"problems": [spec]})["problems"]
    assert resolved["args"] == [[5], "digits"]
    assert "layers" not in resolved["kwargs"]
    spec["args"] = [[5], "digits", 0]
    spec["kwargs"] = {}
    with pytest.raises(UserError, match=r"problems/0/args/2: .*got 0"):
        resolve_config({"problems": [spec]})
    spec["args"] = [[5], "digits"]
    spec["kwargs"] = {"layers": [3]}
    with pytest.raises(UserError, match="problems/0/kwargs/layers: layers is given by args too"):
        resolve_config({"problems": [spec]})


def test_the_strategy_may_be_chosen_inside_its_section():
    config = {"problems": PROBLEMS, "strategy": {"strategy_constructor": "Simple"}}
    assert resolve_config(config)["strategy_constructor"] == "Simple"
    assert "strategy_constructor" not in resolve_config(config)["strategy"]


def test_two_choices_of_a_strategy_are_refused():
    config = {
        "problems": PROBLEMS,
        "strategy_constructor": "Simple",
        "strategy": {"strategy_constructor": "CurriculumLearning"},
    }
    with pytest.raises(UserError, match=r'strategy/strategy_constructor: .*"Simple".*one value'):
        resolve_config(config)
    config["strategy"]["strategy_constructor"] = "Simple"
    assert resolve_config(config)["strategy_constructor"] == "Simple"


@pytest.mark.parametrize("value", [True, False])
def test_second_derivatives_may_be_an_option_of_training(value):
    config = resolve_config(
        {"problems": PROBLEMS, "training": {"epochs": 2, "second_derivatives": value}}
    )
    assert config["estimator"]["second_derivatives"] is value
    assert config["training"]["epochs"] == 2
    assert "second_derivatives" not in config["training"]
    assert resolve_config(config) == config


@pytest.mark.parametrize("other", [False, 1, "true", None])
def test_two_values_of_one_option_are_refused(other):
    config = {
        "problems": PROBLEMS,
        "training": {"second_derivatives": True},
        "estimator": {"second_derivatives": True},
    }
    assert resolve_config(config)["estimator"]["second_derivatives"] is True
    config["training"]["second_derivatives"] = other
    with pytest.raises(UserError, match=r"^training/second_derivatives: .*expected one value"):
        resolve_config(config)


@pytest.mark.parametrize("preset", [None, *preset_names()])
def test_nothing_is_built(preset, monkeypatch):
    def built(*_, **__):
        raise AssertionError("resolving builds nothing")

    for kind in (keras.optimizers.Optimizer, keras.layers.Layer, keras.Variable, KerasProblem):
        monkeypatch.setattr(kind, "__init__", built)
    monkeypatch.setattr(ProblemSpec, "build", built)
    config = resolve_config(merge_all(presets=[preset] if preset else []))
    assert resolve_config(json.loads(json.dumps(config))) == config


def test_nothing_is_imported_or_executed_because_a_config_says_so():
    schedule = {
        "module": "os",
        "class_name": "system",
        "config": {"command": "touch /tmp/l2o-owned"},
    }
    with pytest.raises(UserError):
        resolve_config({"problems": PROBLEMS, "optimizer": {"config": {"learning_rate": schedule}}})
