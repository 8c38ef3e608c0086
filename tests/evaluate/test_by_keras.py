"""Numbers of an evaluation, computed again by Keras' `fit` alone."""

import keras
import numpy as np
import pytest

import l2o
from l2o.evaluate import comparison as module
from l2o.evaluate import protocol as protocols
from l2o.evaluate.baselines import TUNING_SEEDS
from l2o.evaluate.cache import Cache
from l2o.evaluate.comparison import compare
from l2o.evaluate.protocol import protocol_of
from l2o.evaluate.suites import Case, resolved
from l2o.problems import mlp_classifier
from l2o.problems.held_out import with_validation_split
from tests.evaluate.fitting import fitted

STEPS = 8
CASE = resolved(Case("small", "mlp_classifier", {"layers": [4], "batch_size": 128}, STEPS))


def cosine(rate):
    return keras.optimizers.schedules.CosineDecay(rate, STEPS)


@pytest.fixture
def untimed(monkeypatch):
    monkeypatch.setattr(
        module, "relative_times", lambda problem, them, unit: dict.fromkeys(them, 1.0)
    )


def test_tuning_for_validation_loss_takes_examples_that_are_not_trained_on(untimed, monkeypatch):
    monkeypatch.setattr(module, "RATES", range(-3, 0))
    problem = mlp_classifier(**CASE.kwargs)
    protocol = protocol_of(
        baselines="Adam", schedule="cosine", tuning_seeds=1, tuned_for="validation"
    )
    learned = {"any": l2o.DMOptimizer(layers=(2,))}
    found = compare(CASE, problem, learned, 1, Cache(None), protocol=protocol)
    (adam,) = found.baselines.values()
    part = with_validation_split(problem)
    for rate, loss in adam.rates.items():
        optimizer = keras.optimizers.Adam(cosine(rate))
        _, end = fitted(part, optimizer, STEPS, TUNING_SEEDS, part.dataset.test)
        np.testing.assert_allclose(loss, end, rtol=1e-3)
    # The scores are those of models that train on all of them.
    best = min(adam.rates, key=adam.rates.get)
    losses, end = fitted(problem, keras.optimizers.Adam(cosine(best)), STEPS, 0)
    np.testing.assert_allclose(adam.run.losses, [losses], rtol=1e-3)
    np.testing.assert_allclose(adam.run.train_loss, [end], rtol=1e-3)


# test_comparison.py has what is chosen, and test_runs.py what `fit` makes of a weight decay.
@pytest.mark.slow
def test_a_weight_decay_is_chosen_as_fit_would_have_it(untimed, monkeypatch):
    problem = mlp_classifier(**CASE.kwargs)
    # Half of the grid, and the larger decay: it has to matter in 8 steps.
    monkeypatch.setattr(protocols, "LEARNED_DECAYS", (0.0, 0.1))
    monkeypatch.setattr(module, "LEARNED_RATES", range(-1, 1))
    protocol = protocol_of(
        baselines="Adam", tune_learned=True, tuning_seeds=1, tune_weight_decay=True
    )
    found = compare(
        CASE, problem, {"rnnprop": l2o.load("rnnprop-digits")}, 1, Cache(None), protocol=protocol
    )
    entry = found.learned["rnnprop"]
    for decay, means in entry.weight_decays.items():
        for rate, loss in means.items():
            optimizer = l2o.load("rnnprop-digits", learning_rate=rate, weight_decay=decay or None)
            _, end = fitted(problem, optimizer, STEPS, TUNING_SEEDS)
            np.testing.assert_allclose(loss, end, rtol=1e-3)
    assert min(entry.weight_decays[0.0].values()) != min(entry.weight_decays[0.1].values())


# It tunes two optimizers.
@pytest.mark.slow
def test_tuned_optimizers_end_where_fit_ends(untimed):
    problem = mlp_classifier(**CASE.kwargs)
    protocol = protocol_of(baselines="Adam", schedule="cosine", tune_learned=True, tuning_seeds=1)
    learned = {"rnnprop": l2o.load("rnnprop-digits")}
    found = compare(CASE, problem, learned, 2, Cache(None), protocol=protocol)
    made = {
        "rnnprop": lambda rate: l2o.load("rnnprop-digits", learning_rate=rate),
        "Adam": keras.optimizers.Adam,
    }
    for label, entry in found.named().items():
        # Every setting that was tried, on the seed of the tuning.
        tried = {
            rate: fitted(problem, made[label](cosine(rate)), STEPS, TUNING_SEEDS)[1]
            for rate in entry.rates
        }
        np.testing.assert_allclose(list(entry.rates.values()), list(tried.values()), rtol=1e-3)
        best = min(tried, key=tried.get)
        assert min(tried) < best < max(tried)
        assert entry.setting() == f"{best:g}"
        ends = [fitted(problem, made[label](cosine(best)), STEPS, seed) for seed in (0, 1)]
        np.testing.assert_allclose(entry.run.losses, [losses for losses, _ in ends], rtol=1e-3)
        np.testing.assert_allclose(entry.run.train_loss, [end for _, end in ends], rtol=1e-3)
