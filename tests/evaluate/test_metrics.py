import math

import numpy as np
import pytest
import scipy.stats

from l2o.evaluate import Run, metrics


def of(losses, train_loss=None, test_loss=None):
    losses = np.array(losses, float)
    last = losses[:, -1] if train_loss is None else np.array(train_loss, float)
    none = np.full(len(losses), np.nan)
    return Run(losses, last, none, none if test_loss is None else test_loss, none, 1.0)


@pytest.fixture
def curves():
    rng = np.random.default_rng(0)
    return np.exp(np.cumsum(rng.normal(-0.02, 0.1, (7, 40)), axis=1))


def test_the_area_is_the_mean_logarithm(curves):
    got = metrics.area(of(curves))
    np.testing.assert_allclose(got, [sum(map(math.log, row)) / 40 for row in curves])
    curves[2, 30:] = np.nan
    got = metrics.area(of(curves))
    assert got[2] == np.inf
    assert np.isfinite(np.delete(got, 2)).all()
    assert np.isfinite(metrics.area(of([[1.0, 0.0]]))).all()


def test_steps_are_counted_on_the_mean_of_the_last_losses(curves):
    target = 0.9
    expected = []
    for row in curves:
        means = [row[max(0, i - 9) : i + 1].mean() for i in range(40)]
        np.testing.assert_allclose(metrics.smooth(row[np.newaxis])[0], means)
        expected.append(next((i for i, mean in enumerate(means) if mean <= target), math.inf))
    got = metrics.steps_to(of(curves), target)
    assert got.tolist() == expected
    assert len({*expected}) > 3
    assert metrics.steps_to(of(curves), 1e-9).tolist() == [math.inf] * 7


def test_one_large_loss_leaves_the_later_means_as_they_are():
    losses = np.r_[1e22, np.ones(30)][np.newaxis]
    np.testing.assert_allclose(metrics.smooth(losses)[0, 10:], 1)
    assert metrics.steps_to(of(losses), 0.5).tolist() == [math.inf]
    assert metrics.smooth(np.array([[3.0]])).tolist() == [[3.0]]
    assert metrics.smooth(np.array([[3.0, 1.0]])).tolist() == [[3.0, 2.0]]


def test_the_target_is_where_the_median_seed_ends(curves):
    ends = sorted(row[-10:].mean() for row in curves)
    assert metrics.target_of(of(curves)) == pytest.approx(ends[3])
    curves[0] = np.nan
    assert np.isfinite(metrics.target_of(of(curves)))


@pytest.mark.parametrize(
    ("losses", "train_loss", "test_loss", "expected"),
    [
        ([2.0, 1.0], 0.5, 0.7, False),
        ([2.0, 1.0], 2.5, 0.7, True),  # it ends higher than it began
        ([2.0, 3.0], 1.9, 9.0, False),
        ([2.0, np.nan], np.nan, 0.7, True),
        ([2.0, np.inf], 0.5, 0.7, True),
        ([2.0, 1.0], np.inf, 0.7, True),
        ([2.0, 1.0], 0.5, np.nan, True),
        ([np.nan, np.nan], np.nan, 0.7, True),
    ],
)
def test_what_has_diverged(losses, train_loss, test_loss, expected):
    # Beside a model that has not.
    run = of([[2.0, 1.0], losses], [1.0, train_loss], np.array([1.0, test_loss]))
    assert metrics.diverged(run).tolist() == [False, expected]


def test_without_a_test_split_nothing_diverges_by_it():
    assert not metrics.diverged(of([[2.0, 1.0]])).any()


