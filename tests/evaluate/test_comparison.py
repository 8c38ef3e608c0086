import keras
import numpy as np
import pytest

import l2o
from l2o.evaluate import comparison as module
from l2o.evaluate import metrics, run, sweep
from l2o.evaluate.baselines import TUNING_SEEDS, best_rate
from l2o.evaluate.cache import Cache
from l2o.evaluate.comparison import compare, probed
from l2o.evaluate.protocol import Protocol, protocol_of
from l2o.evaluate.suites import Case, resolved
from l2o.problems import Quadratic, mlp_classifier

# One without and one with a state: to tune them takes most of the time.
FEW = Protocol(("SGD", "Adam"))
CASE = resolved(Case("small", "mlp_classifier", {"layers": [2], "batch_size": 256}, 4))


@pytest.fixture(scope="module")
def optimizers():
    return {"one": l2o.DMOptimizer(layers=(2,)), "two": l2o.RNNPropOptimizer(layers=(2,))}


@pytest.fixture(scope="module")
def problem():
    return mlp_classifier(**CASE.kwargs)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True, scope="module")
def _no_clock():
    """test_timing.py has what measures; here everything takes twice the time of the unit."""

    def relative_times(problem, optimizers, unit):
        return {label: 1.0 if label == unit else 2.0 for label in optimizers}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "relative_times", relative_times)
        yield


@pytest.fixture(scope="module")
def compared(problem, optimizers, cache):
    told = []
    found = compare(
        CASE, problem, optimizers, 2, cache, on_steps=lambda *what: told.append(what), protocol=FEW
    )
    return found, told


def test_learned_ones_and_tuned_baselines_train_the_same_seeds(compared, problem, optimizers):
    check(*compared, problem, optimizers, FEW)


@pytest.mark.slow
def test_so_do_all_baselines(problem, optimizers):
    told = []
    found = compare(
        CASE, problem, optimizers, 2, Cache(None), on_steps=lambda *what: told.append(what)
    )
    check(found, told, problem, optimizers, Protocol())


def check(found, told, problem, optimizers, protocol):
    assert list(found.learned) == ["one", "two"]
    kinds = [label.split()[0] for label in found.baselines]
    assert kinds == list(protocol.baselines)
    for label, optimizer in optimizers.items():
        expected = run(problem, optimizer, 4, [0, 1])
        np.testing.assert_allclose(found.learned[label].run.losses, expected.losses, rtol=1e-5)
        assert found.learned[label].rates is None
    for baseline, (label, entry) in zip(protocol.chosen(), found.baselines.items(), strict=True):
        rate = best_rate(entry.rates)
        assert label == f"{baseline.label} {rate:g}"
        assert found.rate_of(baseline.label) == rate
        assert min(entry.rates) < rate < max(entry.rates), "not at the edge of what was tried"
        expected = run(problem, baseline.create(rate), 4, [0, 1])
        np.testing.assert_allclose(entry.run.losses, expected.losses, rtol=1e-4)
    assert {label for label, *_ in told} >= {"one", "two", "tuning SGD", f"tuning {kinds[-1]}"}


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


def test_time_is_relative_to_adam(compared):
    found, _ = compared
    times = {label.split()[0]: entry.time for label, entry in found.entries().items()}
    assert times.pop("Adam") == 1
    assert set(times.values()) == {2.0}


