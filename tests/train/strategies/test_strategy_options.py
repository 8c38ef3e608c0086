"""The options of the strategies, `strategy/...`, and which one it is."""

from collections import Counter
from functools import partial
from tempfile import TemporaryDirectory

import numpy as np
import pytest

import l2o
from l2o.train import STRATEGIES, RunDirectory
from tests.option_cases import (
    LENGTH_3,
    STRATEGY_OPTIONS,
    Cases,
    base,
    build,
    close,
    run,
    sgd,
    teachers,
)

cases = Cases()

for _strategy in STRATEGY_OPTIONS:

    @cases.add(
        f"strategy/epochs_per_period ({_strategy})",
        "strategy/epochs_per_period=3",
        strategy=_strategy,
    )
    def _(typed):
        assert [step.fresh for step in typed.trained] == [True] * 3
        assert len(typed.rows) == 1
        assert typed.rows[0].unrolls == 3
        usual = run(strategy=typed.config["strategy_constructor"])
        assert usual.rows[0].unrolls == 1


def dropping(runner):
    """Makes all losses of training not finite."""
    original = runner.training.train

    def train(*args):
        return (unroll._replace(finite=False) for unroll in original(*args))

    runner.training.train = train


for _strategy in STRATEGY_OPTIONS:

    @cases.add(
        f"strategy/max_dropped ({_strategy})",
        "strategy/max_dropped=1",
        strategy=_strategy,
        prepare=dropping,
    )
    def _(typed):
        assert typed.rows[0].dropped == typed.rows[0].unrolls > 0
        with pytest.raises(l2o.UserError, match=r"strategy/max_dropped: .* 1 of its 1 unrolls"):
            run(strategy=typed.config["strategy_constructor"], prepare=dropping)

    @cases.add(
        f"strategy/keep_checkpoints ({_strategy})",
        "strategy/keep_checkpoints=1",
        strategy=_strategy,
        slow=_strategy == "CurriculumLearning",
    )
    def _(typed):
        # A rate of 0: the first period stays the best.
        periods = {"Simple": "num_periods", "CurriculumLearning": "min_periods"}
        name = typed.config["strategy_constructor"]
        with TemporaryDirectory() as folder:
            config = {**typed.config, "strategy": {**typed.config["strategy"], periods[name]: 4}}
            directory = RunDirectory(folder)
            rows = build(config, directory).train()
            kept = [r.period for r in rows if directory.checkpoint_path(0, r.period).exists()]
            assert (len(rows), kept) == (4, [0, 3])


@cases.add("strategy/num_periods", "strategy/num_periods=2")
def _(run):
    assert [(row.stage, row.period) for row in run.rows] == [(0, 0), (0, 1)]
    assert len(base(run).rows) == 1


@cases.add(
    "strategy/unroll_distribution",
    "strategy/unroll_distribution=0.5",
    "training/repeat=200",
    traced=True,
    slow=True,
)
def _(typed):
    # Geometric: length n with probability 2^-n.
    lengths = Counter(step.length for step in typed.trained)
    assert [0.35 < lengths[1] / 200 < 0.65, 0.13 < lengths[2] / 200 < 0.38] == [True, True]
    assert max(lengths) > 4
    assert typed.rows[0].inner_steps == sum(n * times for n, times in lengths.items())
    assert [step.length for step in run(LENGTH_3, "training/repeat=4").trained] == [3] * 4


@cases.add(
    "strategy/annealing_schedule",
    "strategy/annealing_schedule=1.0",
    "strategy/num_periods=2",
    "training/repeat=12",
    *teachers(sgd(0.1)),
)
def _(typed):
    first, second = typed.rows
    # exp(-i) in period i: 12 unrolls, then 4 or so.
    assert first.imitation_unrolls == 12
    assert 0 < second.imitation_unrolls < 12
    listed = run(
        "strategy/annealing_schedule=[0.0,1.0]", "strategy/num_periods=2", *teachers(sgd(0.1))
    )
    assert [row.imitation_unrolls for row in listed.rows] == [0, 1]


@cases.add("strategy/validation_unroll", "strategy/validation_unroll=3", validates=True)
def _(run):
    assert {step.length for step in run.validated} == {3}
    assert {step.length for step in run.trained} == {1}
    assert close(run.rows[0].validation_loss, np.mean([s.loss for s in run.validated[-4:]]))


def lengths(run):
    """Lengths of training and of validation unrolls, each after the other, without repetition."""
    return [list(dict.fromkeys(s.length for s in steps)) for steps in (run.trained, run.validated)]


def improving(runner):
    """Makes the first period of each of two stages validate better than all before."""
    original, calls = runner._validate, Counter()

    def validate(period, report):
        original(period, report)
        calls[period.stage] += 1
        opens_stage = calls[period.stage] == 1
        return 0.0 if opens_stage else (-1.0 if period.stage < 2 else 1.0)

    runner._validate = validate


curriculum = partial(cases.add, strategy="CurriculumLearning")


@curriculum(
    "strategy/schedule", "strategy/schedule=[1,3,4]", prepare=improving, validates=True, traced=True
)
def _(run):
    assert lengths(run) == [[1, 3], [3, 4]]
    assert [row.stage for row in run.rows] == [0, 0, 1, 1]


@curriculum(
    "strategy/schedule/base", "strategy/schedule/base=3", validates=True, traced=True, slow=True
)
def _(typed):
    assert lengths(typed) == [[3], [6]]
    usual = run(strategy="CurriculumLearning", validates=True)
    assert lengths(usual) == [[1], [2]]


@curriculum(
    "strategy/schedule/power",
    "strategy/schedule/power=3.0",
    prepare=improving,
    validates=True,
    traced=True,
    slow=True,
)
def _(run):
    assert lengths(run) == [[1, 3, 9], [3, 9, 27]]


@curriculum("strategy/min_periods", "strategy/min_periods=3", validates=True, slow=True)
def _(typed):
    # Nothing is learned, so the stage and the run end as soon as they may.
    assert len(typed.rows) == 3
    assert len(run(strategy="CurriculumLearning", validates=True).rows) == 1


@curriculum("strategy/max_stages", "strategy/max_stages=1", prepare=improving)
def _(typed):
    assert [row.stage for row in typed.rows] == [0, 0]
    usual = run(strategy="CurriculumLearning", prepare=improving)
    assert [row.stage for row in usual.rows] == [0, 0, 1, 1, 2]


TINY_CURRICULUM = (
    "strategy/schedule=[1,2]",
    "strategy/min_periods=1",
    "strategy/epochs_per_period=1",
)


@cases.add(
    "strategy_constructor",
    "strategy_constructor=CurriculumLearning",
    *TINY_CURRICULUM,
    validates=True,
)
def _(typed):
    # The seed documents it inside the section as well.
    inside = run(
        "strategy/strategy_constructor=CurriculumLearning", *TINY_CURRICULUM, validates=True
    )
    for made in (typed, inside):
        assert type(made.runner.strategy) is STRATEGIES.entries["CurriculumLearning"]
        assert lengths(made) == [[1], [2]]


test_option_changes_what_it_should = cases.test()
test_a_case_fails_if_its_option_is_ignored = cases.test_ignored()
