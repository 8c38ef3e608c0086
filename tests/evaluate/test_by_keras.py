"""Numbers of an evaluation, computed again by Keras' `fit` alone."""

import keras
import numpy as np
import pytest

import l2o
from l2o.evaluate import comparison as module
from l2o.evaluate.baselines import TUNING_SEEDS
from l2o.evaluate.cache import Cache
from l2o.evaluate.comparison import compare
from l2o.evaluate.protocol import protocol_of
from l2o.evaluate.suites import Case, resolved
from l2o.problems import mlp_classifier
from tests.evaluate.fitting import fitted

STEPS = 8
CASE = resolved(Case("small", "mlp_classifier", {"layers": [4], "batch_size": 128}, STEPS))


def cosine(rate):
    return keras.optimizers.schedules.CosineDecay(rate, STEPS)


# It tunes two optimizers.
@pytest.mark.slow
def test_tuned_optimizers_end_where_fit_ends(monkeypatch):
    monkeypatch.setattr(
        module, "relative_times", lambda problem, them, unit: dict.fromkeys(them, 1.0)
    )
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
