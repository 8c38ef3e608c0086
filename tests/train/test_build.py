import inspect
import json

import numpy as np
import pytest

import l2o
from config.overrides import merge_all
from l2o.errors import UserError
from l2o.options import INITIALIZERS, activation_names, options_of
from l2o.train import RunDirectory, build_training, resolve_config
from l2o.train.runs.summary import Row
from tests.running import build_runner

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
        "second_derivatives": False,
        "batch_of_problems": 1,
    }
    assert config["loss_args"] == {
        "scale_objective": True,
        "use_log_objective": True,
        "obj_train_max_multiplier": -1,
        "use_numerator_epsilon": True,
        "epsilon": 1e-6,
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


def test_every_option_is_stored_under_its_name():
    for optimizer in l2o.optimizer.OPTIMIZERS.entries.values():
        made = optimizer()
        for name in options_of(optimizer):
            assert hasattr(made, name), name


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["strategy/num_period=5"], ["strategy/num_period:", "mean strategy/num_periods?"]),
        (["num_periods=5"], ["num_periods:", "mean strategy/num_periods?"]),
        (
            ["constructor=RNProp"],
            ["constructor:", "mean RNNProp?", "DM, RNNProp, ScaleBasic, ScaleHierarchical"],
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
        (["training/unroll_weights=median"], ["training/unroll_weights:", '"mean"']),
        (["training/p_teacher=2"], ["training/p_teacher:", "got 2"]),
        (["loss_args/epsilon=0"], ["loss_args/epsilon:", "got 0"]),
        (["optimizer/class_name=Adm"], ["optimizer/class_name:", "mean Adam?"]),
        (["optimizer/config/lr=1"], ["optimizer/config/lr:"]),
        (["optimizer/config/learning_rate=fast"], ["learning_rate:", "a number"]),
        (["optimizer/config/clipnorm=1", "optimizer/config/clipvalue=1"], ["Only one of"]),
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


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["training/p_teacher=1"], ["training/p_teacher:", "no teacher"]),
        (["strategy/unroll_distribution=10000000"], ["unroll_distribution:", "1 to 1000000"]),
        (["network/activation=glu", "network/layers=[3]"], ["network:", "cannot be built"]),
        pytest.param(
            ["network/layers=[1000000]"], ["network:", "cannot be built"], marks=pytest.mark.slow
        ),
        (["strategy/unroll_distribution=0"], ["strategy/unroll_distribution:"]),
        (["strategy/unroll_distribution=1.5"], ["strategy/unroll_distribution:"]),
        (["strategy/annealing_schedule=[1.0]"], ["each of the 20 periods; got 1"]),
        (["strategy/annealing_schedule=-1"], ["strategy/annealing_schedule:"]),
        (["problems/0/kwargs/dataset=mnst"], ["0/kwargs/dataset:", "mean mnist?", "digits"]),
        (["problems/0/kwargs/dataset=a:b"], ["0/kwargs/dataset:", "not the name of a data set"]),
        (["network/bias_initializer=orthogonal"], ["network:", "cannot be built"]),
        (["problems/0/kwargs/layers=[3]", "problems/0/kwargs/activation=glu"], ["problems/0:"]),
        (["problems/0/kwargs/layers=[4]", "problems/0/kwargs/activation=glu"], ["problems/0:"]),
        (["problems/0/kwargs/batch_size=2000"], ["kwargs/batch_size:", "1437 training examples"]),
    ],
)
def test_what_cannot_be_built_is_refused_by_path(overrides, words):
    with pytest.raises(UserError) as error:
        build_runner(resolve_config(merge_all(overrides=overrides)))
    for word in words:
        assert word in str(error.value)


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
    with pytest.raises(UserError, match=r"strategy/strategy_constructor: .*'Simple'.*one choice"):
        resolve_config(config)
    config["strategy"]["strategy_constructor"] = "Simple"
    assert resolve_config(config)["strategy_constructor"] == "Simple"


def test_nothing_is_imported_or_executed_because_a_config_says_so():
    schedule = {
        "module": "os",
        "class_name": "system",
        "config": {"command": "touch /tmp/l2o-owned"},
    }
    with pytest.raises(UserError):
        resolve_config({"problems": PROBLEMS, "optimizer": {"config": {"learning_rate": schedule}}})


def test_a_learning_rate_schedule_for_the_meta_optimizer():
    schedule = {
        "class_name": "CosineDecay",
        "config": {"initial_learning_rate": 0.01, "decay_steps": 10},
    }
    config = resolve_config(
        {"problems": PROBLEMS, "optimizer": {"config": {"learning_rate": schedule}}}
    )
    optimizer = build_training(config).meta_optimizer
    assert float(optimizer.learning_rate) == pytest.approx(0.01)


def test_learned_weights_start_from_the_seed():
    import numpy as np

    def weights(seed):
        config = resolve_config({"problems": PROBLEMS, "seed": seed})
        return l2o.train.build_optimizer(config).network.get_weights()

    for a, b in zip(weights(1), weights(1), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(weights(1), weights(2), strict=True))


def test_weights_of_a_run_started_from_python_can_be_loaded(tmp_path):
    import numpy as np

    def learned():
        return l2o.DMOptimizer(layers=(3,))

    training = l2o.train.Training(
        learned(),
        [l2o.problems.Booth()],
        {"class_name": "Adam"},
        l2o.train.LossArgs(use_log_objective=False),
        repeat=1,
    )
    run = l2o.train.RunDirectory(tmp_path)
    strategy = l2o.train.SimpleStrategy(epochs_per_period=1, num_periods=1, unroll_distribution=2)
    l2o.train.Runner(training, strategy, run).train()
    loaded = learned()
    l2o.train.load_weights(loaded, run)
    for a, b in zip(
        loaded.network.get_weights(), training.optimizer.network.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    other = l2o.DMOptimizer(layers=(4,))
    before = other.network.get_weights()
    with pytest.raises(UserError, match=r"npz cannot be used: expected the weights of DMOptimizer"):
        l2o.train.load_weights(other, run)
    for a, b in zip(before, other.network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_weights_of_another_optimizer_are_told_by_its_name(tmp_path):
    config = resolve_config({"problems": [{"target": "Booth"}], "network": {"layers": [2]}})
    training = build_training(config)
    arrays = {**training.save_state(), "optimizer": np.array("RNNPropOptimizer")}
    run = RunDirectory(tmp_path)
    run.write_config(config)
    run.write_period(Row(0, 0, None, None, None, 0.0, 1, 0, 1, 0), arrays)
    for load in (lambda: training.load_state(arrays, "it"), lambda: l2o.load(tmp_path)):
        with pytest.raises(UserError, match=r"not belong to DMOptimizer: .* of RNNPropOpti"):
            load()


@pytest.mark.parametrize("name", INITIALIZERS)
def test_every_initializer_that_is_named_works(name):
    assert l2o.DMOptimizer(layers=(3,), kernel_initializer=name).network.weights


def test_every_activation_that_is_named_works():
    for name in activation_names():
        if name == "glu":
            # It halves its units; the next layer expects all of them.
            with pytest.raises(ValueError, match="incompatible"):
                l2o.problems.mlp_classifier(layers=[4], activation=name)
        else:
            # A problem is made with a trace of a training step.
            assert l2o.problems.mlp_classifier(layers=[4], activation=name).init(0).params
