"""docs/amalgamation.md and docs/papers-chen.md: their tables are of runs that can be made."""

import re

import pytest

from config.overrides import merge_all
from l2o.evaluate.suites import SUITES
from l2o.train import resolve_config
from tests.pages import ROOT, program

DOCS = ROOT / "docs"
PAGES = ("amalgamation", "papers-chen")


@pytest.fixture(scope="module")
def maker():
    return program("make_variants")


@pytest.fixture
def resolved(maker):
    def resolve(variant, seed=1):
        (options,) = (
            of_seed(seed)[variant]
            for of_seed, _ in maker["PAGES"].values()
            if variant in of_seed(seed)
        )
        _, preset, *overrides = maker["command"](options, seed, maker["RUNS"] / "x")
        return resolve_config(merge_all(presets=[preset], overrides=overrides))

    return resolve


@pytest.mark.parametrize("page", PAGES)
def test_the_table_of_a_page_has_its_variants_and_its_problems(maker, page):
    text = (DOCS / f"{page}.md").read_text("utf-8")
    (rows,) = re.findall(r"<!-- variants -->\n\n(.*?)\n\n<!-- end -->", text, re.S)
    head, _, *rows = ([cell.strip() for cell in row.split("|")[1:-1]] for row in rows.splitlines())
    of_seed, seeds = maker["PAGES"][page]
    variants = list(of_seed(0))
    assert [row[0] for row in rows] == variants
    suite = [f"{case.name}, {case.steps:,} steps" for case in SUITES.entries["dm"]("base", {}, 100)]
    assert head == ["variant", *suite, f"base, {maker['LONG']:,} steps"]
    for _, *cells in rows:
        for cell in cells:
            middle, *ends = (float(n.replace(",", "")) for n in re.findall(r"[\d.,]*\d", cell))
            assert len(ends) == 2 * (len(seeds) > 1)
            assert sorted([*ends, middle])[len(ends) // 2] == middle
    # Each variant is explained.
    for variant in variants:
        assert variant.split("-")[-1] in text.split("<!-- variants -->")[0]


def test_a_variant_is_what_its_name_says(resolved):
    assert resolved("policy")["constructor"] == "Choice"
    assert resolved("meta-loss")["training"]["p_teacher"] == 0
    pool = [teacher["class_name"] for teacher in resolved("mean")["training"]["teachers"]]
    assert pool == resolved("policy")["network"]["pool"]
    for variant, how in {"mean": "mean_log", "min-max": "max", "mean-gaussian": "mean_log"}.items():
        assert resolved(variant)["training"]["strategy"] == how
    (teacher,) = resolved("choice", seed=2)["training"]["teachers"]
    assert teacher["config"]["directory"].endswith("policy-2")
    assert resolved("choice-gaussian")["training"]["perturbation"]["kind"] == "gaussian"
    for rule in ("DM", "RNNProp"):
        found = {v: resolved(f"{rule}-{v}") for v in ("neither", "imitation", "curriculum", "both")}
        assert {run["constructor"] for run in found.values()} == {rule}
        assert [v for v, run in found.items() if run["training"]["p_teacher"]] == [
            "imitation",
            "both",
        ]
        staged = [v for v, r in found.items() if r["strategy_constructor"] == "CurriculumLearning"]
        assert staged == ["curriculum", "both"]


def test_a_wrong_name_is_refused_before_anything_is_run(maker):
    with pytest.raises(
        SystemExit, match="no page called 'chen'; expected one of amalgamation, pap"
    ):
        maker["main"]("chen")
