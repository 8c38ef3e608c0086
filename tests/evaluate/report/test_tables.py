import json

import numpy as np
import pytest

from l2o.evaluate import Run
from l2o.evaluate.comparison import Comparison, Entry
from l2o.evaluate.metrics import Ratio, SpeedUp
from l2o.evaluate.report import tables
from l2o.evaluate.suites import Case


def of(train_loss, losses=None):
    n = len(train_loss)
    losses = np.full((n, 3), 9.0) if losses is None else losses
    return Run(
        losses, np.array(train_loss), np.full(n, 0.5), np.full(n, 2.0), np.linspace(0, 1, n), 1.0
    )


def test_the_summary_is_mean_and_sample_deviation():
    got = tables.summary(of([1.0, 2.0, 6.0]))
    assert got["train_loss"] == {"mean": 3.0, "std": np.std([1, 2, 6], ddof=1), "values": [1, 2, 6]}
    assert got["test_accuracy"]["mean"] == 0.5
    assert got["diverged"] == 0
    assert tables.summary(of([1.0]))["train_loss"]["std"] is None


def test_diverged_models_are_counted_and_null():
    got = tables.summary(of([1.0, np.nan, np.inf]))
    assert got["diverged"] == 2
    assert got["train_loss"]["mean"] is None
    assert got["train_loss"]["values"] == [1.0, None, None]


def test_the_table_is_aligned_and_holds_the_numbers():
    lines = tables.table({"a": of([0.25, 0.75]), "a longer label": of([1.0, 1.0])}).splitlines()
    assert "0.5000 ± 0.3536" in lines[2]
    assert "50.0 %" in lines[2]
    assert "50.0 ± 70.7 %" in lines[2]
    starts = {line.index(word) for line, word in zip(lines[2:], ["0.5000", "1.0000"], strict=True)}
    assert starts == {lines[0].index("train loss")}


def test_json_is_strict(tmp_path):
    path = tmp_path / "r.json"
    tables.write_json(path, {"a": [np.float32(np.nan), np.float64(0.5)], "b": {"c": np.inf}})
    assert json.loads(path.read_text()) == {"a": [None, 0.5], "b": {"c": None}}


def test_the_table_has_room_for_every_number():
    runs = {
        "Adam (learning rate 0.003)": of([0.5, 1.5]),
        "exploding": of([1e30, 3e30]),
        "diverging": of([0.5, np.nan, np.inf]),
        "one seed": of([0.125]),
    }
    lines = tables.table(runs).splitlines()
    assert max(map(len, lines)) <= 100
    assert "2e+30 ± 1.4e+30" in lines[3]
    assert "2 of 3 diverged" in lines[4]
    assert "0.1250" in lines[5]


@pytest.mark.filterwarnings("error")
def test_what_was_not_measured_is_left_out():
    none = np.full(2, np.nan)
    regression = of([0.5, 1.5])._replace(train_accuracy=none, test_accuracy=none)
    lines = tables.table({"a": regression, "b": regression}).splitlines()
    assert lines[0].split() == ["optimizer", "train", "loss", "test", "loss"]
    assert "diverged" not in "".join(lines)
    got = tables.summary(regression)
    assert got["diverged"] == 0
    assert list(got) == ["diverged", "train_loss", "test_loss"]
    untested = regression._replace(test_loss=none, train_loss=none)
    assert list(tables.summary(untested)) == ["diverged", "train_loss"]
    assert tables.summary(untested)["diverged"] == 2
    # A row that has diverged altogether does not take the column from the others.
    assert "test loss" in tables.table({"a": untested, "b": regression})


@pytest.mark.filterwarnings("error")
def test_a_model_diverges_by_any_of_its_measurements_and_without_a_warning():
    run = of([1.0, np.inf, 3.0])._replace(test_loss=np.array([1.0, np.nan, np.inf]))
    got = tables.summary(run)
    assert got["diverged"] == 2
    assert got["train_loss"]["std"] is None
    json.dumps(got, allow_nan=False)
    tables.table({"x": run})


def test_a_json_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "r.json"
    tables.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        tables.write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def compared(learned, adam, **more):
    """Two learned optimizers and two baselines; SGD is twice as bad as Adam."""
    sgd = of([2 * loss for loss in adam])
    return Comparison(
        Case("a-name", "mlp_classifier", {"layers": [3]}, 3),
        {"mine": Entry(of(learned), None, 3.25), "other": Entry(of(adam), None, 2.0)},
        {
            "SGD 1": Entry(sgd, {0.3: 2.0, 1.0: 1.5, 3.0: np.nan}, 0.5),
            "Adam 0.1": Entry(of(adam), {0.1: 1.0}, 1.0),
        },
        "Adam 0.1",
        **{"target": 1.5, **more},
    )


