"""evaluate.py and its report, within this process."""

import contextlib
import io
import json
import math
import os
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

import l2o
from config.main import main
from l2o.errors import UserError
from l2o.evaluate import comparison, session, suites
from l2o.evaluate.evaluation import Request
from l2o.evaluate.protocol import PROTOCOLS, Protocol
from l2o.evaluate.session import evaluate
from tests.evaluate.recompute import recompute
from tests.evaluate.report.reader import Reader

ROOT = Path(__file__).parent.parent.parent
NAMES = ["dm-digits", "rnnprop-digits"]
REQUEST = Request(
    NAMES,
    "mlp_classifier,conv_classifier",
    options={"layers": [2], "batch_size": 256},
    steps=12,
    seeds=3,
)


def printed_by(request):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        evaluate(request)
    # What is told on the way depends on the time it takes.
    return "".join(line for line in out.getvalue().splitlines(True) if " left" not in line)


@pytest.fixture(autouse=True, scope="module")
def _two_baselines_and_no_clock():
    """All of them are tuned in test_comparison.py, and timed in test_timing.py."""
    few = Protocol(("SGD", "Adam"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PROTOCOLS.entries, "default", few)
        patch.setattr(
            comparison, "relative_times", lambda problem, them, unit: dict.fromkeys(them, 1.0)
        )
        yield


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Where two optimizers were evaluated on two problems, and what was printed."""
    cwd, before = tmp_path_factory.mktemp("evaluated"), os.getcwd()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setenv("L2O_CACHE", str(cwd / "cache"))
        printed = printed_by(REQUEST)
    assert os.getcwd() == before
    return cwd, printed


def result(cwd, name):
    return json.loads((cwd / f"dm-digits/eval/{name}.json").read_text())


def test_all_of_it_is_written_where_the_first_one_is(evaluated):
    cwd, printed = evaluated
    assert {p.name for p in (cwd / "dm-digits/eval").iterdir()} == {
        "mlp_classifier.json", "mlp_classifier.npz", "conv_classifier.json",
        "conv_classifier.npz", "comparison.png", "comparison-ratios.png",
        "comparison-updates.png", "comparison-profile.png", "comparison-overall.json",
    }  # fmt: skip
    assert {p.name for p in cwd.iterdir()} == {"dm-digits", "cache"}
    assert "dm-digits/report.html is written" in printed
    # The folder with the results does not hide the name.
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        assert l2o.load("dm-digits").name == "DMOptimizer"


def test_the_terminal_gets_a_row_for_each_problem(evaluated):
    cwd, printed = evaluated
    assert "dm-digits: DM, as saved\nrnnprop-digits: RNNProp, as saved\n" in printed
    lines = printed.splitlines()
    titles = lines.index(next(line for line in lines if line.startswith("problem ")))
    mlp, conv = lines[titles + 2 : titles + 4]
    ratio = result(cwd, "mlp_classifier")["optimizers"]["dm-digits"]["ratio_to_best"]
    assert mlp.split()[:5] == ["mlp_classifier", "12", *(
        f"{ratio['value']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]".split()
    )]  # fmt: skip
    assert conv.startswith("conv_classifier")
    assert lines[-1] == "next: l2o evaluate dm-digits rnnprop-digits --suite generalization"
    assert max(map(len, lines)) < 140


@pytest.mark.parametrize("name", ["mlp_classifier", "conv_classifier"])
def test_the_numbers_are_those_of_the_stored_results(evaluated, name):
    cwd, _ = evaluated
    found = result(cwd, name)
    again = recompute(cwd / "dm-digits/eval" / name)
    assert list(again) == list(found["optimizers"])
    for label, one in found["optimizers"].items():
        measures, ratio = one["measures"], one["ratio_to_best"]
        mean, value, low, high, area, steps, lost = again[label]
        assert measures["train_loss"]["mean"] == pytest.approx(mean)
        assert ratio["value"] == pytest.approx(value)
        assert ratio["low"] == pytest.approx(low, rel=0.03)
        assert ratio["high"] == pytest.approx(high, rel=0.03)
        assert measures["log_area"]["mean"] == pytest.approx(area, rel=1e-4)
        assert measures["diverged"]["mean"] == pytest.approx(lost)
        counts = sorted(math.inf if v is None else v for v in measures["steps_to_target"]["values"])
        assert counts[1] == steps
    assert found["seeds"] == [0, 1, 2]
    assert found["kwargs"]["layers"] == [2]
    assert found["sources"]["dm-digits"] == {"given": "dm-digits", "stage": None, "period": None}


def test_the_report_has_all_of_it(evaluated):
    cwd, _ = evaluated
    page = (cwd / "dm-digits/report.html").read_text()
    read = Reader(page)
    text = " ".join(read.text)
    assert len([row for row in read.all("tr") if row.get("class") == "learned"]) == 6
    best = result(cwd, "mlp_classifier")
    mean = best["optimizers"][best["best_baseline"]]["measures"]["train_loss"]["mean"]
    assert f"{best['best_baseline']}: {mean:.3g}" in text
    assert len(read.all("img")) == 4, "a run that is not there has no meta-training"
    assert "Meta-training" not in text
    for name in ("mlp_classifier", "conv_classifier"):
        for label, one in result(cwd, name)["optimizers"].items():
            assert label in text
            mean = one["measures"]["train_loss"]["mean"]
            assert f"{mean:.4f}" in text
    command = (
        "l2o evaluate dm-digits rnnprop-digits --problem mlp_classifier,conv_classifier "
        "--steps 12 --seeds 3 'layers=[2]' batch_size=256"
    )
    assert command in text
    assert command == REQUEST.command()


def test_asked_again_nothing_is_computed_and_all_is_the_same(evaluated, monkeypatch):
    cwd, printed = evaluated
    monkeypatch.chdir(cwd)
    monkeypatch.setenv("L2O_CACHE", str(cwd / "cache"))
    for name in ("run", "tune", "relative_times", "probe"):
        monkeypatch.setattr(comparison, name, None)
    page = (cwd / "dm-digits/report.html").read_bytes()
    assert printed_by(REQUEST) == printed
    assert (cwd / "dm-digits/report.html").read_bytes() == page
    # Elsewhere, if that is asked for.
    printed_by(REQUEST._replace(output=str(cwd / "out")))
    assert (cwd / "out/report.html").exists()
    assert (cwd / "out/eval/mlp_classifier.npz").exists()


# It tunes the baselines once more.
@pytest.mark.slow
def test_one_problem_is_a_table_of_its_own_and_a_cache_that_fails_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("L2O_CACHE", str(tmp_path / "file/cache"))
    request = REQUEST._replace(given=["dm-digits"], problems=None, steps=2, seeds=1)
    printed = printed_by(request)
    for words in ("mlp_classifier: layers 2, dataset digits", "2 steps, 1 seed", "SGD", "Adam"):
        assert words in printed
    assert "results are not cached in" in printed
    assert (tmp_path / "dm-digits/eval/mlp_classifier.png").exists()
    (values,) = np.load(tmp_path / "dm-digits/eval/mlp_classifier.npz")["losses/dm-digits"]
    assert values.shape == (2,)


@pytest.fixture
def no_work(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def refuse(*args, **kwargs):
        raise AssertionError("worked")

    monkeypatch.setattr(comparison, "run", refuse)
    monkeypatch.setattr(comparison, "tune", refuse)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"problems": "mlp_clasifier"}, "--problem: no problem called 'mlp_clasifier'.*mean mlp"),
        ({"problems": "mlp_classifier,"}, "--problem: no problem called ''"),
        ({"problems": "mlp_classifier,mlp_classifier"}, "--problem: expected each problem once"),
        ({"problems": None, "suite": "generalisation"}, "--suite: .*did you mean generalization"),
        ({"suite": "generalization"}, "--suite: expected either --problem or --suite"),
        ({"options": {"layer": [2]}}, "mlp_classifier: .*layer.*did you mean layers"),
        ({"options": {"layers": "x"}}, "layers"),
        ({"options": {"dataset": "digit"}}, "dataset: no data set called 'digit'"),
        ({"options": {"dataset": "wine"}}, "conv_classifier: dataset: wine has no images"),
        ({"options": {"batch_size": 10**6}}, "batch_size"),
        ({"given": ["dm-digit"]}, "dm-digit is not a run directory.*did you mean dm-digits"),
        ({"given": ["dm-digits", "./dm-digits"]}, "./dm-digits is given twice"),
        ({"period": 3}, "saved optimizer: it has no periods"),
        ({"protocol": "tunde"}, r"--protocol: .*did you mean tuned\?"),
        ({"schedule": "cosin"}, r"--schedule: .*did you mean cosine\?"),
        ({"baselines": "SGD,Moun"}, r"--baselines: .*did you mean Muon\?"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_work(changed, words, no_work, tmp_path):
    with pytest.raises(UserError, match=words):
        evaluate(REQUEST._replace(**changed))
    assert list(tmp_path.iterdir()) == []


# It builds every problem of a suite.
@pytest.mark.slow
def test_a_problem_of_a_suite_that_cannot_be_built_is_left_out(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    asked = []

    def compare(case, *args):
        asked.append(case.name)
        if len(asked) == 1:
            # As what is left out is printed at the end.
            return made.append(compared(case, *args)) or made[0]
        return made[0]._replace(case=case)

    made, compared = [], session.compare
    monkeypatch.setattr(session, "compare", compare)
    options = {"dataset": "wine", "batch_size": 32, "layers": [2]}
    printed = printed_by(
        Request(["dm-digits"], suite="generalization", options=options, steps=2, seeds=1)
    )
    assert "left out: conv: dataset: wine has no images: expected a set of images\n" in printed
    assert "left out: batch-512: batch_size: batch_size 512 is larger than the 142" in printed
    assert "conv" not in asked
    assert "relu" in asked
    page = (tmp_path / "dm-digits/report.html").read_text()
    assert "left out: conv: dataset: wine has no images" in page
    with pytest.raises(UserError, match=r"layers: expected a list"):
        evaluate(Request(["dm-digits"], suite="generalization", options={"layers": 20}))


@pytest.fixture
def labels(monkeypatch, tmp_path):
    """Which labels optimizers get that are given as these directories."""
    monkeypatch.chdir(tmp_path)

    def found(given):
        for path in given:
            if not path.endswith("-digits"):
                l2o.DMOptimizer(layers=(2,)).save(path)
        asked = []
        monkeypatch.setattr(session, "compare", lambda *args: asked.append(list(args[2])) or 1 / 0)
        with pytest.raises(ZeroDivisionError):
            evaluate(Request(given))
        return asked[0]

    return found


def test_two_of_the_same_last_name_are_told_apart(labels):
    given = ["a/same", "b/same/", "rnnprop-digits"]
    assert labels(given) == ["a/same", "b/same", "rnnprop-digits"]


def test_nothing_is_called_as_a_baseline_is(labels):
    given = ["Adam", "x/SGD 1", "AdamW2"]
    assert labels(given) == ["learned Adam", "learned SGD 1", "AdamW2"]


def test_a_name_that_is_no_text(labels):
    assert labels([os.fsdecode(b"b\xff")]) == ["b\ufffd"]


@pytest.mark.parametrize(
    "request_",
    [
        Request(
            ["a b", "c"], problems="x,y", steps=3, seeds=4,
            options={"layers": [2, 3], "n": "x"},
        ),
        Request(
            ["a"], suite="s", period=2, stage=1, target=0.25, output="out dir",
            options={"flag": True, "none": None, "rate": 0.5},
        ),
        Request(["a"], protocol="tuned", baselines="SGD,Lion", schedule="cosine", tuning_seeds=2),
        Request(["a"], protocol="tuned", tune_learned=False),
        Request(["a"], tune_learned=True, tuned_for="validation", tune_weight_decay=True),
    ],
)  # fmt: skip
def test_the_command_asks_for_the_same(request_, monkeypatch):
    asked = []
    monkeypatch.setattr(session, "evaluate", asked.append)
    monkeypatch.setattr("config.commands.evaluate.begin", lambda args: None)
    monkeypatch.setattr(sys, "argv", shlex.split(request_.command()))
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0
    assert asked == [request_]


# It trains on two problems first.
@pytest.mark.slow
def test_a_suite_starts_from_what_a_run_was_trained_on(monkeypatch, tmp_path):
    from l2o.train.session import start

    options = {"layers": [3], "batch_size": 512}
    config = {
        "directory": str(tmp_path / "run"),
        "constructor": "DM",
        "network": {"layers": [2]},
        "problems": [
            {"target": "Quadratic"},
            {"target": "mlp_classifier", "kwargs": options},
        ],
        "training": {"epochs": 1, "repeat": 1},
        "strategy": {"num_periods": 1, "epochs_per_period": 1, "validation_unroll": 2},
    }
    start(config)
    asked = []
    monkeypatch.setattr(
        "l2o.evaluate.session.compare", lambda case, *args: asked.append(case) or 1 / 0
    )
    request = Request([str(tmp_path / "run")], suite="generalization", steps=7)
    with pytest.raises(ZeroDivisionError):
        evaluate(request)
    expected = suites.generalization("training", options, 7)[0]
    assert asked == [expected]
    with pytest.raises(ZeroDivisionError):
        evaluate(request._replace(options={"layers": [4]}))
    assert asked[1].name == "base"
    assert asked[1].kwargs == {**expected.kwargs, "layers": [4]}


def test_a_suite_may_have_any_problems(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def make(name, options, steps):
        assert (name, options) == ("odd", {})
        return [
            suites.Case("first", "Quadratic", {"dimensions": 3}, steps),
            suites.Case("too-large", "mlp_classifier", {"batch_size": 10**6}, steps),
            suites.Case("second", "mlp_regressor", {}, 2 * steps),
            # All examples at once: none is left for validation.
            suites.Case("many", "mlp_classifier", {"batch_size": 1437}, steps),
        ]

    monkeypatch.setitem(suites.SUITES.entries, "odd", make)
    monkeypatch.setattr(session, "FIXED", frozenset({"odd"}))
    request = Request(["rnnprop-digits"], suite="odd", steps=7)
    built, left_out = session._built(request, None)
    assert [(case.name, case.target, case.steps) for case, _ in built] == [
        ("first", "Quadratic", 7), ("second", "mlp_regressor", 14), ("many", "mlp_classifier", 7),
    ]  # fmt: skip
    assert built[1][0] == suites.resolved(suites.Case("second", "mlp_regressor", {}, 14))
    assert [line.split(": ")[1:3] for line in left_out] == [["too-large", "batch_size"]]
    built, left_out = session._built(request._replace(tuned_for="validation"), None)
    assert [case.name for case, _ in built] == ["first", "second"]
    assert "many: batch_size: batch_size 1437 of mlp_classifier" in left_out[1]
    with pytest.raises(UserError, match="--suite: its problems have no options; got layers"):
        evaluate(request._replace(options={"layers": [2]}))


def test_the_results_over_all_problems_are_written(evaluated):
    cwd, printed = evaluated
    found = result(cwd, "comparison-overall")
    assert found["problems"] == ["mlp_classifier", "conv_classifier"]
    assert list(found["optimizers"]) == ["dm-digits", "rnnprop-digits", "SGD", "Adam"]
    assert found["protocol"]["schedule"] == "constant"
    losses = {
        name: {
            label.split()[0]: one["measures"]["train_loss"]["mean"]
            for label, one in result(cwd, name)["optimizers"].items()
        }
        for name in found["problems"]
    }
    for label, one in found["optimizers"].items():
        ratios = [own[label] / min(own.values()) for own in losses.values()]
        assert list(one["loss_relative_to_the_smallest"].values()) == pytest.approx(ratios)
        shares = {f"{tau:g}": np.mean([r <= tau for r in ratios]) for tau in (1, 1.5, 2, 4)}
        assert one["performance_profile"] == shares
        ratio = one["interquartile_mean_ratio"]
        assert ratio["low"] <= ratio["value"] <= ratio["high"]
        assert f"{label} " in printed
    for name in found["problems"]:
        for one in result(cwd, name)["optimizers"].values():
            assert one["test_ratio_to_best"]["value"] > 0
            assert one["speed_up_over_adam"]["reached"] in (True, False)
    assert "mean test loss / that of the best baseline" in printed


def test_the_bar_of_an_evaluation_goes_from_0_to_1_over_all_problems():
    shown = []

    class Bar:
        def update(self, text, done):
            shown.append(done)

    cases = [suites.Case(name, "Quadratic", {}, steps) for name, steps in (("a", 10), ("b", 400))]
    for i, case in enumerate(cases):
        told = session._teller(Bar(), cases, i, models=4)
        for _ in range(5):
            told("Adam", case.steps, 1.0)
    a = 610 / 1610
    rest = [a + (1 - a) * k / 4 for k in (1, 2, 3, 4, 4)]
    assert shown == pytest.approx([a / 4, a / 2, 3 * a / 4, a, a, *rest])


def test_the_progress_counts_each_weight_decay():
    tuned = Request(["a"], protocol="tuned").chosen()
    more = tuned._replace(tune_weight_decay=True)
    # Three grids more, of about six rates and three models each.
    assert session._models(10, 1, more) - session._models(10, 1, tuned) == 3 * 6 * 3
