"""A period trains first, and then validates what it started from and what it has learned."""

import itertools
import re

import keras
import numpy as np
import pytest

import l2o
from l2o.progress import Silent
from l2o.train import LossArgs, Runner, SimpleStrategy, Training
from tests.train.parabola import Parabola


class Texts(Silent):
    """Keeps what is reported."""

    def __init__(self):
        self.texts = []

    def update(self, text, done):
        self.texts.append(text)


def test_the_start_of_a_stage_is_validated_after_its_first_meta_steps():
    keras.utils.set_random_seed(0)
    optimizer = l2o.RNNPropOptimizer(layers=(3,))
    before = optimizer.network.get_weights()
    training = Training(
        optimizer, [Parabola()], keras.optimizers.Adam(0.01), LossArgs(), repeat=3, depth=1
    )
    strategy = SimpleStrategy(num_periods=2, epochs_per_period=2, unroll_distribution=5)
    runner, progress = Runner(training, strategy), Texts()
    first, second = runner.train(progress)
    assert "step" in progress.texts[0]
    kinds = ["validation" if "validation" in text else "step" for text in progress.texts]
    changes = [a for a, b in itertools.pairwise(kinds) if a != b]
    assert changes == ["step", "validation", "step"], "each period trains, then validates"
    # The second period goes on from what the first has learned, not from the start.
    trained = optimizer.network.get_weights()
    assert any(np.any(a != b) for a, b in zip(trained, before, strict=True))
    period = strategy.plan([first])
    assert runner._validate(period, lambda *_: None) == second.validation_loss
    optimizer.network.set_weights(before)
    assert runner._validate(period, lambda *_: None) == first.start_loss
    assert second.start_loss is None
    assert len({first.start_loss, first.validation_loss, second.validation_loss}) == 3


META, IMITATION = r"meta-loss -?\d+\.\d{3}, gradient [\d.]+", r"imitation loss -?\d+\.\d{3}"


@pytest.mark.parametrize(
    ("p_teacher", "kinds"), [(0, [META]), (1, [IMITATION]), (0.5, [META, IMITATION])]
)
def test_progress_says_which_loss_it_is(p_teacher, kinds):
    keras.utils.set_random_seed(0)
    optimizer = l2o.RNNPropOptimizer(layers=(3,))
    training = Training(
        optimizer,
        [Parabola()],
        keras.optimizers.Adam(0.01),
        LossArgs(),
        teachers=[keras.optimizers.SGD(0.1)],
        p_teacher=p_teacher,
        depth=1,
        repeat=6,
    )
    strategy = SimpleStrategy(num_periods=1, epochs_per_period=1, unroll_distribution=5)
    progress = Texts()
    Runner(training, strategy).train(progress)
    told = [text for text in progress.texts if "loss" in text and "validation" not in text]
    found = [
        [bool(re.fullmatch(rf"period 0, step \d+, {kind}", t)) for kind in kinds] for t in told
    ]
    assert all(map(any, found)), told
    assert all(map(any, zip(*found, strict=True))), told
