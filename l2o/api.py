"""The public names of l2o. Importing them imports TensorFlow, which takes seconds."""

import os as _os

if _os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
    raise ImportError(
        "l2o needs Keras' TensorFlow backend, but KERAS_BACKEND is "
        f"{_os.environ['KERAS_BACKEND']!r}: unset it, or set it to tensorflow",
        name="l2o",
    )

import keras as _keras

if _keras.config.backend() != "tensorflow":
    raise ImportError(
        "l2o needs Keras' TensorFlow backend, but Keras is set up for "
        f"{_keras.config.backend()!r}: set KERAS_BACKEND=tensorflow",
        name="l2o",
    )

from l2o import optimizer, problems, train
from l2o.errors import UserError
from l2o.optimizer import (
    AdafacMLPOptimizer,
    Celo2Optimizer,
    ChoiceOptimizer,
    DMOptimizer,
    LearnedMuonOptimizer,
    RNNPropOptimizer,
    ScaleBasicOptimizer,
    ScaleHierarchicalOptimizer,
)
from l2o.sign_optimizers import AddSign, PowerSign
from l2o.train import load, pretrained
from l2o.version import __version__

__all__ = [
    "AdafacMLPOptimizer",
    "AddSign",
    "Celo2Optimizer",
    "ChoiceOptimizer",
    "DMOptimizer",
    "LearnedMuonOptimizer",
    "PowerSign",
    "RNNPropOptimizer",
    "ScaleBasicOptimizer",
    "ScaleHierarchicalOptimizer",
    "UserError",
    "__version__",
    "load",
    "optimizer",
    "pretrained",
    "problems",
    "train",
]
