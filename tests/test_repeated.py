"""What pages repeat of the code is what the code says."""

import json
import re

import l2o
from config.commands.show import KINDS
from config.overrides import DEFAULT
from l2o.optimizer import OPTIMIZERS
from l2o.options import options_of
from l2o.train import ESTIMATORS, STRATEGIES, LossArgs, Training
from l2o.train.loading import SHIPPED
from l2o.train.outer.perturbation import ASCENT_RATE, SIZES
from l2o.train.runs.summary import Row
from tests.pages import ROOT


def text_of(page):
    # A sentence may be broken anywhere.
    return " ".join((ROOT / page).read_text("utf-8").split())


def rows(page, start):
    """The names in code of each cell, of each row that starts so."""
    lines = (ROOT / page).read_text("utf-8").splitlines()
    found = [line.split(" | ") for line in lines if line.startswith(f"| {start}")]
    return [[re.findall(r"`(\w+)`", cell) for cell in cells] for cells in found]


def test_the_parts_of_a_job_have_all_their_options():
    ((_, optimizers),) = rows("docs/training.md", "`constructor`")
    assert optimizers == sorted(OPTIMIZERS.entries)
    ((_, estimators),) = rows("docs/training.md", "`estimator_constructor`")
    assert estimators == [*ESTIMATORS.entries]
    for part, kinds in {
        "strategy": STRATEGIES.entries.values(),
        "training": [Training],
        "loss_args": [LossArgs],
    }.items():
        ((_, named),) = rows("docs/training.md", f"`{part}/...`")
        assert {*named} == {name for kind in kinds for name in options_of(kind)}
    for name, kind in ESTIMATORS.entries.items():
        for *_, named in rows("docs/estimators.md", f"`{name}` "):
            assert named == [*options_of(kind)]


def test_the_default_job():
    (said,) = re.findall(r"sets some options differently: (.*?)\. If", text_of("docs/training.md"))
    job = json.loads(DEFAULT.read_text("utf-8"))
    found = {f"optimizer/config/{key}": v for key, v in job["optimizer"]["config"].items()}
    for part in ("training", "strategy"):
        found |= {f"{part}/{key}": value for key, value in job[part].items()}
    assert dict(re.findall(r"`([\w/]+)=(\w[\w.]*)`", said)) == {
        key: value if isinstance(value, str) else f"{value:g}" for key, value in found.items()
    }


def test_what_comes_with_l2o():
    sizes = [path.stat().st_size / 1000 for path in SHIPPED.glob("*/optimizer.npz")]
    assert len(sizes) == len(l2o.pretrained()) == 12
    text = text_of("README.md")
    assert "Twelve trained optimizers" in text
    assert f"of {min(sizes):.0f} to {max(sizes):.0f} kB each" in text
    (presets,) = re.findall(r"digits`\)\. ([^.]*) trained the", text_of("docs/training.md"))
    assert sorted(re.findall(r"`([\w-]+)`", presets)) == sorted(l2o.pretrained())


def test_what_can_be_listed():
    (kinds,) = re.findall(r"command can name: ([^.]*)\.", text_of("docs/command-line.md"))
    assert re.findall(r"`(\w+)`", kinds) == [*KINDS]


def test_the_columns_of_a_summary():
    (table,) = re.findall(r"\| column \| what \|(.*?) Imitation", text_of("docs/runs.md"))
    cells = re.findall(r"\| ((?:`\w+`(?:, )?)+) \|", table)
    assert re.findall(r"`(\w+)`", "".join(cells)) == [*Row._fields]


def test_the_sizes_of_perturbations():
    for kind, size in SIZES.items():
        (line,) = re.findall(rf"\| `{kind}` \| [^|]+ \| [^|]+ \|", text_of("docs/amalgamation.md"))
        assert float(line.split("|")[3]) == size
    assert f"`{ASCENT_RATE} g`, each entry clipped" in text_of("docs/amalgamation.md")