def test_a_comparison_is_a_row_for_each_optimizer():
    titles, mine, other, sgd, adam = tables.rows(compared([0.5, 1.0], [1.0, 2.0]))
    assert titles == [
        "optimizer", "ratio to best", "test ratio", "train loss", "train acc", "test loss",
        "test acc", "log-loss", "steps to 1.5", "speed-up", "in time", "diverged", "time",
    ]  # fmt: skip
    row = dict(zip(titles, mine, strict=True))
    assert row["ratio to best"] == "0.50 [0.50, 0.50]"
    assert row["train loss"] == "0.7500 ± 0.3536"
    assert row["log-loss"] == f"{np.log(9):.2f}"
    assert row["steps to 1.5"] == "never"
    assert row["diverged"] == "0 %"
    assert row["time"] == "3.2x"
    assert [r[0] for r in (other, sgd, adam)] == ["other", "SGD 1", "Adam 0.1 *"]
    assert sgd[1] == "2.00 [2.00, 2.00]"


def test_steps_are_those_of_the_median_seed():
    losses = np.full((3, 40), 9.0)
    for row, step in zip(losses, (10, 20, 35), strict=True):
        row[step:] = 0
    row = tables.rows(
        Comparison(
            Case("a", "mlp_classifier", {}, 40),
            {"mine": Entry(of([0, 0, 0], losses), None, np.nan)},
            {"Adam 1": Entry(of([0, 0, 0], losses), {1.0: 0.0}, 1.0)}, "Adam 1", 0.5,
        )
    )  # fmt: skip
    titles, mine, _ = row
    assert dict(zip(titles, mine, strict=True))["steps to 0.5"] == "29"
    assert mine[-1] == "", "it has no time"


def test_one_seed_has_no_spread():
    _, mine, *_ = tables.rows(compared([0.5], [1.0]))
    assert not any("±" in cell for cell in mine)
    assert tables.table({"a": of([0.25])}).splitlines()[2].split()[:2] == ["a", "0.2500"]
    assert tables.counted(1, "seed") == "1 seed"
    assert tables.counted(1000, "step") == "1,000 steps"


def test_a_terminal_gets_less_and_sees_what_diverged():
    titles, *_ = tables.rows(compared([0.5, 1.0], [1.0, 2.0]), brief=True)
    assert titles == [
        "optimizer", "ratio to best", "train loss", "test loss", "test acc", "speed-up", "time",
    ]  # fmt: skip
    titles, mine, *_ = tables.rows(compared([0.5, np.nan], [1.0, 2.0]), brief=True)
    row = dict(zip(titles, mine, strict=True))
    assert row["ratio to best"] == "diverged"
    assert row["train loss"] == "1 of 2 diverged"
    assert row["diverged"] == "50 %"
    assert max(map(len, tables.aligned([titles, mine]).splitlines())) <= 100


def test_a_ratio_in_words():
    assert tables.ratio_text(Ratio(0.123, 0.1, 0.2)) == "0.12 [0.10, 0.20]"
    assert tables.ratio_text(Ratio(0.00123, 0.001, 1234.0)) == "0.0012 [0.001, 1,234]"
    assert tables.ratio_text(Ratio(0.0623, 0.0134, 0.0999)) == "0.062 [0.013, 0.1]"
    assert tables.ratio_text(Ratio(2.0, 1.0, np.inf)) == "2.00 [1.00, inf]"
    assert tables.ratio_text(Ratio(2.0, None, None)) == "2.00"
    assert tables.ratio_text(Ratio(np.inf, 1.0, np.inf)) == "diverged"
    assert tables.ratio_text(Ratio(np.nan, None, None)) == "diverged"


def test_every_number_is_written(tmp_path):
    comparison = compared([0.5, np.inf], [1.0, 2.0])
    tables.write_json(tmp_path / "a.json", tables.content(comparison, 2))
    got = json.loads((tmp_path / "a.json").read_text())
    assert (got["name"], got["target"], got["steps"], got["seeds"]) == (
        "a-name", "mlp_classifier", 3, [0, 1],
    )  # fmt: skip
    assert got["kwargs"] == {"layers": [3]}
    assert got["best_baseline"] == "Adam 0.1"
    mine, _, sgd, _ = got["optimizers"].values()
    assert (mine["learned"], sgd["learned"]) == (True, False)
    assert mine["tuning"] is None
    assert sgd["tuning"] == {"0.3": 2.0, "1": 1.5, "3": None}
    assert mine["measures"]["train_loss"]["values"] == [0.5, None]
    assert mine["ratio_to_best"]["value"] is None
    assert sgd["ratio_to_best"]["value"] == 2.0
    assert sgd["time_per_step_relative_to_adam"] == 0.5
    arrays = tables.curves(comparison)
    assert list(arrays) == ["losses/mine", "losses/other", "losses/SGD 1", "losses/Adam 0.1"]
    np.testing.assert_array_equal(arrays["losses/mine"], np.full((2, 3), 9.0))


