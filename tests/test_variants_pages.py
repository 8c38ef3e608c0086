"""docs/amalgamation.md and docs/papers-chen.md: their tables are of runs that can be made."""

import math
import re

import pytest

from config.overrides import merge_all
from l2o.evaluate.suites import SUITES
from l2o.train import resolve_config
from tests.pages import ROOT, program

DOCS = ROOT / "docs"
NAMES = ("small-pool", "small-pool-mnist", "large-pool", "perturbations", "curricula")


@pytest.fixture(scope="module")
def maker():
    return program("make_variants")


@pytest.fixture
def resolved(maker):
    def resolve(variant, seed=1):
        merged = {}
        for table in maker["TABLES"].values():
            merged |= table.variants(seed)
        options = merged[variant]
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
            middle, *others = (
                float(n.replace(",", "")) for n in re.findall(r"inf|[\d.,]*\d", cell)
            )
            if name == "perturbations":
                (spread,) = others
                assert spread > 0
            else:
                low, high = others
                assert low <= middle <= high
    # Each variant is explained above.
    for variant in variants:
        assert f"`{re.sub('^(DM|RNNProp)-|-mnist$', '', variant)}`" in before
    assert f" docs/make_variants.py {name}\n" in text
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


def test_a_cell_has_the_median_and_the_spread(maker):
    # The logarithms are -1, 0, 0 and 1.
    ratios = [1 / math.e, 1.0, 1.0, math.e]
    found = {"base, 100": {"a": ratios, "b": [math.inf, 2.0, 2.0, 2.0]}}
    assert maker["table"](found, maker["with_spread"]).splitlines()[2:] == [
        f"| a | 1.00 ({math.sqrt(2 / 3):.2f}) |",
        "| b | 2.00 (inf) |",
    ]


@pytest.mark.parametrize("suffix", ["", "-large", "-mnist"])
def test_a_policy_has_the_teachers_of_its_pool(resolved, suffix):
    policy = resolved(f"policy{suffix}")
    network = policy["network"]
    assert policy["constructor"] == "Choice"
    for student in ("mean", "min-max"):
        teachers = resolved(f"{student}{suffix}")["training"]["teachers"]
        assert [t["config"]["learning_rate"] for t in teachers] == network["rates"]
        momentum = [teacher["config"].get("momentum", 0.0) for teacher in teachers]
        assert momentum == [0.9 if kind == "Momentum" else 0.0 for kind in network["pool"]]
        kinds = [t["class_name"] for t in teachers]
        assert kinds == [{"Momentum": "SGD"}.get(kind, kind) for kind in network["pool"]]


def test_a_variant_is_what_its_name_says(resolved):
    assert resolved("meta-loss")["training"]["p_teacher"] == 0
    for variant, how in {"mean": "mean_log", "min-max": "max", "mean-gaussian": "mean_log"}.items():
        assert resolved(variant)["training"]["strategy"] == how
    for suffix in ("", "-large", "-mnist"):
        (teacher,) = resolved(f"choice{suffix}", seed=2)["training"]["teachers"]
        assert teacher["config"]["directory"].endswith(f"/policy{suffix}-2")
    for variant in ("mean", "choice"):
        whole, noisy = resolved(variant)["training"], resolved(f"{variant}-gaussian")["training"]
        assert noisy.pop("perturbation")["kind"] == "gaussian"
        assert {**noisy, "perturbation": None} == whole
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


@pytest.mark.parametrize("suffix", ["", "-large", "-mnist"])
def test_a_variant_is_trained_on_the_data_of_its_table(resolved, suffix):
    data = "mnist" if suffix == "-mnist" else "digits"
    others = [] if suffix == "-large" else ["meta-loss"]
    for variant in ["policy", "mean", "min-max", "choice", *others]:
        run = resolved(f"{variant}{suffix}")
        problems = [*run["problems"], *run["validation_problems"]]
        assert {problem["kwargs"]["dataset"] for problem in problems} == {data}
        for part in ("problems", "validation_problems"):
            wrappers = [[w["target"] for w in problem["wrappers"]] for problem in run[part]]
            assert wrappers == [[], ["RandomScaling"]]


@pytest.mark.parametrize("name", NAMES)
def test_a_table_is_evaluated_on_the_data_of_its_training(maker, name):
    own, variants = maker["evaluations"](name), maker["TABLES"][name].variants(0)
    runs = [str(maker["RUNS"] / f"{variant}-{seed}") for variant in variants for seed in (0, 1, 2)]
    for folder, given in own.items():
        assert given[: len(runs)] == runs
        on_mnist = {"dataset=mnist", "batch_size=128"} <= set(given)
        assert on_mnist == (name.endswith("-mnist") or folder.name.endswith("-MNIST"))


def test_tables_that_share_a_variant_share_its_runs(maker):
    found = {}
    for table in maker["TABLES"].values():
        for variant, options in table.variants(1).items():
            assert found.setdefault(variant, options) == options
    assert len(found) < sum(len(table.variants(1)) for table in maker["TABLES"].values())


def test_each_perturbation_changes_that_alone(maker, resolved):
    sizes, rest = {}, []
    for variant in maker["TABLES"]["perturbations"].variants(0):
        run = resolved(variant)
        perturbation = run["training"].pop("perturbation")
        rest.append(run)
        if perturbation:
            assert variant == f"min-max-{perturbation['kind']}"
            sizes[perturbation["kind"]] = perturbation["size"]
    assert rest == [rest[0]] * 5
    # The sizes of the paper, which are the defaults.
    assert sizes == {
        "gaussian": 1e-3, "relative": 5e-4, "sign_gradient": 1e-3, "projected_gradient": 1e-4,
    }  # fmt: skip


def test_a_wrong_name_is_refused_before_anything_is_run(maker):
    with pytest.raises(SystemExit, match="no table called 'chen'; expected some of small-pool, s"):
        maker["main"]("chen")
