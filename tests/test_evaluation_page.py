"""docs/evaluation.md says what is so."""

import re
from pathlib import Path

from l2o.evaluate import metrics, runs, timing
from l2o.evaluate.baselines import BASELINES, DECAYS, LEARNED_RATES, RATES, TUNING_SEEDS, rate
from l2o.evaluate.protocol import LEARNED_DECAYS, PROTOCOLS
from l2o.evaluate.report import tables
from l2o.evaluate.schedules import SCHEDULES, WARMUP
from l2o.evaluate.suites import FIXED, SUITES
from l2o.problems.held_out import HELD_OUT_SHARE
from tests.pages import run

PAGE = (Path(__file__).parent.parent / "docs/evaluation.md").read_text("utf-8")
# A sentence may be broken anywhere.
TEXT = " ".join(PAGE.split())


def test_its_example_runs(capsys):
    run("docs/evaluation.md")
    assert capsys.readouterr().out.endswith("(3, 20)\n")


def names_in(header: str, column: int) -> list[list[str]]:
    """Returns the code of a column of a table, by row."""
    rows = PAGE.split(header)[1].split("\n\n")[0].splitlines()[2:]
    return [re.findall(r"`([\w-]+)`", row.split("|")[column]) for row in rows]


def test_it_names_every_problem_of_every_suite():
    header = "| suite | after | problems |"
    every = {name: make("training", {}, 10) for name, make in SUITES.entries.items()}
    suites = {name: own for name, own in every.items() if name not in FIXED}
    named = dict(
        zip((name for row in names_in(header, 1) for name in row), names_in(header, 3), strict=True)
    )
    assert named == {name: [case.name for case in own[1:]] for name, own in suites.items()}
    explained = [name for row in names_in("| names | what |", 1) for name in row]
    assert len(explained) == len(set(explained))
    assert set(explained) - {"base"} == {case.name for own in suites.values() for case in own}
    modern, _ = names_in("| suite | problems |", 2)
    names = [case.name for case in every["modern"]]
    assert [name for name in modern if name in names] == sorted(
        names, key=lambda name: (name in ("million", "long"), names.index(name))
    )
    assert f"{len(every['families'])} members" in TEXT


def test_its_numbers_are_those_of_the_code():
    for grid in (RATES, LEARNED_RATES):
        assert ", ".join(f"{rate(k):g}" for k in grid) in TEXT
    assert f"from {TUNING_SEEDS:,}" in TEXT
    assert set(BASELINES.entries) == {
        name for row in names_in("| baseline | what |", 1) for name in row
    }
    for baseline in BASELINES.entries.values():
        assert f"`{baseline.kind}`" in TEXT
    assert ", ".join(f"{decay:g}" for decay in DECAYS) in TEXT
    *decays, last = LEARNED_DECAYS
    assert f"{', '.join(f'{decay:g}' for decay in decays)} and {last:g}, each with a grid" in TEXT
    assert (len(LEARNED_DECAYS), "tries four times as many settings" in TEXT) == (4, True)
    for name, protocol in PROTOCOLS.entries.items():
        (row,) = (line for line in PAGE.splitlines() if line.startswith(f"| `{name}` "))
        assert ", ".join(protocol.baselines) in row
        assert f"`{protocol.schedule}`" in row
    assert [name for row in names_in("| schedule | what |", 1) for name in row] == [
        *SCHEDULES.entries
    ]
    assert f"over the first {100 * WARMUP:g} % of the steps" in TEXT
    assert f"at most {runs.MODELS_AT_ONCE} at a time ({runs.SMALL_MODELS_AT_ONCE} small" in TEXT
    assert f"fit in {runs.MEMORY / 2**30:g} GiB" in TEXT
    assert HELD_OUT_SHARE == 1 / 5
    assert "a fifth of the training examples" in TEXT
    first, *taus = (f"{tau:g}" for tau in tables.TAUS)
    assert f'the tables {first} ("best"), {", ".join(taus[:-1])} and {taus[-1]}' in TEXT
    for title in tables.TITLES.values():
        assert title in TEXT
    assert f"Means below {metrics.LEAST_LOSS:g}" in TEXT
    assert f"{timing.TIMED_ROUNDS} times {timing.TIMED_STEPS} steps" in TEXT
    assert f"the last {metrics.WINDOW} mini-batch losses" in TEXT
    assert f"{metrics.RESAMPLES:,} bootstrap resamples" in TEXT
