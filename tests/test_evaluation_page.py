"""docs/evaluation.md says what is so."""

import re
from pathlib import Path

from l2o.evaluate import metrics, report, timing
from l2o.evaluate.baselines import BASELINES, FIRST, LAST, TUNING_SEEDS, rate
from l2o.evaluate.suites import generalization

PAGE = (Path(__file__).parent.parent / "docs/evaluation.md").read_text("utf-8")


def test_its_example_runs(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    exec(example, {})
    assert capsys.readouterr().out.endswith("(3, 20)\n")


def test_it_names_every_problem_of_the_suite():
    table = PAGE.split("| names | what |")[1].split("\n\n")[0]
    named = re.findall(r"`([\w-]+)`", " ".join(row.split("|")[1] for row in table.splitlines()[2:]))
    names = [case.name for case in generalization("training", {}, 1)]
    assert [name for name in named if name != "base"] == names


def test_its_numbers_are_those_of_the_code():
    assert ", ".join(f"{rate(k):g}" for k in range(FIRST, LAST + 1)) in PAGE
    assert f"from {TUNING_SEEDS:,}" in PAGE
    for baseline in BASELINES:
        assert f"`{baseline.kind}`" in PAGE
    for title in report.TITLES.values():
        assert title in PAGE
    assert f"Means below {metrics.LEAST_LOSS:g}" in PAGE
    assert f"{timing.TIMED_ROUNDS} times {timing.TIMED_STEPS} steps" in PAGE
    assert f"the last {metrics.WINDOW} mini-batch losses" in PAGE
    assert f"{metrics.RESAMPLES:,} bootstrap resamples" in PAGE
