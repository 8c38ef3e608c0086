import pytest

from tests.contract.features import maker


@pytest.fixture
def make(request):
    return maker(request.param)