def test_a_speed_up_in_words():
    assert tables.speed_up_text(SpeedUp(10, 13, 1.3)) == "1.30x"
    assert tables.speed_up_text(SpeedUp(10, None, 1.3)) == "> 1.30x"
    assert tables.speed_up_text(SpeedUp(10, 13, 1.3), 2.0) == "0.65x"
    assert tables.speed_up_text(SpeedUp(10, 13, 1.3), np.nan) == ""
    assert tables.speed_up_text(SpeedUp(0, None, np.nan)) == "diverged"


def test_what_was_tuned_is_in_the_row_of_a_learned_optimizer():
    one = compared([0.5, 1.0], [1.0, 2.0])
    tuned = one._replace(learned={"mine": one.learned["mine"]._replace(rates={0.1: 2.0, 0.3: 1.0})})
    assert tables.rows(tuned)[1][0] == "mine 0.3"
    assert tables.rows(one)[1][0] == "mine"
    got = tables.content(tuned, 2)["optimizers"]["mine"]
    assert (got["setting"], got["tuning"]) == ("0.3", {"0.1": 2.0, "0.3": 1.0})
    assert tables.content(one, 2)["optimizers"]["mine"]["setting"] is None


def test_all_problems_together_are_a_row_for_each_optimizer():
    again = compared([4.0, 4.0], [1.0, 1.0])
    two = [compared([0.5, 0.5], [1.0, 1.0]), again._replace(case=again.case._replace(name="b"))]
    titles, mine, other, sgd, adam = tables.overall(two)
    assert titles == [
        "over all problems", "train ratio", "test ratio", "best", "within 1.5x", "within 2x",
        "within 4x",
    ]  # fmt: skip
    # The ratios are 0.5, 0.5, 4 and 4: the middle ones are 0.5 and 4.
    assert mine[0] == "mine"
    assert mine[1].startswith("1.41 [")
    assert mine[2:] == ["1.00 [1.00, 1.00]", "50 %", "50 %", "50 %", "100 %"]
    # Adam has twice the smallest loss of the first problem.
    assert (adam[0], adam[3:]) == ("Adam", ["50 %", "50 %", "100 %", "100 %"])
    assert (sgd[0], sgd[3:]) == ("SGD", ["0 %", "0 %", "50 %", "100 %"])
    assert other[1] == "1.00 [1.00, 1.00]"


def falling(factor, steps=40):
    """Returns a run whose loss falls to its end, `factor` times as fast as that of factor 1."""
    return of([0.5], np.maximum(40 - factor * np.arange(steps), 1.0)[np.newaxis])


def test_the_speed_ups_of_all_problems_are_one_table():
    case = Case("a", "mlp_classifier", {}, 40)
    slow, fast = Entry(falling(0.5), None, 2.0), Entry(falling(2.0), None, 4.0)
    baselines = {
        "SGD 1": Entry(falling(0.5), {1.0: 1.0}, 1.0),
        "Adam 0.1": Entry(falling(1.0), {0.1: 1.0}, 1.0),
    }
    one = Comparison(case, {"slow": slow, "fast": fast}, baselines, "Adam 0.1", 1.0)
    two = [one, one._replace(case=case._replace(name="b", steps=1000))]
    titles, first, second = tables.speed_ups(two)
    assert titles == ["problem", "steps", "slow", "in time", "fast", "in time", "SGD"]
    assert (first[:2], second[:2]) == (["a", "40"], ["b", "1,000"])
    assert first[2:] == second[2:]
    # Adam is at the end of half as steep a curve after half the steps.
    numbers = [float(cell.strip("> x")) for cell in first[2:]]
    np.testing.assert_allclose(numbers[0], 0.5, atol=0.1)
    np.testing.assert_allclose(numbers[1], numbers[0] / 2, atol=0.01)
    assert numbers[2] > 1
    np.testing.assert_allclose(numbers[3], numbers[2] / 4, atol=0.01)
    assert first[6] == first[2]
