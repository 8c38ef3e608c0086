"""docs/sharing.md says what is so, with a server on loopback in place of the Hub."""

import pytest

from l2o.optimizer import hub
from tests.optimizer.test_hub import needs_package, same
from tests.optimizer.test_hub import server as server  # a fixture
from tests.pages import ROOT, run


@needs_package
def test_its_code_runs(server):
    directory, pushed = run("docs/sharing.md")
    assert same(directory["same"], directory["optimizer"])
    assert same(pushed["newest"], pushed["optimizer"])
    assert same(pushed["pinned"], pushed["optimizer"])
    commit, files = server.files("user/my-optimizer")
    assert pushed["address"] == f"hf://user/my-optimizer@{commit}"
    assert files["README.md"].decode() == pushed["card"].replace(
        '"my-optimizer"', '"hf://user/my-optimizer"'
    )


@pytest.mark.parametrize("address", ["hf://user/name", "hf://user/name@v1.0"])
def test_its_addresses_are_addresses(address):
    assert f"`{address}`" in (ROOT / "docs/sharing.md").read_text("utf-8")
    hub.parse(address)
