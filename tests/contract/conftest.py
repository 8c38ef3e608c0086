import pytest

from l2o.optimizer import TrainableOptimizer
from tests.contract.features import COMPILED, maker


@pytest.fixture
def make(request):
    return maker(request.param)


@pytest.fixture(autouse=True)
def _without_xla(monkeypatch):
    if not COMPILED:
        monkeypatch.setattr(TrainableOptimizer, "xla", False)
