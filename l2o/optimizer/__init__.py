"""The learned optimizers. A new one is a new file and a line in `OPTIMIZERS`."""

from l2o.optimizer.adafac_mlp import AdafacMLPOptimizer
from l2o.optimizer.celo2 import Celo2Optimizer
from l2o.optimizer.choice import ChoiceOptimizer
from l2o.optimizer.dm import DMOptimizer
from l2o.optimizer.learned_muon import LearnedMuonOptimizer
from l2o.optimizer.rnnprop import RNNPropOptimizer
from l2o.optimizer.scale_basic import ScaleBasicOptimizer
from l2o.optimizer.scale_hierarchical import ScaleHierarchicalOptimizer
from l2o.optimizer.trainable import TrainableOptimizer
from l2o.registry import Registry

OPTIMIZERS: Registry[type[TrainableOptimizer]] = Registry(
    "optimizer",
    {
        "AdafacMLP": AdafacMLPOptimizer,
        "Celo2": Celo2Optimizer,
        "Choice": ChoiceOptimizer,
        "DM": DMOptimizer,
        "LearnedMuon": LearnedMuonOptimizer,
        "RNNProp": RNNPropOptimizer,
        "ScaleBasic": ScaleBasicOptimizer,
        "ScaleHierarchical": ScaleHierarchicalOptimizer,
    },
)

__all__ = [
    "OPTIMIZERS",
    "AdafacMLPOptimizer",
    "Celo2Optimizer",
    "ChoiceOptimizer",
    "DMOptimizer",
    "LearnedMuonOptimizer",
    "RNNPropOptimizer",
    "ScaleBasicOptimizer",
    "ScaleHierarchicalOptimizer",
    "TrainableOptimizer",
]
