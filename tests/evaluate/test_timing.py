import keras
import numpy as np
import pytest

import l2o
from l2o.evaluate import timing
from l2o.problems import Quadratic


@pytest.fixture
def clock(monkeypatch):
    """Seconds, as what is timed sees them."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    return now


class Loop:
    """Takes its time, a long one to start, and longer each time."""

    def __init__(self, clock, seconds, losses):
        self.clock, self.seconds, self.losses, self.times = clock, seconds, losses, 0

    def start(self, instances, rates):
        assert (len(instances), rates) == (1, None)
        self.clock[0] += 1000

    def advance(self, batches, steps):
        assert steps == timing.TIMED_STEPS
        self.times += 1
        self.clock[0] += self.seconds * self.times
        return self.losses


def test_times_are_taken_in_turn_without_start_and_compiler(clock, monkeypatch):
    loops = {
        "learned": Loop(clock, 6.0, np.ones((50, 1))),
        "Adam 0.1": Loop(clock, 2.0, np.ones((50, 1))),
        "lost": Loop(clock, 1.0, np.array([1.0, np.nan])),
    }
    monkeypatch.setattr(timing, "loop_for", lambda problem, optimizer, models, rated: optimizer)
    assert timing.relative_times(Quadratic(2), loops, "Adam 0.1") == {
        "learned": 3.0, "Adam 0.1": 1.0, "lost": pytest.approx(np.nan, nan_ok=True),
    }  # fmt: skip
    assert {loop.times for loop in loops.values()} == {1 + timing.TIMED_ROUNDS}


def test_what_diverges_has_no_time():
    learned = l2o.DMOptimizer(layers=(2,))
    learned.network.set_weights([1e30 * np.ones_like(w) for w in learned.network.get_weights()])
    got = timing.relative_times(
        Quadratic(2), {"lost": learned, "fine": keras.optimizers.Adam(0.01)}, "fine"
    )
    assert got["fine"] == 1
    assert np.isnan(got["lost"])