def test_the_ratio_has_a_paired_bootstrap_interval():
    rng = np.random.default_rng(1)
    common = rng.lognormal(sigma=0.5, size=20)
    a, b = 0.7 * common * rng.lognormal(sigma=0.05, size=20), common
    got = metrics.ratio(of(a[:, np.newaxis]), of(b[:, np.newaxis]))
    assert got.value == pytest.approx(a.mean() / b.mean())
    reference = scipy.stats.bootstrap(
        (a, b), lambda x, y, axis: x.mean(axis) / y.mean(axis), paired=True, method="percentile",
        n_resamples=20_000, rng=np.random.default_rng(2),
    ).confidence_interval  # fmt: skip
    np.testing.assert_allclose([got.low, got.high], reference, rtol=0.003)
    # Had the pairs been torn apart, it would be much wider.
    torn = scipy.stats.bootstrap(
        (a, b), lambda x, y, axis: x.mean(axis) / y.mean(axis), method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval  # fmt: skip
    assert torn.high - torn.low > 5 * (got.high - got.low)
    assert metrics.ratio(of(b[:, np.newaxis]), of(b[:, np.newaxis])) == (1, 1, 1)


@pytest.mark.filterwarnings("error")
def test_ratios_of_what_diverged():
    fine, lost = of([[1.0], [1.0], [1.0]]), of([[1.0], [np.nan], [1.0]])
    assert metrics.ratio(lost, fine).value == math.inf
    assert metrics.ratio(lost, fine).high == math.inf
    assert metrics.ratio(lost, lost).value == math.inf
    assert metrics.ratio(fine, lost).value == 0
    # Both did all that can be done.
    zero = of([[0.0]] * 3)
    assert metrics.ratio(zero, zero) == (1, 1, 1)
    assert metrics.ratio(fine, zero).value == 1 / metrics.LEAST_LOSS
    assert metrics.ratio(of([[3.0]]), of([[2.0]])) == (1.5, None, None)


def test_every_measure_of_every_seed(curves):
    run = of(np.tile(curves, (1, 3)), test_loss=np.arange(7.0))
    got = metrics.per_seed(run, 0.9)
    assert list(got) == [
        "train_loss", "test_loss", "loss_at_10", "loss_at_100", "log_area", "steps_to_target",
        "diverged",
    ]  # fmt: skip
    np.testing.assert_array_equal(got["loss_at_100"], curves[:, 20])
    np.testing.assert_array_equal(got["test_loss"], np.arange(7.0))
    # After 10 steps: not before, and not where there are no more.
    assert "loss_at_10" not in metrics.per_seed(of(curves[:, :10]), 0.9)


def falling(*losses, seeds=3):
    """Curves that hold each loss for ten steps, the same for all seeds."""
    return of(np.tile(np.repeat(losses, 10), (seeds, 1)))


def test_a_speed_up_counts_the_steps_of_both_to_the_final_loss():
    # The mean of ten losses is 1 first after step 39.
    fast, slow = falling(8.0, 4.0, 2.0, 1.0, 1.0), falling(8.0, 4.0, 4.0, 2.0, 1.0)
    got = metrics.speed_up(fast, slow)
    assert got == (39, 49, pytest.approx(49 / 39))
    assert got.in_time(2.0) == pytest.approx(49 / 78)
    assert metrics.speed_up(slow, fast) == (49, 39, pytest.approx(39 / 49))
    assert metrics.speed_up(fast, fast) == (39, 39, 1)


def test_a_loss_that_is_not_reached_gives_a_bound():
    fast, slow = falling(8.0, 4.0, 1.0, 1.0), falling(8.0, 4.0, 2.0, 1.5)
    assert metrics.speed_up(fast, slow) == (29, None, pytest.approx(39 / 29))
    lost = falling(8.0, np.nan, np.nan, np.nan)
    assert metrics.speed_up(fast, lost) == (29, None, pytest.approx(39 / 29))


def test_speed_ups_without_progress_and_of_what_diverged():
    worse, fine = falling(8.0, 9.0, 9.0), falling(8.0, 4.0, 4.0)
    assert metrics.speed_up(worse, fine) == (0, 0, 0)
    assert np.isnan(metrics.speed_up(falling(8.0, np.nan, np.nan), fine).value)
    assert metrics.speed_up(of([[1.0]]), of([[1.0]])).value == 0


def test_a_speed_up_is_that_of_the_median_seed():
    losses = np.tile(np.repeat([8.0, 4.0, 2.0, 1.0], 10), (3, 1))
    losses[0] = 1e3
    losses[1, 10:] = 0.5
    assert metrics.speed_up(of(losses), falling(8.0, 2.0, 1.0, 1.0)).steps == 39


def test_the_ratio_of_test_losses():
    a = of([[1.0, 1.0]] * 3, [2.0, 2.0, 2.0], np.array([1.0, 2.0, 6.0]))
    b = of([[1.0, 1.0]] * 3, [1.0, 1.0, 1.0], np.array([2.0, 2.0, 2.0]))
    assert metrics.ratio(a, b).value == 2
    assert metrics.ratio(a, b, "test_loss").value == 1.5
    assert metrics.ratio(a, b, "test_loss").high > 1.5
