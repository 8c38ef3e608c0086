"""Which Keras optimizers can be meta-optimizers, and which teachers."""

import keras
import pytest

from l2o import keras_optimizers
from l2o.errors import UserError
from l2o.keras_optimizers import KERAS_OPTIMIZERS


def refused(spec, check=keras_optimizers.spec_of):
    with pytest.raises(UserError) as error:
        check(spec, "here")
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", sorted(KERAS_OPTIMIZERS.entries))
def test_every_optimizer_resolves_to_what_keras_would_make_of_it(name):
    resolved = keras_optimizers.resolve({"class_name": name}, "here")
    assert keras_optimizers.resolve(resolved, "here") == resolved
    made, plain = keras_optimizers.create(resolved), KERAS_OPTIMIZERS.entries[name]()
    assert {**made.get_config(), "name": ""} == {**plain.get_config(), "name": ""}


def test_whole_numbers_are_numbers():
    resolved = keras_optimizers.resolve({"config": {"learning_rate": 1, "beta_1": 0}}, "here")
    assert float(keras_optimizers.create(resolved).learning_rate) == 1.0


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"learning_rate": "fast"}, ["here/config/learning_rate:", "a number"]),
        ({"learning_rate": True}, ["here/config/learning_rate:", "a number"]),
        ({"learning_rate": None}, ["here/config/learning_rate:", "a number"]),
        ({"clipnorm": "1"}, ["here/config/clipnorm:", "a number"]),
        ({"clipnorm": [1]}, ["here/config/clipnorm:", "a number"]),
        ({"global_clipnorm": True}, ["here/config/global_clipnorm:", "a number"]),
        ({"gradient_accumulation_steps": 2.5}, ["gradient_accumulation_steps:", "an integer"]),
        ({"use_ema": 1}, ["here/config/use_ema:", "true or false"]),
        ({"clipnorm": 1.0, "clipvalue": 1.0}, ["here/config:", "Only one of"]),
        # What nothing here would act on is refused rather than ignored.
        ({"use_ema": True}, ["here/config/use_ema:", "ema_overwrite_frequency"]),
        ({"loss_scale_factor": 2.0}, ["here/config/loss_scale_factor:", "expected null"]),
    ],
)
def test_what_keras_would_only_trip_over_later_is_refused(config, words):
    message = refused({"class_name": "Adam", "config": config})
    for word in words:
        assert word in message


def test_only_what_a_step_shows_is_not_refused_by_resolving():
    clipped_twice = {"config": {"clipnorm": 1.0, "clipvalue": 1.0}}
    resolved = keras_optimizers.resolve(clipped_twice, "here")
    for check in (keras_optimizers.tried, keras_optimizers.spec_of):
        assert "Only one of" in refused(resolved, check)


def test_a_spec_is_tried_once(monkeypatch):
    spec = keras_optimizers.tried(keras_optimizers.resolve({}, "here"), "here")
    monkeypatch.setattr(keras_optimizers, "create", None)
    monkeypatch.setattr(keras_optimizers, "resolve", None)
    assert keras_optimizers.spec_of(spec, "here") is spec


def test_null_is_none_where_none_is_the_default():
    config = {"clipnorm": None, "weight_decay": None, "gradient_accumulation_steps": None}
    resolved = keras_optimizers.resolve({"class_name": "SGD", "config": config}, "here")
    assert keras_optimizers.create(resolved).clipnorm is None


def test_an_optimizer_that_keeps_a_copy_of_the_parameters_is_no_teacher():
    spec = keras_optimizers.spec_of({"class_name": "ScheduleFreeAdamW"}, "here")
    assert "here/class_name: ScheduleFreeAdamW keeps a copy" in refused(
        spec, keras_optimizers.check_teacher
    )


@pytest.mark.parametrize("name", sorted({*KERAS_OPTIMIZERS.entries} - {"ScheduleFreeAdamW"}))
def test_all_others_are_teachers(name):
    spec = keras_optimizers.spec_of({"class_name": name}, "here")
    keras_optimizers.check_teacher(spec, "here")


@pytest.mark.parametrize("name", sorted(KERAS_OPTIMIZERS.entries))
def test_an_object_is_its_spec(name):
    kind = KERAS_OPTIMIZERS.entries[name]
    for config in ({}, {"learning_rate": 0.3, "clipnorm": 1.5, "use_ema": False}):
        expected = keras_optimizers.resolve({"class_name": name, "config": config}, "here")
        assert keras_optimizers.spec_of(kind(**config), "here") == expected
    # Keras numbers the names of optimizers; a run that goes on in another process has other ones.
    assert expected["config"]["name"] is None


def test_an_object_that_no_spec_describes_is_refused():
    class Adam(keras.optimizers.Adam):
        """Keras' in name only."""

    class Halving(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.5**step

        def get_config(self):
            return {}

    for given in (Adam(), keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())):
        assert refused(given).startswith(
            "here: expected one of Keras' own optimizers, PowerSign or AddSign; got a "
        )

    def half():
        return 0.5

    for rate in (Halving(), half):
        words = "here/config/learning_rate: expected a number or one of Keras' own schedules; got a"
        assert refused(keras.optimizers.SGD(rate)).startswith(words)
    for chosen in ({"var_names": ["bias"]}, {"var_list": [keras.Variable(1.0)]}):
        decayed = keras.optimizers.AdamW()
        decayed.exclude_from_weight_decay(**chosen)
        assert "no spec describes exclude_from_weight_decay" in refused(decayed)
    # What a spec may not say, an object may not either.
    assert "ema_overwrite_frequency" in refused(keras.optimizers.SGD(use_ema=True))
