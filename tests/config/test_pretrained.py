"""What comes with l2o was made by the presets of the same names, and its cards say so."""

import runpy
from pathlib import Path

import pytest

import l2o
from config.overrides import merge_all
from l2o.optimizer import OPTIMIZERS, saved
from l2o.train import resolve_config
from l2o.train.build import build_optimizer
from l2o.train.loading import SHIPPED

MAKER = runpy.run_path(str(Path(__file__).parents[2] / "docs/make_pretrained.py"))
NAMES = sorted(l2o.pretrained())


@pytest.mark.parametrize("name", NAMES)
def test_it_has_the_options_of_its_preset(name):
    config = resolve_config(merge_all(presets=[name]))
    optimizer = l2o.load(name)
    assert type(optimizer) is OPTIMIZERS.find(config["constructor"])
    assert optimizer._own_config() == build_optimizer(config)._own_config()
    assert saved.read(SHIPPED / name).about == MAKER["about"](name, config)


@pytest.mark.parametrize("name", NAMES)
def test_it_has_a_card(name):
    config = resolve_config(merge_all(presets=[name]))
    card = (SHIPPED / name / "card.md").read_text("utf-8")
    assert f"l2o train --preset {name} " in card
    assert f"\n| periods | {config['strategy']['num_periods']} |\n" in card
    assert f"\n| seed | {config['seed']} |\n" in card
    assert f"\n| imitates at first | {MAKER['_teachers'](config)} |\n" in card
    for spec in config["problems"]:
        assert f"* {MAKER['_problem'](spec)}\n" in card
    validated = [MAKER["_problem"](spec) for spec in config["validation_problems"]]
    for problem in validated:
        times = f"{n} x " if (n := validated.count(problem)) > 1 else ""
        assert f"* {times}{problem}\n" in card
    results = card.split("\n## Results\n")[1].split("\n## Limits\n")[0]
    old = ("| base | 100 |", "| 100x-steps | 10,000 |", "| label-noise | 100 |")
    new = ("| vit | 300 |", "| long | 1,000 |", "| million | 50 |")
    held_out = (
        "| mlp_classifier | 100 |",
        "| mlp_classifier | 1,000 |",
        "| mlp_regressor | 1,000 |",
    )
    mnist = ("| base | 100 |", "| 2x-steps | 200 |", "| relu | 100 |")
    wide = ("| modern | 12 |", "| families | 20 |")
    kind = name.rpartition("-")[2]
    kinds = {"muon": new, "out": held_out, "digits": old, "mnist": mnist, "wide": wide}
    for problem in kinds[kind]:
        assert problem in results
