"""The example of docs/learned-muon.md works as it stands there."""

from tests.pages import run


def test_the_example_learns():
    (names,) = run("docs/learned-muon.md")
    assert names["history"].history["val_accuracy"][-1] > 0.9
