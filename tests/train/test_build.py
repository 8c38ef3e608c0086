import numpy as np
import pytest

import l2o
from config.overrides import merge_all
from l2o.errors import UserError
from l2o.options import INITIALIZERS, activation_names, options_of
from l2o.train import RunDirectory, build_training, resolve_config
from l2o.train.runs.summary import Row
from tests.running import build_runner

PROBLEMS = [{"target": "mlp_classifier"}]


def test_every_option_is_stored_under_its_name():
    for optimizer in l2o.optimizer.OPTIMIZERS.entries.values():
        made = optimizer()
        for name in options_of(optimizer):
            assert hasattr(made, name), name


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["training/p_teacher=1"], ["training/p_teacher:", "no teacher"]),
        (["optimizer/config/clipnorm=1", "optimizer/config/clipvalue=1"], ["optimizer/config:"]),
        (
            ["training/teachers/0/config/clipnorm=1", "training/teachers/0/config/clipvalue=1"],
            ["training/teachers/0/config:", "Only one of"],
        ),
        (
            ['training/imitation_optimizer={"config":{"clipnorm":1,"clipvalue":1}}'],
            ["training/imitation_optimizer/config:", "Only one of"],
        ),
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


def test_the_estimator_has_the_options_of_the_config():
    for value in (True, False):
        config = resolve_config(
            {"problems": [{"target": "Booth"}], "estimator": {"second_derivatives": value}}
        )
        assert build_training(config).estimator.second_derivatives == value


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


# It traces a problem with each of them.
@pytest.mark.slow
def test_every_activation_that_is_named_works():
    for name in activation_names():
        if name == "glu":
            # It halves its units; the next layer expects all of them.
            with pytest.raises(ValueError, match="incompatible"):
                l2o.problems.mlp_classifier(layers=[4], activation=name)
        else:
            # A problem is made with a trace of a training step.
            assert l2o.problems.mlp_classifier(layers=[4], activation=name).init(0).params
