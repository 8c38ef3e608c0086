import pytest
import tensorflow as tf

from l2o.optimizer import TrainableOptimizer
from tests.contract.features import maker


@pytest.fixture
def make(request):
    """Makes optimizers of the kind that the test is parametrized with.

    Operations run one by one where a test takes few steps: that takes less time than to trace
    them. They are traced where that is the matter of the test, or XLA compiles.
    """
    traced = TrainableOptimizer.xla or request.node.get_closest_marker("traced")
    tf.config.run_functions_eagerly(not traced)
    yield maker(request.param)
    tf.config.run_functions_eagerly(False)
