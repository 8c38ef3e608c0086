"""docs/held-out.md: its commands are such, and its tables are those of the cards."""

import json
import re
import shlex

import pytest

import l2o
from config.overrides import merge_all
from l2o.evaluate.protocol import protocol_of
from l2o.problems import PROBLEMS
from l2o.train import resolve_config
from l2o.train.loading import SHIPPED
from tests.pages import ROOT, program

PAGE = (ROOT / "docs/held-out.md").read_text("utf-8")
TABLES = dict(re.findall(r"<!-- ([^>]+) -->\n\n(.*?)\n\n<!-- end -->", PAGE, re.S))
NAMES = sorted(name for name in l2o.pretrained() if name.endswith("-held-out"))


def cells(table):
    """The head and the rows."""
    head, _, *rows = (row.strip("| ").split(" | ") for row in table.splitlines())
    return [head, *rows]


def test_its_commands_are_such():
    trained = [shlex.split(line) for line in re.findall(r"^    l2o train (.*)$", PAGE, re.M)]
    assert sorted(words[1] for words in trained) == sorted([*NAMES, "rnnprop-wide"])
    for _, name, *overrides in trained:
        resolve_config(merge_all(presets=[name], overrides=overrides))
    evaluated = [shlex.split(line) for line in re.findall(r"^    l2o evaluate (.*)$", PAGE, re.M)]
    columns = []
    for words in evaluated:
        first = next(i for i, word in enumerate(words) if word.startswith("--"))
        flags = dict(zip(words[first::2], words[first + 1 :: 2], strict=True))
        assert set(NAMES) < set(words[:first]) <= set(l2o.pretrained())
        protocol_of(flags["--protocol"], flags["--baselines"], tuned_for=flags["--tune-for"])
        assert flags["--problem"] in PROBLEMS.entries
        columns.append(f"{flags['--problem']}, {int(flags['--steps']):,} steps")
    for table in TABLES.values():
        head, *rows = cells(table)
        assert head[1:] == columns
        assert [row[0] for row in rows] == [*words[:first], "best baseline"]


@pytest.mark.parametrize("name", NAMES)
def test_a_card_says_what_the_page_says(name):
    card = (SHIPPED / name / "card.md").read_text("utf-8")
    assert len(TABLES) == 2
    for table in TABLES.values():
        head, *rows = cells(table)
        (own,) = (row for row in rows if row[0] == name)
        for column, ratio, best in zip(head[1:], own[1:], rows[-1][1:], strict=True):
            problem, steps = column.removesuffix(" steps").split(", ")
            assert f"| {problem} | {steps} | {ratio} | {best} |" in card
    assert card.endswith("\n" + program("make_held_out")["ELSEWHERE"])


def test_folders_of_other_optimizers_are_refused(tmp_path):
    main = program("make_held_out")["main"]
    for steps, labels in ((100, NAMES), (10_000, NAMES[:1])):
        (tmp_path / f"{steps}/eval").mkdir(parents=True)
        found = {"steps": steps, "optimizers": {label: {"learned": True} for label in labels}}
        (tmp_path / f"{steps}/eval/mlp_classifier.json").write_text(json.dumps(found))
    with pytest.raises(SystemExit, match="the same learned optimizers"):
        main(*map(str, tmp_path.iterdir()))
