"""The example of docs/learned-muon.md works as it stands there."""

import re

import pytest

from l2o.evaluate.suites import SUITES
from l2o.train.loading import SHIPPED
from tests.pages import ROOT, program, run

PAGE = (ROOT / "docs/learned-muon.md").read_text("utf-8")
CARD = (SHIPPED / "learned-muon/card.md").read_text("utf-8")


def test_the_example_learns():
    (names,) = run("docs/learned-muon.md")
    assert names["history"].history["val_accuracy"][-1] > 0.9


def test_its_tables_have_all_problems_and_the_card_says_the_same():
    tables = re.findall(r"<!-- tuned for the \w+ loss -->\n\n(.*?)\n\n<!-- end -->", PAGE, re.S)
    assert len(tables) == 2
    expected = [(f"| {c.name}", f"{c.steps:,}") for c in SUITES.entries["modern"]("", {}, 100)]
    for table in tables:
        rows = [row.split(" | ") for row in table.splitlines()[2:14]]
        assert [(row[0], row[1]) for row in rows] == expected
        assert table in CARD


@pytest.fixture
def maker():
    return program("make_learned_muon")


def test_the_card_has_what_its_script_writes(maker):
    assert maker["RESULTS"] in CARD
    assert CARD.endswith(maker["LIMITS"])
    assert f"weight decay of `learned-muon`: {maker['DECAYS']}" in " ".join(PAGE.split())


def test_a_folder_of_something_else_is_refused(maker, tmp_path):
    with pytest.raises(SystemExit, match=r"expected what evaluate\.py --suite modern has written"):
        maker["main"](str(tmp_path), str(tmp_path))


@pytest.mark.parametrize("suite", ["families", "refutation"])
def test_the_table_of_another_suite_has_its_problems(suite):
    (table,) = re.findall(rf"<!-- suite {suite} -->\n\n(.*?)\n\n<!-- end -->", PAGE, re.S)
    cases = SUITES.entries[suite]("base", {}, 100)
    rows = [row.split(" | ")[:2] for row in table.splitlines()[2 : 2 + len(cases)]]
    assert rows == [[f"| {c.name}", f"{c.steps:,}"] for c in cases]
