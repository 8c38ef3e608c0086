import math

import numpy as np
import pytest
import scipy.stats

from l2o.evaluate import aggregate

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 8, 30])
def test_the_interquartile_mean_is_that_of_rliable(count):
    values = RNG.normal(size=(5, count))
    expected = scipy.stats.trim_mean(values, 0.25, axis=1)
    np.testing.assert_allclose(aggregate.interquartile_mean(values), expected)


def test_by_hand():
    # Of 8 values, 2 are left out at each end.
    assert aggregate.interquartile_mean(np.array([9.0, 1, 2, 3, 4, 5, -80, 0])) == 2.5
    assert aggregate.interquartile_mean(np.array([1, 2, 3, np.inf])) == 2.5
    assert aggregate.interquartile_mean(np.array([1, 2, np.inf, np.inf])) == np.inf
    assert aggregate.interquartile_mean(np.array([-np.inf, np.inf])) == np.inf


def test_the_overall_ratio_is_a_geometric_mean_of_the_middle_half():
    above, below = np.array([1.0, 2.0]), np.array([2.0, 2.0])
    more = np.array([8.0, 100.0]), np.array([2.0, 1.0])
    # Ratios 0.5, 1, 4 and 100.
    got = aggregate.overall_ratio([(above, below), more])
    assert got.value == pytest.approx(2)
    assert got.low <= got.value <= got.high
    one = aggregate.overall_ratio([(above[:1], below[:1]), (more[0][:1], more[1][:1])])
    assert one == (pytest.approx(math.sqrt(2)), None, None)


def test_seeds_are_drawn_within_each_problem_and_stay_paired():
    # The ratio is the same for all seeds of a problem, so nothing depends on the draw.
    problems = []
    for ratio in (0.5, 1.0, 2.0, 4.0):
        below = RNG.lognormal(size=6)
        problems.append((ratio * below, below))
    got = aggregate.overall_ratio(problems)
    expected = math.sqrt(2.0)
    assert got == pytest.approx((expected, expected, expected))


def test_the_interval_is_that_of_a_bootstrap_written_by_hand():
    problems = [
        (RNG.lognormal(sigma=0.5, size=n), RNG.lognormal(sigma=0.5, size=n)) for n in (5, 8)
    ]
    rng = np.random.default_rng(7)
    draws = []
    for _ in range(4000):
        logs = []
        for above, below in problems:
            own = rng.choice(len(above), len(above))
            logs.extend(np.log(above[own] / below[own]))
        draws.append(math.exp(scipy.stats.trim_mean(logs, 0.25)))
    got = aggregate.overall_ratio(problems)
    assert got.low == pytest.approx(np.quantile(draws, 0.025), rel=0.05)
    assert got.high == pytest.approx(np.quantile(draws, 0.975), rel=0.05)
    assert got == aggregate.overall_ratio(problems)


@pytest.mark.filterwarnings("error")
def test_what_diverged():
    inf = np.array([np.inf, np.inf])
    fine = np.array([1.0, 2.0])
    assert aggregate.overall_ratio([(inf, fine)]).value == np.inf
    assert aggregate.overall_ratio([(fine, inf)]).value == 0
    assert aggregate.overall_ratio([(fine, inf), (inf, fine)]).value == np.inf


LOSSES = np.array(
    [
        [1.0, 2.0, 4.0],
        [3.0, 1.0, np.inf],
        [0.0, 1e-13, 1.0],
        [np.inf, np.inf, np.inf],
    ]
)


@pytest.mark.filterwarnings("error")
def test_ratios_to_the_winner():
    got = aggregate.ratios_to_winner(LOSSES)
    np.testing.assert_allclose(
        got, [[1, 2, 4], [3, 1, np.inf], [1, 1, 1e12], [np.inf, np.inf, np.inf]]
    )


def test_the_profile_counts_the_problems_within_a_factor():
    ratios = aggregate.ratios_to_winner(LOSSES)
    got = aggregate.performance_profile(ratios, [1, 2, 3, 4])
    np.testing.assert_array_equal(got, np.array([[2, 2, 3, 3], [2, 3, 3, 3], [0, 0, 0, 1]]) / 4)
