"""Runners and runs as tests want them."""

from contextlib import contextmanager

import numpy as np
import pytest
import tensorflow as tf

from l2o.train import Runner, build_strategy, build_training


def build_runner(config, run=None, replicas=None):
    """Builds everything a run needs from a resolved config; without `run`, nothing is written."""
    return Runner(build_training(config, replicas), build_strategy(config), run, config["seed"])


@contextmanager
def quick_periods():
    """For tests of what is around periods: a trace and a validation take longer than two steps.

    What stands in for the validation loss tells learned weights apart.
    """

    def validate(runner, *_):
        weights = runner.training.optimizer.network.get_weights()
        return float(np.mean([np.mean(np.abs(w - 0.5)) for w in weights]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runner, "_validate", validate)
        tf.config.run_functions_eagerly(True)
        try:
            yield
        finally:
            tf.config.run_functions_eagerly(False)
