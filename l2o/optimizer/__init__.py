"""The learned optimizers. A new one is a new file and a line in `OPTIMIZERS`."""

from l2o.optimizer.dm import DMOptimizer
from l2o.optimizer.rnnprop import RNNPropOptimizer
from l2o.optimizer.trainable import TrainableOptimizer
from l2o.registry import Registry

OPTIMIZERS: Registry[type[TrainableOptimizer]] = Registry(
    "optimizer", {"DM": DMOptimizer, "RNNProp": RNNPropOptimizer}
)

__all__ = ["OPTIMIZERS", "DMOptimizer", "RNNPropOptimizer", "TrainableOptimizer"]
