"""docs/comparison.md: its command is that of its program, and its table has everything."""

import re
import shlex

import pytest

import l2o
from l2o.evaluate.suites import SUITES
from l2o.train.loading import SHIPPED
from tests.pages import ROOT, program

PAGE = (ROOT / "docs/comparison.md").read_text("utf-8")


@pytest.fixture(scope="module")
def maker():
    return program("make_comparison")


def cells(table):
    head, _, *rows = (row.strip("| ").split(" | ") for row in table.splitlines())
    return [head, *rows]


def test_its_commands_are_those_of_the_program(maker):
    said = [shlex.split(words) for words in re.findall(r"^    l2o evaluate (.*)$", PAGE, re.M)]
    assert said == [list(command) for command in maker["COMMANDS"].values()]
    assert "\n    TFDS_DATA_DIR=DIRECTORY python docs/make_comparison.py\n" in PAGE
    # The others were trained for the training loss.
    others = {name for name in l2o.pretrained() if name.endswith(("-digits", "-mnist"))}
    assert set(maker["GIVEN"]) == set(l2o.pretrained()) - others


def test_its_tables_have_all_optimizers_and_all_problems(maker):
    found = dict(re.findall(r"<!-- (\w+) -->\n\n(.*?)\n\n<!-- end -->", PAGE, re.S))
    assert list(found) == list(maker["COMMANDS"])
    for suite, command in maker["COMMANDS"].items():
        baselines = command[command.index("--baselines") + 1].split(",")
        head, *rows = cells(found[suite])
        assert head == list(maker["HEAD"])
        assert [row[0] for row in rows] == [*maker["GIVEN"], *baselines]
        names = [case.name for case in SUITES.entries[suite]("base", {}, 100)]
        for row in rows[: -len(baselines)]:
            assert re.search(r"\((.*)\)", row[3])[1] in names
            below, problems = map(int, row[4].split(" of "))
            assert 0 <= below <= problems == len(names)
        picture = f"comparison-{suite}.png"
        assert f"]({picture})" in PAGE
        assert (ROOT / "docs" / picture).exists()


@pytest.mark.parametrize("suite", ["modern", "families"])
def test_the_held_out_are_behind_adam_elsewhere(suite):
    """As the cards say, docs/keras.md and docs/held-out.md."""
    (found,) = re.findall(rf"<!-- {suite} -->\n\n(.*?)\n\n<!-- end -->", PAGE, re.S)
    means = {row[0]: float(row[2].split()[0]) for row in cells(found)[1:]}
    held_out = [mean for name, mean in means.items() if name.endswith("-held-out")]
    assert len(held_out) == 4
    assert min(held_out) > max(means["Adam"], means["AdamW2D"])


def test_the_wide_one_is_as_its_card_and_other_pages_say():
    card = (SHIPPED / "rnnprop-wide/card.md").read_text("utf-8")
    for suite, table in re.findall(r"<!-- (\w+) -->\n\n(.*?)\n\n<!-- end -->", PAGE, re.S):
        rows = {row[0]: row[1:] for row in cells(table)[1:]}
        own = rows["rnnprop-wide"]
        problems = own[3].split(" of ")[1]
        assert f"| {suite} | {problems} | {' | '.join(own[:3])} |" in card
        training, test = (
            {name: float(row[column].split()[0]) for name, row in rows.items()} for column in (0, 1)
        )
        for mean in (training, test):
            assert mean["rnnprop-wide"] < mean["rnnprop-held-out"]
        assert training["rnnprop-wide"] < min(training["Adam"], training["AdamW2D"])
        behind = test["rnnprop-wide"] > test["AdamW2D"]
        assert behind == (suite in ("modern", "families"))
        assert test["rnnprop-wide"] > test["Muon2D"]


def test_a_wrong_suite_is_refused_before_anything_is_run(maker):
    with pytest.raises(SystemExit, match="no suite called 'moden' here; expected some of modern, "):
        maker["main"]("modern", "moden")


def test_a_row_of_the_table(maker):
    def ratio(value):
        return {"value": value, "low": 0.7, "high": 1.3}

    def own(learned, diverged, test=1.0):
        whole = {"ratio_to_best": ratio(0.5), "test_ratio_to_best": ratio(test)}
        return {
            "learned": learned,
            "measures": {"diverged": {"mean": diverged}},
            **(whole if learned else {}),
        }

    def problem(name, test, diverged):
        optimizers = {
            "rule": own(True, diverged, test),
            "Adam 0.1": own(False, 0.6),
            "AdamW2D 0.3 wd 0.01": own(False, 1.0),
        }
        return {"name": name, "seeds": [0, 1, 2, 3, 4], "optimizers": optimizers}

    means = {"rule": ["0.70", "0.90"], "Adam": ["1.00", "1.10"], "AdamW2D": ["1.20", "1.30"]}
    found = [problem("first", 1.25, 0.4), problem("second", 0.8, 0.0)]
    rows = [
        ["rule", "0.70", "0.90", "1.25 (first)", "1 of 2", "2"],
        ["Adam", "1.00", "1.10", "", "", "6"],
        ["AdamW2D", "1.20", "1.30", "", "", "10"],
    ]
    assert cells(maker["table"](found, means)) == [list(maker["HEAD"]), *rows]
    found.append(problem("third", None, 1.0))
    assert cells(maker["table"](found, means))[1][3:] == ["diverged (third)", "1 of 3", "7"]
