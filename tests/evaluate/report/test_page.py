from l2o.evaluate.comparison import Comparison, Entry
from l2o.evaluate.report import page
from l2o.evaluate.suites import Case


def test_weight_decays_that_change_nothing_are_told_apart():
    """Muon's is that of matrices, and a problem may have none."""
    decays = {decay: {0.1: 2.0} for decay in (0.0, 0.01)}
    entry = Entry(None, decays[0.0], 1.0, decays)
    case = Case("booth", "Booth", {}, 10)
    found = Comparison(case, {}, {"Muon2D 0.1 wd 0": entry}, "Muon2D 0.1 wd 0", 0.0)
    _, *rows = page._tuning([found])
    assert rows == [["booth", "Muon2D 0.1 wd 0", "2"], ["booth", "Muon2D, weight decay 0.01", "2"]]
