import ast
from pathlib import Path

import matplotlib.colors
import matplotlib.image
import numpy as np
import pytest

import l2o
from l2o.evaluate import Run
from l2o.evaluate.probe import Probe
from l2o.evaluate.report import pictures
from l2o.train.runs.summary import Row

SEEDS, STEPS = 20, 6


def of(train_loss, losses=None):
    train_loss = np.array(train_loss)
    ones = np.ones(len(train_loss))
    losses = np.ones((len(train_loss), 3)) if losses is None else losses
    return Run(losses, train_loss, ones, ones, ones, 1.0)


@pytest.fixture
def axes(monkeypatch):
    """The axes of what is drawn, in order; the picture is written as always."""
    drawn, save = [], pictures._save

    def note(figure, path):
        drawn.extend(figure.axes)
        save(figure, path)

    monkeypatch.setattr(pictures, "_save", note)
    return drawn


def lines(axes):
    return {line.get_label(): line for line in axes.lines}


def test_curves_are_the_median_and_the_band_of_the_seeds(axes, tmp_path):
    losses = np.random.default_rng(0).lognormal(size=(SEEDS + 1, STEPS))
    runs = {"learned": of(losses[:, -1], losses), "Adam": of(losses[:, -1], 2 * losses)}
    pictures.loss_curves(tmp_path / "a.png", {"a title": runs})
    (drawn,) = axes
    ordered = np.sort(losses, axis=0)
    # Of 21 seeds the 3rd, 11th and 19th are the percentiles 10, 50 and 90.
    np.testing.assert_allclose(lines(drawn)["learned"].get_ydata(), ordered[10])
    np.testing.assert_allclose(lines(drawn)["Adam"].get_ydata(), 2 * ordered[10])
    edge = drawn.collections[0].get_paths()[0].vertices
    for step in range(STEPS):
        found = edge[edge[:, 0] == step, 1]
        np.testing.assert_allclose([found.min(), found.max()], ordered[[2, 18], step])
    assert drawn.get_yscale() == "log"
    assert drawn.get_title() == "a title"
    assert lines(drawn)["learned"].get_color() == pictures.COLOURS[0]


def test_a_diverged_seed_widens_the_band_and_leaves_the_median(axes, tmp_path):
    losses = np.tile([[1.0], [2.0], [3.0]], (1, STEPS))
    losses[2, 3:] = np.nan
    pictures.loss_curves(tmp_path / "a.png", {"": {"x": of(losses[:, -1], losses)}})
    np.testing.assert_array_equal(lines(axes[0])["x"].get_ydata(), np.full(STEPS, 2.0))
    edge = axes[0].collections[0].get_paths()[0].vertices
    assert edge[edge[:, 0] == STEPS - 1, 1].max() == 3.0


def test_no_run_is_left_out_and_no_two_look_the_same(axes, tmp_path):
    runs = {str(i): of([1.0]) for i in range(2 * len(pictures.COLOURS) + 1)}
    pictures.loss_curves(tmp_path / "a.png", {"": runs})
    # Equal curves are all seen: what is further below is wider.
    first, second, *_ = axes[0].lines
    assert first.get_zorder() > second.get_zorder()
    assert first.get_linewidth() < second.get_linewidth()
    looks = {(line.get_color(), line.get_linestyle()) for line in axes[0].lines}
    assert len(looks) == len(runs)


def test_the_sweep_shows_seeds_means_the_best_and_what_diverged(axes, tmp_path):
    sweep = {
        1.0: of([np.nan, 0.1]),
        0.1: of([0.2, 0.4]),
        0.01: of([1.0, 2.0]),
        10.0: of([np.inf, np.inf]),
    }
    pictures.sweep_curve(tmp_path / "a.png", sweep, "")
    (drawn,) = axes
    assert (drawn.get_xscale(), drawn.get_yscale()) == ("log", "log")
    found = lines(drawn)
    np.testing.assert_allclose(found["mean over seeds"].get_xdata(), [0.01, 0.1])
    np.testing.assert_allclose(found["mean over seeds"].get_ydata(), [1.5, 0.3])
    np.testing.assert_allclose(found["best: 0.1"].get_xydata(), [[0.1, 0.3]])
    np.testing.assert_allclose(found["diverged"].get_xdata(), [1.0, 10.0])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "losses",
    [np.ones((2, 3)), np.array([[1, np.nan, np.inf]]), np.full((1, 3), np.nan), np.zeros((1, 1))],
    ids=["finite", "diverging", "diverged", "zero"],
)
def test_pictures_are_drawn_whatever_the_numbers(losses, axes, tmp_path):
    final = losses[:, -1]
    pictures.loss_curves(tmp_path / "a.png", {"title": {"x": of(final, losses)}})
    pictures.sweep_curve(tmp_path / "b.png", {0.1: of([1.0]), 1.0: of(final)}, "title")
    pictures.sweep_curve(tmp_path / "c.png", {1.0: of(final)}, "title")
    for name in "abc":
        pixels = matplotlib.image.imread(tmp_path / f"{name}.png")
        assert pixels.shape[:2] == (630, 1050)
        # Nothing is cut off at the margin.
        border = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
        assert all((side == 1).all() for side in border)


