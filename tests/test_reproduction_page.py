"""docs/reproduction.md: its commands are such, its tables are of what there is."""

import re
import shlex
from pathlib import Path

import pytest

import l2o
from config.overrides import merge_all
from l2o.evaluate.suites import FIXED, SUITES
from l2o.train import resolve_config
from l2o.train.loading import SHIPPED
from tests.pages import program

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "reproduction.md").read_text("utf-8")
ABLATIONS = program("make_ablations")
TABLES = dict(re.findall(r"<!-- ([^>]+) -->\n\n(.*?)\n\n<!-- end -->", PAGE, re.S))

# The others have pages of their own.
NAMES = sorted(name for name in l2o.pretrained() if name.endswith("-digits"))


def test_every_training_command_is_one():
    commands = re.findall(r"^\s*l2o train (.*)$", PAGE, re.M)
    assert len(commands) >= 4
    for command in commands:
        kind, name, *overrides = shlex.split(command)
        given = {"--preset": {"presets": [name]}, "--config": {"config_file": DOCS.parent / name}}
        resolve_config(merge_all(**given[kind], overrides=overrides))


# Nothing is reported on the others yet.
@pytest.mark.parametrize("suite", sorted(set(SUITES.entries) - FIXED))
def test_the_table_of_a_suite_has_its_problems_and_its_optimizers(suite):
    head, _, *rows = TABLES[suite].splitlines()
    assert head == f"| problem | steps | {' | '.join(NAMES)} | best baseline |"
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    expected = [(case.name, f"{case.steps:,}") for case in SUITES.entries[suite]("base", {}, 100)]
    assert [(name, steps) for name, steps, *_ in cells] == expected
    for _, _, *values, best in cells:
        assert all(re.match(r"\d|diverged", value) for value in values), values
        assert re.match(r"(SGD|Momentum|RMSprop|Adam|AdamW) [\d.e-]+: ", best)


@pytest.mark.parametrize("name", sorted(ABLATIONS["ABLATIONS"]))
def test_every_ablation_can_be_trained_and_is_in_its_table(name):
    _, runs = ABLATIONS["ABLATIONS"][name]
    for label, run in runs.items():
        _, preset, *overrides = ABLATIONS["command"](label, run)
        resolve_config(merge_all(presets=[preset], overrides=overrides))
    head = TABLES[f"ablation {name}"].splitlines()[0]
    assert head == f"| problem | steps | {' | '.join(runs)} | best baseline |"


@pytest.mark.parametrize("name", NAMES)
def test_a_card_says_what_the_page_says(name):
    card = (SHIPPED / name / "card.md").read_text("utf-8")
    rows = 0
    for suite in sorted(set(SUITES.entries) - FIXED):
        head, _, *table = (row.split(" | ") for row in TABLES[suite].splitlines())
        for row in table:
            found = [row[0], row[1], row[head.index(name)], row[-1]]
            assert f"\n{' | '.join(found)}\n" in card
            rows += 1
    assert rows > 40


def test_nothing_is_left_to_write():
    assert not re.search(r"^[A-Z]{3,}$", PAGE, re.M)


def test_its_pictures_are_there():
    pictures = re.findall(r"\]\((.*?\.png)\)", PAGE)
    assert pictures
    for picture in pictures:
        assert (DOCS / picture).exists()
