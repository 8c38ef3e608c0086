import numpy as np
import pytest

import l2o
from l2o.evaluate import comparison as module
from l2o.evaluate import metrics, run, sweep
from l2o.evaluate.baselines import BASELINES, TUNING_SEEDS, best_rate
from l2o.evaluate.cache import Cache
from l2o.evaluate.comparison import compare, probed
from l2o.evaluate.suites import Case, resolved
from l2o.problems import Quadratic, mlp_classifier

CASE = resolved(Case("small", "mlp_classifier", {"layers": [2], "batch_size": 256}, 4))


@pytest.fixture(scope="module")
def optimizers():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(l2o.optimizer.TrainableOptimizer, "xla", False)
        yield {"one": l2o.DMOptimizer(layers=(2,)), "two": l2o.RNNPropOptimizer(layers=(2,))}


@pytest.fixture(scope="module")
def problem():
    return mlp_classifier(**CASE.kwargs)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def compared(problem, optimizers, cache):
    told = []
    found = compare(CASE, problem, optimizers, 2, cache, on_steps=lambda *what: told.append(what))
    return found, told


def test_learned_ones_and_tuned_baselines_train_the_same_seeds(compared, problem, optimizers):
    found, told = compared
    assert list(found.learned) == ["one", "two"]
    kinds = [label.split()[0] for label in found.baselines]
    assert kinds == [baseline.label for baseline in BASELINES]
    for label, optimizer in optimizers.items():
        expected = run(problem, optimizer, 4, [0, 1])
        np.testing.assert_allclose(found.learned[label].run.losses, expected.losses, rtol=1e-5)
        assert found.learned[label].rates is None
    for baseline, (label, entry) in zip(BASELINES, found.baselines.items(), strict=True):
        rate = best_rate(entry.rates)
        assert label == f"{baseline.label} {rate:g}"
        assert found.rate_of(baseline.label) == rate
        assert min(entry.rates) < rate < max(entry.rates), "not at the edge of what was tried"
        expected = run(problem, baseline.create(rate), 4, [0, 1])
        np.testing.assert_allclose(entry.run.losses, expected.losses, rtol=1e-4)
    assert {label for label, *_ in told} >= {"one", "two", "tuning SGD", "tuning AdamW"}


def test_they_are_tuned_on_other_seeds(compared, problem):
    found, _ = compared
    rates = found.baselines[f"Adam {found.rate_of('Adam'):g}"].rates
    others = [TUNING_SEEDS, TUNING_SEEDS + 1]
    swept = sweep(problem, "Adam", list(rates), 4, others)
    for rate, mean in rates.items():
        np.testing.assert_allclose(mean, swept[rate].train_loss.mean(), rtol=1e-4)


def test_the_best_baseline_sets_the_standard(compared):
    found, _ = compared
    means = {label: entry.run.train_loss.mean() for label, entry in found.baselines.items()}
    assert means[found.best] == min(means.values())
    assert found.target == metrics.target_of(found.baselines[found.best].run)
    assert found.ratio(found.best).value == 1
    ratio = found.learned["one"].run.train_loss.mean() / min(means.values())
    assert found.ratio("one").value == pytest.approx(ratio)


def test_time_is_relative_to_adam(monkeypatch, problem, optimizers):
    now = [0.0]

    class Clock:
        @staticmethod
        def perf_counter():
            return now[0]

    class Loop:
        def __init__(self, seconds):
            self.seconds = seconds

        def start(self, instances, rates):
            pass

        def advance(self, batches, steps):
            assert steps == module.TIMED_STEPS
            now[0] += self.seconds

    def loop_for(problem, optimizer, models, rated):
        assert (models, rated) == (1, False)
        # A noisy moment is everybody's.
        return Loop({"DM": 6.0, "Adam": 2.0}.get(type(optimizer).__name__[:2], 2.0) + 1)

    monkeypatch.setattr(module, "time", Clock)
    monkeypatch.setattr(module, "loop_for", loop_for)
    adam = BASELINES[2].create(0.1)
    got = module._times(
        {}, problem, {"x": optimizers["one"], "Adam 0.1": adam}, "Adam 0.1", Cache(None)
    )
    assert got == {"x": 7 / 3, "Adam 0.1": 1.0}


@pytest.fixture
def nothing_runs(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("computed again")

    for name in ("run", "tune", "loop_for", "probe"):
        monkeypatch.setattr(module, name, refuse)


def test_a_second_call_computes_nothing(compared, problem, optimizers, cache, nothing_runs):
    again = compare(CASE, problem, optimizers, 2, cache)
    first, _ = compared
    assert again.entries().keys() == first.entries().keys()
    for label, entry in again.entries().items():
        expected = first.entries()[label]
        for a, b in zip(entry.run, expected.run, strict=True):
            np.testing.assert_array_equal(a, b)
        assert entry.rates == expected.rates
        assert entry.time == expected.time
    assert (again.best, again.target) == (first.best, first.target)
    # Another target is no other result.
    assert compare(CASE, problem, optimizers, 2, cache, target=0.5).target == 0.5


@pytest.mark.parametrize("what", ["steps", "seeds", "problem", "data", "weights", "option"])
def test_anything_else_is_computed(
    what, compared, problem, optimizers, cache, nothing_runs, monkeypatch
):
    case, optimizer, seeds = CASE, optimizers["one"], 2
    if what == "steps":
        case = CASE._replace(steps=5)
    elif what == "seeds":
        seeds = 3
    elif what == "problem":
        case = CASE._replace(kwargs={**CASE.kwargs, "activation": "relu"})
    elif what == "data":
        train = problem.dataset.train
        changed = train._replace(labels=(train.labels + 1) % 10)
        monkeypatch.setattr(problem, "dataset", problem.dataset._replace(train=changed))
    elif what == "weights":
        optimizer = l2o.DMOptimizer(layers=(2,))
        optimizer.learn([w + 1 for w in optimizers["one"].network.get_weights()])
    else:
        optimizer = type(optimizer).from_config({**optimizer.get_config(), "learning_rate": 0.5})
    with pytest.raises(AssertionError, match="computed again"):
        compare(case, problem, {"one": optimizer}, seeds, cache)


def test_a_probe_is_kept_too(problem, optimizers, cache, monkeypatch):
    first = probed(CASE, problem, optimizers["one"], cache)
    assert len(first.gradients) == 4
    monkeypatch.setattr(module, "probe", None)
    again = probed(CASE, problem, optimizers["one"], cache)
    np.testing.assert_array_equal(again.updates, first.updates)


def test_a_problem_without_data(optimizers):
    case = resolved(Case("Quadratic", "Quadratic", {"dimensions": 2}, 3))
    found = compare(case, Quadratic(2), {"one": optimizers["one"]}, 2, Cache(None), target=1.0)
    assert found.target == 1.0
    assert np.isfinite(found.ratio("one").value)