def test_a_picture_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    pictures.loss_curves(path, {"": {"x": of([1.0])}})
    before = path.read_bytes()

    def full(*args):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="disk full"):
        pictures.loss_curves(path, {"another": {"y": of([2.0])}})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_colours_differ():
    assert len({matplotlib.colors.to_hex(c) for c in pictures.COLOURS}) == len(pictures.COLOURS)


def test_matplotlib_is_imported_where_it_draws():
    # Not by `sys.modules`: Keras itself imports matplotlib where it is installed.
    for path in Path(l2o.__file__).parent.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            names = {alias.name for alias in getattr(node, "names", [])}
            names.add(getattr(node, "module", None) or "")
            assert not any(name.startswith("matplotlib") for name in names), path


def history(*stages):
    return [
        Row(stage, period, 0.0, None, None if period else start, loss, 1, 0, 1, 0)
        for stage, (start, *losses) in enumerate(stages)
        for period, loss in enumerate(losses)
    ]


def test_meta_training_is_a_panel_for_each_run_from_before_the_first_period(axes, tmp_path):
    runs = {
        "DM": history([0.1, -0.5, -0.7, -0.6]),
        "RNNProp": history([0.0, -1.0, float("inf"), -2.0], [-1.5, -1.8]),
    }
    pictures.meta_training(tmp_path / "a.png", runs)
    first, second = axes
    assert [a.get_title() for a in axes] == ["DM", "RNNProp"]
    assert first.get_ylim() == second.get_ylim()
    trained, curve, _, best = first.lines
    np.testing.assert_array_equal(trained.get_xydata(), [[1, 0], [2, 0], [3, 0]])
    np.testing.assert_array_equal(curve.get_xydata(), [[0, 0.1], [1, -0.5], [2, -0.7], [3, -0.6]])
    np.testing.assert_array_equal(best.get_xydata(), [[2, -0.7]])
    _, one, cross, _, two, _, boundary, best = second.lines
    np.testing.assert_array_equal(one.get_ydata(), [0, -1, np.nan, -2])
    assert cross.get_xdata() == [2]
    np.testing.assert_array_equal(two.get_xydata(), [[3, -1.5], [4, -1.8]])
    assert boundary.get_xdata() == [3, 3]
    np.testing.assert_array_equal(best.get_xydata(), [[4, -1.8]])
    assert matplotlib.image.imread(tmp_path / "a.png").shape[1] > 700


@pytest.mark.parametrize("count", [1, 2, 5, pytest.param(15, marks=pytest.mark.slow)])
def test_problems_are_panels_under_one_legend(count, axes, tmp_path):
    losses = np.random.default_rng(0).lognormal(size=(4, STEPS))
    runs = {"learned": of(losses[:, -1], losses), "Adam": of(losses[:, -1], losses)}
    pictures.loss_curves(tmp_path / "a.png", {f"problem {k}": runs for k in range(count)})
    assert [a.get_title() for a in axes] == [f"problem {k}" for k in range(count)]
    (legend,) = axes[0].figure.legends
    assert [t.get_text() for t in legend.get_texts()] == ["learned", "Adam"]
    assert all(a.get_legend() is None for a in axes)


def test_names_are_drawn_as_they_are(axes, tmp_path):
    names = ["_hidden", "cost$x^$", "a$b$", "\u65e5\u672c"]
    runs = {name: of([1.0, 1.0]) for name in names}
    pictures.loss_curves(tmp_path / "a.png", {"$t^": runs})
    pictures.ratios(tmp_path / "b.png", {"$p^": dict.fromkeys(names, 1.0)})
    pictures.updates(tmp_path / "c.png", {"$^": Probe(np.ones((2, 9)), np.ones((2, 9)))}, 0.1)
    (legend,) = axes[0].figure.legends
    texts = [t.get_text() for t in legend.get_texts()]
    assert [text.strip().replace("\\$", "$") for text in texts] == names


def test_one_that_explodes_does_not_hide_the_others(axes, tmp_path):
    fine = np.tile([[2.0, 1.0, 0.5]], (2, 1))
    runs = {"a": of(fine[:, -1], fine), "b": of(fine[:, -1], 2 * fine**-30)}
    pictures.loss_curves(tmp_path / "a.png", {"": runs})
    low, high = axes[0].get_ylim()
    assert high == 20
    assert low < 0.5


def test_another_period_can_be_marked(axes, tmp_path):
    rows = history([0.1, -0.5, -0.7, -0.6])
    pictures.meta_training(tmp_path / "a.png", {"DM": rows}, {"DM": rows[0]})
    np.testing.assert_array_equal(axes[0].lines[-1].get_xydata(), [[1, -0.5]])


