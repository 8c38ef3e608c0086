"""docs/papers-*.md: the commands are such, and each row of a table is a problem of the paper."""

import json
import re
import subprocess
from pathlib import Path

import pytest

import l2o
from config.overrides import merge_overrides
from l2o.evaluate.suites import SUITES
from l2o.options import resolve
from l2o.problems import PROBLEMS
from l2o.train.loading import SHIPPED
from tests.pages import program

DOCS = Path(__file__).parent.parent / "docs"
TABLES = {
    name: table
    for path in DOCS.glob("papers-*.md")
    for name, table in re.findall(
        r"<!-- (\w+) -->\n\n(.*?)\n\n<!-- end -->", path.read_text("utf-8"), re.S
    )
}


@pytest.fixture(scope="module")
def maker():
    return program("make_papers")


@pytest.mark.parametrize("page", ["andrychowicz", "lv", "wichrowska"])
def test_the_table_of_a_page_is_of_the_problems_of_its_suite(maker, page):
    text = (DOCS / f"papers-{page}.md").read_text("utf-8")
    head, _, *rows = TABLES[page].splitlines()
    assert head == f"| problem | steps | {' | '.join(maker['GIVEN'])} | best baseline |"
    suite = [
        (case.name, f"{case.steps:,}")
        for case in SUITES.entries[maker["PAGES"][page]]("base", maker["BASE"], maker["STEPS"])
    ]
    found = [tuple(cell.strip() for cell in row.split("|")[1:3]) for row in rows]
    assert found == [row for row in suite if row in found]
    assert found
    # What is not in the table is named as not run.
    for name, _ in set(suite) - set(found):
        assert f"`{name}`" in text


def test_a_card_says_what_the_pages_say(maker):
    cards = [name for name in maker["GIVEN"] if name.endswith("-mnist")]
    assert len(cards) == 2
    for page in maker["PAGES"]:
        head, _, *rows = (row.split(" | ") for row in TABLES[page].splitlines())
        for name in cards:
            card = (SHIPPED / name / "card.md").read_text("utf-8")
            assert card.endswith(maker["LIMITS"])
            for row in rows:
                assert " | ".join([row[0], row[1], row[head.index(name)], row[-1]]) in card


def test_the_command_of_a_row_is_its_problem(maker):
    assert set(maker["GIVEN"]) <= set(l2o.pretrained())
    for page in maker["PAGES"]:
        for case in maker["cases"](page).values():
            words = maker["command"](case)
            options = merge_overrides({}, [word for word in words if "=" in word])
            assert options == json.loads(json.dumps(case.kwargs))
            assert words[words.index("--problem") + 1] == case.target
            resolve(PROBLEMS.find(case.target), options, "")
            assert words[words.index("--steps") + 1] == str(case.steps)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lvv"], "no page called 'lvv'; expected one of andrychowicz, lv, wichrowska"),
        (["lv", "base", "rellu"], "no row called 'rellu'; expected some of base, 10x-steps"),
    ],
)
def test_a_wrong_name_is_refused_before_anything_is_run(maker, words, message):
    with pytest.raises(SystemExit, match=message):
        maker["main"](*words)


def test_where_evaluate_stops_it_stops_with_the_same_code(maker, monkeypatch):
    stopped = subprocess.CompletedProcess([], 2)
    monkeypatch.setattr(subprocess, "run", lambda words, check: stopped)
    with pytest.raises(SystemExit) as stop:
        maker["main"]("lv", "base")
    assert stop.value.code == 2


def test_its_picture_is_there():
    (picture,) = re.findall(
        r"\]\((.*?\.png)\)", (DOCS / "papers-andrychowicz.md").read_text("utf-8")
    )
    assert (DOCS / picture).read_bytes().startswith(b"\x89PNG")


def test_rows_that_differ_have_folders_of_their_own(maker):
    rows = {}
    for page in maker["PAGES"]:
        for case in maker["cases"](page).values():
            assert rows.setdefault(maker["output"](case), case) == case
    assert len({folder.name for folder in rows if folder.name.startswith("conv")}) == 2
