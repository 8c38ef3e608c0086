import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression

from l2o.problems import mlp_regressor


def test_the_data_are_diabetes_standardised_by_what_is_trained_on():
    problem = mlp_regressor()
    (x, y), (x_test, y_test) = problem.dataset.train, problem.dataset.test
    assert (x.shape, y.shape, x_test.shape, y_test.shape) == (
        (353, 10), (353, 1), (89, 10), (89, 1),
    )  # fmt: skip
    for values in (x, y):
        np.testing.assert_allclose(values.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(values.std(0), 1, atol=1e-5)
    # As good as a line through the raw data is known to be: about half of the variance.
    line = LinearRegression().fit(x, y)
    assert 0.45 < line.score(x, y) < 0.6
    # All of them, once each, shifted and scaled.
    raw, got = np.sort(load_diabetes().target), np.sort(np.r_[y, y_test][:, 0])
    np.testing.assert_allclose(np.polyval(np.polyfit(got, raw, 1), got), raw, atol=1e-3)


def test_it_is_a_regression():
    problem = mlp_regressor(layers=[3], batch_size=32)
    assert not problem.classifies
    assert problem.steps_per_epoch == 11
    assert problem.name == "mlp_regressor"
