import keras
import numpy as np
import pytest

from l2o.evaluate.schedules import SCHEDULES, constant, cosine, warmup_cosine


def values(schedule, rate, steps):
    return [float(schedule(rate, steps)(k)) for k in range(steps)]


def test_their_names():
    assert list(SCHEDULES.entries) == ["constant", "cosine", "warmup_cosine"]
    assert constant(0.3, 7) == 0.3


def test_a_cosine_falls_from_the_rate_to_0_after_the_last_step():
    expected = 0.3 * (1 + np.cos(np.pi * np.arange(40) / 40)) / 2
    np.testing.assert_allclose(values(cosine, 0.3, 40), expected, rtol=1e-5, atol=1e-8)
    assert float(cosine(0.3, 40)(40)) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize(("steps", "warmup"), [(100, 5), (40, 2), (3, 1), (2, 1), (1000, 50)])
def test_the_first_steps_warm_up_linearly_and_none_is_wasted(steps, warmup):
    rise = 0.3 * np.arange(1, warmup + 1) / (warmup + 1)
    rest = np.arange(steps - warmup) / (steps - warmup)
    expected = [*rise, *(0.3 * (1 + np.cos(np.pi * rest)) / 2)]
    np.testing.assert_allclose(values(warmup_cosine, 0.3, steps), expected, rtol=1e-4, atol=1e-8)


def test_a_single_step_has_no_warm_up():
    assert values(warmup_cosine, 0.3, 1) == pytest.approx([0.3])


@pytest.mark.parametrize("name", ["cosine", "warmup_cosine"])
def test_a_schedule_is_proportional_to_its_rate_and_is_kept_in_a_config(name):
    make = SCHEDULES.entries[name]
    np.testing.assert_allclose(
        np.multiply(values(make, 1.0, 9), 0.3), values(make, 0.3, 9), rtol=1e-5
    )
    adam = keras.optimizers.Adam(make(0.3, 9))
    again = keras.optimizers.Adam.from_config(adam.get_config())
    assert again.get_config()["learning_rate"] == adam.get_config()["learning_rate"]