def test_a_long_curve_is_drawn_as_means_of_stretches(axes, tmp_path):
    steps = 3 * pictures.POINTS - 1
    losses = np.random.default_rng(0).lognormal(size=(1, steps))
    pictures.loss_curves(tmp_path / "a.png", {"": {"x": of(losses[:, -1], losses)}})
    x, y = lines(axes[0])["x"].get_xydata().T
    assert len(x) == pictures.POINTS
    np.testing.assert_allclose(x[[0, 1, -1]], [1, 4, steps - 1.5])
    np.testing.assert_allclose(y[1], losses[0, 3:6].mean())
    np.testing.assert_allclose(y[-1], losses[0, -2:].mean())


def test_the_heat_map_says_and_colours_each_ratio(axes, tmp_path):
    values = {
        "easy": {"mine": 0.5, "other's": 2.0},
        "hard": {"mine": 1.0, "other's": float("inf")},
        "odd": {"mine": 123.0, "other's": 0.001},
    }
    pictures.ratios(tmp_path / "a.png", values)
    drawn, _ = axes
    texts = [t.get_text() for t in drawn.texts]
    assert texts == ["0.50", "2.00", "1.00", "diverged", "123", "0.001"]
    assert [t.get_text() for t in drawn.get_yticklabels()] == list(values)
    assert [t.get_text() for t in drawn.get_xticklabels()] == ["mine", "other's"]
    (image,) = drawn.images
    colours = image.to_rgba(image.get_array())
    better, worse = colours[0]
    assert better[1] > better[0], "green"
    assert worse[0] > worse[1], "purple"
    assert abs(colours[1, 0][:3] - colours[1, 0][:3].mean()).max() < 0.02, "1 is neutral"
    np.testing.assert_array_equal(colours[1, 1], colours[2, 0])
    pixels = matplotlib.image.imread(tmp_path / "a.png")
    assert all((side == 1).all() for side in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))


def test_updates_are_medians_by_the_size_of_the_gradient(axes, tmp_path):
    rng = np.random.default_rng(0)
    gradients = 10 ** rng.uniform(-4, 0, (100, 300))
    gradients[:, 0] = 0
    # At first the step itself, at last a sign.
    share = np.linspace(0, 1, 100)[:, np.newaxis]
    changes = np.where(share < 0.5, 0.1 * gradients, 0.01)
    pictures.updates(tmp_path / "a.png", {"x": Probe(gradients, changes)}, 0.03)
    (drawn,) = axes
    found = lines(drawn)
    assert list(found) == [
        "steps 1 to 10",
        "steps 46 to 55",
        "steps 91 to 100",
        "Adam 0.03, step 1",
    ]
    x, y = found["steps 1 to 10"].get_xydata().T
    np.testing.assert_allclose(x, 10 ** np.arange(-3.75, 0, 0.5))
    np.testing.assert_allclose(y, 0.1 * x, rtol=0.2)
    np.testing.assert_allclose(found["steps 91 to 100"].get_ydata(), 0.01)
    assert (drawn.get_xscale(), drawn.get_yscale()) == ("log", "log")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "sizes", [np.zeros((3, 20)), np.full((3, 20), np.nan), np.ones((1, 20)), np.ones((1, 1))]
)
def test_updates_are_drawn_whatever_they_are(sizes, tmp_path):
    pictures.updates(tmp_path / "a.png", {"x": Probe(sizes, sizes), "y": Probe(sizes, sizes)}, 0.1)
    assert (tmp_path / "a.png").exists()


def test_the_heat_map_of_the_test_loss_stands_beside(axes, tmp_path):
    values = {"easy": {"mine": 0.5}, "no test split": {"mine": 2.0}}
    pictures.ratios(tmp_path / "a.png", values, {"easy": {"mine": 1.5}})
    first, second, bar = axes
    assert [a.get_title() for a in (first, second)] == ["training loss", "test loss"]
    assert [t.get_text() for t in first.texts] == ["0.50", "2.00"]
    assert [t.get_text() for t in second.texts] == ["1.50"]
    assert bar.get_ylabel() == "loss / best"


def test_a_profile_steps_up_at_each_problem(axes, tmp_path):
    values = {
        "a": {"mine": 1.0, "Adam": 2.0},
        "b": {"mine": 3.0, "Adam": 1.0},
        "c": {"mine": 1.0, "Adam": float("inf")},
        "d": {"mine": 50.0, "Adam": 1.0},
    }
    pictures.profiles(tmp_path / "a.png", values)
    (drawn,) = axes
    found = lines(drawn)
    assert list(found) == ["mine", "Adam"]
    for label, points in {
        "mine": [(1, 0), (1, 0.25), (1, 0.5), (3, 0.75), (10, 0.75)],
        "Adam": [(1, 0), (1, 0.25), (1, 0.5), (2, 0.75), (10, 0.75)],
    }.items():
        np.testing.assert_allclose(found[label].get_xydata(), points, atol=0.005)
        assert found[label].get_drawstyle() == "steps-post"
    assert drawn.get_ylabel() == "share of 4 problems"
