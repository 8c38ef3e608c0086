"""A runner from a config, as train.py makes one."""

from l2o.train import Runner, build_strategy, build_training


def build_runner(config, run=None, replicas=None):
    """Builds everything a run needs from a resolved config; without `run`, nothing is written."""
    return Runner(build_training(config, replicas), build_strategy(config), run, config["seed"])
