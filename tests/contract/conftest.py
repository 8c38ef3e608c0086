import os

import pytest

from l2o.optimizer import TrainableOptimizer
from tests.contract.features import maker


@pytest.fixture
def make(request):
    return maker(request.param)


@pytest.fixture(autouse=True)
def _without_xla(monkeypatch):
    """Compiling takes longer than these tests; `make test-slow` runs them with it."""
    if "L2O_XLA" not in os.environ:
        monkeypatch.setattr(TrainableOptimizer, "xla", False)
