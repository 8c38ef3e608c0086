import keras
import numpy as np
import pytest

from l2o.evaluate import Run, baselines
from l2o.evaluate.baselines import BASELINES, best_rate, rate, tune
from l2o.problems import mlp_classifier


def test_the_grid_is_1_and_3_times_powers_of_ten():
    assert [rate(k) for k in baselines.LEARNED_RATES] == [0.03, 0.1, 0.3, 1, 3]
    assert [rate(k) for k in baselines.RATES] == [0.003, 0.01, 0.03, 0.1, 0.3]
    assert [rate(k) for k in (0, 1, 2, -16, 8)] == [1, 3, 10, 1e-8, 1e4]


def test_the_baselines_are_those_of_keras():
    made = {label: b.create(0.25) for label, b in BASELINES.entries.items()}
    assert list(made) == [
        "SGD", "Momentum", "RMSprop", "Adam", "AdamW", "AdamW2D", "Lion", "Muon", "Muon2D",
        "Nadam",
    ]  # fmt: skip
    for name, optimizer in made.items():
        kind = {"Momentum": "SGD", "AdamW2D": "AdamW", "Muon2D": "Muon"}.get(name, name)
        expected = getattr(keras.optimizers, kind)(learning_rate=0.25).get_config()
        differing = {
            k: v for k, v in optimizer.get_config().items() if v != expected[k] and k != "name"
        }
        assert differing == ({"momentum": 0.9} if name == "Momentum" else {})


def test_a_weight_decay_is_multiplied_by_the_learning_rate():
    adamw, adam = (BASELINES.entries[name] for name in ("AdamW2D", "Adam"))
    ends = []
    without = keras.optimizers.AdamW(0.5, weight_decay=0.0)
    for optimizer in (adamw.create(0.5, 0.1), without, adam.create(0.5)):
        variable = keras.Variable([2.0, -1.0])
        optimizer.apply([np.ones(2, np.float32)], [variable])
        ends.append(variable.numpy())
    np.testing.assert_allclose(ends[0], ends[1] - 0.5 * 0.1 * np.array([2.0, -1.0]), rtol=1e-6)
    # So without a decay the results of Adam count.
    np.testing.assert_array_equal(ends[1], ends[2])
    assert type(adamw.create(0.5, 0.0)) is keras.optimizers.Adam


def test_the_weight_decay_of_muon_is_that_of_matrices():
    ends = []
    for decay in (0.0, 0.1):
        optimizer = BASELINES.entries["Muon2D"].create(0.5, decay)
        matrix, vector = (keras.Variable(np.ones(shape, np.float32)) for shape in ((3, 3), 3))
        # Without gradients nothing but the decay changes them.
        optimizer.apply([np.zeros((3, 3), np.float32), np.zeros(3, np.float32)], [matrix, vector])
        ends.append((matrix.numpy(), vector.numpy()))
    np.testing.assert_allclose(ends[0][0], np.ones((3, 3)))
    np.testing.assert_allclose(ends[1][0], np.full((3, 3), 1 - 0.5 * 0.1), rtol=1e-6)
    np.testing.assert_allclose([end for _, end in ends], np.full((2, 3), 1 - 0.5 * 0.004), 1e-6)


@pytest.fixture
def swept(monkeypatch):
    """What was asked for, where each rate's loss is a function of it."""
    asked = []

    def install(loss):
        def sweep(problem, make, rates, steps, seeds, on_steps):
            asked.append(list(rates))
            ones = np.ones(len(seeds))
            curves = ones[:, np.newaxis]
            return {r: Run(curves, loss(r) * ones, ones, ones, ones, 1.0) for r in rates}

        monkeypatch.setattr(baselines, "sweep", sweep)
        return asked

    return install


PROBLEM = mlp_classifier(layers=[2])
GRID = [0.003, 0.01, 0.03, 0.1, 0.3]


def test_a_best_rate_inside_the_grid_is_found_at_once(swept):
    asked = swept(lambda r: abs(np.log(r / 0.03)))
    means = tune(PROBLEM, keras.optimizers.SGD, 5, [1, 2])
    assert asked == [GRID]
    assert list(means) == GRID
    assert best_rate(means) == 0.03


def test_one_at_the_edge_extends_it(swept):
    asked = swept(lambda r: abs(np.log(r / 10)))
    means = tune(PROBLEM, keras.optimizers.SGD, 5, [1])
    assert asked == [GRID, [1], [3], [10], [30]]
    assert best_rate(means) == 10
    assert list(means) == sorted(means)


def test_at_the_other_edge_too(swept):
    asked = swept(lambda r: abs(np.log(r / 2e-4)))
    assert best_rate(tune(PROBLEM, keras.optimizers.SGD, 5, [1])) == 3e-4
    assert asked == [GRID, [0.001], [3e-4], [1e-4]]


def test_a_grid_may_start_elsewhere(swept):
    asked = swept(lambda r: abs(np.log(r / 0.3)))
    tune(PROBLEM, keras.optimizers.SGD, 5, [1], baselines.LEARNED_RATES)
    assert asked == [[0.03, 0.1, 0.3, 1, 3]]


def test_what_diverges_bounds_it(swept):
    swept(lambda r: 1 / r if r < 0.5 else np.nan)
    means = tune(PROBLEM, keras.optimizers.SGD, 5, [1])
    assert best_rate(means) == 0.3
    assert list(means)[-1] == 1
    swept(lambda r: r if r < 1e-5 else np.inf)
    # The grid goes where something converges, and then where it is best.
    assert best_rate(tune(PROBLEM, keras.optimizers.SGD, 5, [1])) == 1e-8


def test_what_never_converges_has_its_smallest_rate(swept):
    swept(lambda r: np.nan)
    means = tune(PROBLEM, keras.optimizers.RMSprop, 5, [1])
    assert (min(means), max(means)) == (1e-8, 0.3)
    assert best_rate(means) == 1e-8