@pytest.fixture
def nothing_runs(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("computed again")

    for name in ("run", "tune", "relative_times", "probe"):
        monkeypatch.setattr(module, name, refuse)


def test_a_second_call_computes_nothing(compared, problem, optimizers, cache, nothing_runs):
    again = compare(CASE, problem, optimizers, 2, cache, protocol=FEW)
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
    assert compare(CASE, problem, optimizers, 2, cache, target=0.5, protocol=FEW).target == 0.5


@pytest.mark.parametrize("what", ["steps", "seeds", "problem", "data", "test", "weights", "option"])
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
    elif what in ("data", "test"):
        split = "train" if what == "data" else "test"
        before = getattr(problem.dataset, split)
        changed = before._replace(labels=(before.labels + 1) % 10)
        monkeypatch.setattr(problem, "dataset", problem.dataset._replace(**{split: changed}))
    elif what == "weights":
        optimizer = l2o.DMOptimizer(layers=(2,))
        optimizer.set_learned_weights([w + 1 for w in optimizers["one"].network.get_weights()])
    else:
        optimizer = type(optimizer).from_config({**optimizer.get_config(), "learning_rate": 0.5})
    with pytest.raises(AssertionError, match="computed again"):
        compare(case, problem, {"one": optimizer}, seeds, cache, protocol=FEW)


def test_a_probe_is_kept_too(problem, optimizers, cache, monkeypatch):
    first = probed(CASE, problem, optimizers["one"], cache)
    assert len(first.gradients) == 4
    monkeypatch.setattr(module, "probe", None)
    again = probed(CASE, problem, optimizers["one"], cache)
    np.testing.assert_array_equal(again.updates, first.updates)
    with pytest.raises(TypeError):
        probed(CASE, problem, optimizers["two"], cache)
    with pytest.raises(TypeError):
        probed(CASE._replace(steps=3), problem, optimizers["one"], cache)


def test_a_problem_without_data(optimizers):
    case = resolved(Case("Quadratic", "Quadratic", {"dimensions": 2}, 3))
    one = {"one": optimizers["one"]}
    found = compare(case, Quadratic(2), one, 2, Cache(None), target=1.0, protocol=FEW)
    assert found.target == 1.0
    assert np.isfinite(found.ratio("one").value)


# It trains with all baselines once more.
@pytest.mark.slow
def test_where_every_baseline_diverges(optimizers, problem, monkeypatch):
    def diverges(*args):
        return {1e-8: np.nan, 0.1: np.inf}

    def lost(problem, optimizer, steps, seeds, on_steps=None):
        found = run(problem, optimizer, steps, seeds)
        bad = not isinstance(optimizer, l2o.DMOptimizer)
        return found._replace(train_loss=found.train_loss + (np.nan if bad else 0))

    monkeypatch.setattr(module, "tune", diverges)
    monkeypatch.setattr(module, "run", lost)
    found = compare(CASE, problem, {"one": optimizers["one"]}, 2, Cache(None))
    assert list(found.baselines) == [
        f"{name} 1e-08" for name in ("SGD", "Momentum", "RMSprop", "Adam", "AdamW")
    ]
    assert found.ratio("one").value == 0
    assert found.ratio("Adam 1e-08").value == np.inf


class Told(Cache):
    """Tells what it is asked for."""

    def __init__(self):
        super().__init__(None)
        self.keys = []

    def get(self, key):
        self.keys.append(key)
        return super().get(key)


class Asked(list):
    """What was asked for, in turn; `on` has the problems and measures."""


@pytest.fixture
def tuning(monkeypatch):
    """The optimizers that are tuned, and how; each is best at 0.3, a weight decay at 0.01."""
    asked, on = Asked(), []
    asked.on = on

    def tune(problem, create, steps, seeds, numbers, on_steps, measure):
        made = create()
        asked.append((made, list(seeds), list(numbers)))
        on.append((problem, measure))
        decay = made.weight_decay
        return {0.1: 3.0, 0.3: {None: 1.0, 0.01: 0.5}.get(decay, 2.0), 1.0: np.nan}

    monkeypatch.setattr(module, "tune", tune)
    return asked


@pytest.fixture
def scored(monkeypatch):
    """The optimizers that are scored; none is run."""
    asked, ones = [], np.ones(2)

    def run(problem, optimizer, steps, seeds, on_steps):
        asked.append(optimizer)
        return module.Run(np.ones((2, 4)), ones, ones, ones, ones, 1.0)

    monkeypatch.setattr(module, "run", run)
    return asked


def content(optimizer):
    config = {k: v for k, v in optimizer.get_config().items() if k != "name"}
    return {"class": type(optimizer).__name__, "config": config}


def test_the_keys_of_the_default_protocol_are_what_they_always_were(
    problem, optimizers, tuning, scored
):
    cache = Told()
    found = compare(CASE, problem, {"one": optimizers["one"]}, 2, cache)
    about = {"target": "mlp_classifier", "kwargs": CASE.kwargs, "steps": 4}
    tune_keys = [key for key in cache.keys if "tune" in key]
    for key, name in zip(tune_keys, ("SGD", "SGD", "RMSprop", "Adam", "AdamW"), strict=True):
        more = {"momentum": 0.9} if key is tune_keys[1] else {}
        data = {"data": key["tune"]["data"]}
        assert key == {
            "tune": {**about, **data},
            "optimizer": content(getattr(keras.optimizers, name)(learning_rate=1.0, **more)),
            "seeds": [1_000_000, 1_000_001],
        }
    first, *runs = (key for key in cache.keys if "run" in key)
    assert first["optimizer"] == module._content(optimizers["one"])
    assert first["optimizer"]["config"]["learning_rate"] == 1.0
    assert [key["optimizer"]["config"]["learning_rate"] for key in runs] == pytest.approx(
        [0.3, 0.3, 0.3, 0.3, 0.3]
    )
    assert all(set(key) == {"run", "optimizer", "seeds"} for key in (first, *runs))
    assert found.learned["one"].rates is None
    assert [numbers for _, _, numbers in tuning] == [[-5, -4, -3, -2, -1]] * 5


def test_a_protocol_tunes_and_schedules_all_alike(problem, optimizers, tuning, scored):
    protocol = protocol_of(
        baselines="Adam,AdamW2D", schedule="cosine", tune_learned=True, tuning_seeds=1
    )
    found = compare(CASE, problem, {"one": optimizers["one"]}, 2, Cache(None), protocol=protocol)
    assert list(found.baselines) == ["Adam 0.3", "AdamW2D 0.3 wd 0.01"]
    assert list(found.named()) == ["one", "Adam", "AdamW2D"]
    learned, adam, *decays = tuning
    assert (learned[1:], adam[1:]) == (([1_000_000], [-3, -2, -1, 0, 1]),
                                       ([1_000_000], [-5, -4, -3, -2, -1]))  # fmt: skip
    assert [made.weight_decay for made, *_ in decays] == [None, 0.001, 0.01, 0.1, 1]
    # Without a decay it is what has been tuned already.
    assert content(decays[0][0]) == content(adam[0])
    for made, *_ in tuning:
        assert float(made.learning_rate) == 1
        assert made.get_config()["learning_rate"]["config"]["decay_steps"] == 4
    # What this makes of a model is in test_by_keras.py.
    schedule = keras.optimizers.schedules.CosineDecay(0.3, 4)
    expected = (
        module.with_rate(optimizers["one"], schedule),
        keras.optimizers.Adam(schedule),
        keras.optimizers.AdamW(schedule, weight_decay=0.01),
    )
    assert [content(one) for one in scored] == [content(one) for one in expected]
    assert list(found.named()["AdamW2D"].weight_decays) == [0, 0.001, 0.01, 0.1, 1]
    assert [entry.rates[0.3] for entry in found.named().values()] == [1.0, 1.0, 0.5]
    assert found.learned["one"].setting() == "0.3"


def test_the_weight_decay_of_learned_optimizers_is_tuned_as_that_of_adamw(
    problem, optimizers, tuning, scored
):
    protocol = protocol_of(
        baselines="Adam", schedule="cosine", tune_learned=True, tune_weight_decay=True
    )
    learned = {"one": optimizers["one"]}
    found = compare(CASE, problem, learned, 2, Cache(None), protocol=protocol)
    *decays, adam = [made for made, *_ in tuning]
    assert [made.weight_decay for made in decays] == [None, 0.001, 0.01, 0.1]
    without = module.with_rate(optimizers["one"], keras.optimizers.schedules.CosineDecay(1.0, 4))
    assert content(decays[0]) == content(without)
    entry = found.learned["one"]
    assert entry.setting() == "0.3 wd 0.01"
    assert {decay: means[0.3] for decay, means in entry.weight_decays.items()} == {
        0: 1.0, 0.001: 2.0, 0.01: 0.5, 0.1: 2.0
    }  # fmt: skip
    assert entry.rates is entry.weight_decays[0.01]
    chosen = scored[0].get_config()
    assert chosen["weight_decay"] == 0.01
    assert chosen["learning_rate"]["config"]["initial_learning_rate"] == pytest.approx(0.3)
    assert adam.weight_decay is None
    assert list(found.baselines) == ["Adam 0.3"]


def test_tuning_for_validation_loss_sees_training_examples_only(
    problem, optimizers, tuning, scored
):
    keys = {}
    for tuned_for in ("training", "validation"):
        cache = Told()
        protocol = protocol_of(
            baselines="Adam,AdamW2D", tune_learned=True, tuning_seeds=1, tuned_for=tuned_for
        )
        compare(CASE, problem, {"one": optimizers["one"]}, 2, cache, protocol=protocol)
        keys[tuned_for] = cache.keys
    count = len(tuning.on) // 2
    assert all(asked == (problem, "train_loss") for asked in tuning.on[:count])
    whole = {row.tobytes() for row in problem.dataset.train.images}
    for part, measure in tuning.on[count:]:
        assert measure == "test_loss"
        splits = [split.images for split in (part.dataset.train, part.dataset.test)]
        assert [len(images) for images in splits] == [1150, 287]
        assert {row.tobytes() for images in splits for row in images} == whole
    # The results of one are never taken for those of the other; the scores are the same.
    for old, new in zip(keys["training"], keys["validation"], strict=True):
        assert new == ({**old, "for": "validation"} if "tune" in old else old)


def test_a_problem_without_data_is_tuned_for_its_objective():
    protocol = protocol_of(tuned_for="validation")
    quadratic = Quadratic(3)
    assert module.tuning_of(quadratic, protocol) == (quadratic, "train_loss")


def test_a_schedule_holds_without_tuning_too(problem, optimizers, tuning, scored):
    protocol = protocol_of(baselines="Adam", schedule="cosine")
    found = compare(CASE, problem, {"one": optimizers["one"]}, 2, Cache(None), protocol=protocol)
    schedule = keras.optimizers.schedules.CosineDecay(1.0, 4)
    assert content(scored[0]) == content(module.with_rate(optimizers["one"], schedule))
    assert found.learned["one"].rates is None
    assert len(tuning) == 1


def test_the_test_loss_has_a_best_baseline_of_its_own():
    ones = np.ones((2, 3))

    def entry(train, test):
        train, test = np.full(2, train), np.full(2, test)
        return module.Entry(module.Run(ones, train, test, test, test, 1.0), None, 1.0)

    baselines = {"Adam 1": entry(1.0, 4.0), "SGD 1": entry(2.0, 3.0)}
    found = module.Comparison(CASE, {"one": entry(0.5, 6.0)}, baselines, "Adam 1", 0.1)
    assert found.losses() == ["train_loss", "test_loss"]
    assert found.ratio("one").value == 0.5
    assert found.ratio("one", "test_loss").value == 2
    assert found.best_by("test_loss") == "SGD 1"
    untested = {k: entry(1.0, np.nan) for k in ("Adam 1", "SGD 1")}
    assert found._replace(learned={}, baselines=untested).losses() == ["train_loss"]
