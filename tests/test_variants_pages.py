"""docs/amalgamation.md and docs/papers-chen.md: their tables are of runs that can be made."""

import re

import pytest

from config.overrides import merge_all
from l2o.evaluate.suites import SUITES
from l2o.train import resolve_config
from tests.pages import ROOT, program

DOCS = ROOT / "docs"
NAMES = ("small-pool", "large-pool", "curricula")


@pytest.fixture(scope="module")
def maker():
    return program("make_variants")


@pytest.fixture
def resolved(maker):
    def resolve(variant, seed=1):
        (options,) = (
            table.variants(seed)[variant]
            for table in maker["TABLES"].values()
            if variant in table.variants(seed)
        )
        _, preset, *overrides = maker["command"](options, seed, maker["RUNS"] / "x")
        return resolve_config(merge_all(presets=[preset], overrides=overrides))

    return resolve


@pytest.mark.parametrize("name", NAMES)
def test_a_table_has_its_variants_and_its_problems(maker, name):
    whole = maker["TABLES"][name]
    text = (DOCS / f"{whole.page}.md").read_text("utf-8")
    ((before, rows),) = re.findall(rf"^(.*?)<!-- {name} -->\n\n(.*?)\n\n<!-- end -->", text, re.S)
    head, _, *rows = ([cell.strip() for cell in row.split("|")[1:-1]] for row in rows.splitlines())
    variants = list(whole.variants(0))
    assert [row[0] for row in rows] == variants
    problems = [f"{c.name}, {c.steps:,} steps" for c in SUITES.entries["dm"]("base", {}, 100)]
    for problem, words in whole.alone.items():
        problems.append(f"{problem}, {int(words[words.index('--steps') + 1]):,} steps")
    assert head == ["variant", *problems]
    for _, *cells in rows:
        for cell in cells:
            middle, low, high = (float(n.replace(",", "")) for n in re.findall(r"[\d.,]*\d", cell))
            assert low <= middle <= high
    # Each variant is explained above.
    for variant in variants:
        assert f"`{variant.removeprefix('DM-').removeprefix('RNNProp-')}`" in before
    assert f"python docs/make_variants.py {name}" in text
    assert f"]({name}.png)" in text
    assert (DOCS / f"{name}.png").exists()


def test_a_cell_has_the_median_and_both_ends(maker):
    found = {"base, 100": {"a": [0.03, 0.004, 0.5], "b": [float("inf"), 2.0, 250.0]}}
    assert maker["table"](found).splitlines() == [
        "| variant | base, 100 steps |",
        "| --- | --- |",
        "| a | 0.03 [0.004, 0.50] |",
        "| b | 250 [2.00, inf] |",
    ]


@pytest.mark.parametrize(
    ("policy", "students"),
    [("policy", ["mean", "min-max"]), ("policy-large", ["mean-large", "min-max-large"])],
)
def test_a_policy_has_the_teachers_of_its_pool(resolved, policy, students):
    network = resolved(policy)["network"]
    assert resolved(policy)["constructor"] == "Choice"
    for student in students:
        teachers = resolved(student)["training"]["teachers"]
        assert [t["config"]["learning_rate"] for t in teachers] == network["rates"]
        momentum = [teacher["config"].get("momentum", 0.0) for teacher in teachers]
        assert momentum == [0.9 if kind == "Momentum" else 0.0 for kind in network["pool"]]
        kinds = [t["class_name"] for t in teachers]
        assert kinds == [{"Momentum": "SGD"}.get(kind, kind) for kind in network["pool"]]


def test_a_variant_is_what_its_name_says(resolved):
    assert resolved("meta-loss")["training"]["p_teacher"] == 0
    for variant, how in {"mean": "mean_log", "min-max": "max", "mean-gaussian": "mean_log"}.items():
        assert resolved(variant)["training"]["strategy"] == how
    for variant, policy in {"choice": "policy-2", "choice-large": "policy-large-2"}.items():
        (teacher,) = resolved(variant, seed=2)["training"]["teachers"]
        assert teacher["config"]["directory"].endswith(f"/{policy}")
    assert resolved("choice-gaussian")["training"]["perturbation"]["kind"] == "gaussian"
    for rule in ("DM", "RNNProp"):
        ways = ("neither", "long", "imitation", "curriculum", "both")
        found = {way: resolved(f"{rule}-{way}") for way in ways}
        assert {run["constructor"] for run in found.values()} == {rule}
        assert [v for v, run in found.items() if run["training"]["p_teacher"]] == [
            "imitation",
            "both",
        ]
        staged = [v for v, r in found.items() if r["strategy_constructor"] == "CurriculumLearning"]
        assert staged == ["curriculum", "both"]
        lengths = {v: run["strategy"].get("unroll_distribution") for v, run in found.items()}
        assert lengths == {"neither": 20, "long": 200, "imitation": 20, **dict.fromkeys(staged)}


def test_a_wrong_name_is_refused_before_anything_is_run(maker):
    with pytest.raises(
        SystemExit, match="no table called 'chen'; expected some of small-pool, lar"
    ):
        maker["main"]("chen")
