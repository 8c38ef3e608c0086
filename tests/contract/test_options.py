"""Keras' own options do to a learned change what they do to Adam's."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.contract.features import (
    BOTH,
    NONE,
    close,
    equal,
    feature,
    fit,
    gradients,
    moved,
    new_model,
    new_variables,
    state,
    steps,
    values,
)


@feature("`learning_rate`: a number multiplies the change")
def test_a_learning_rate(make):
    start, whole = values(new_variables()), steps(make(), count=1)
    half = steps(make(learning_rate=0.5), count=1)
    moved(whole, start)
    close([h - s for h, s in zip(half, start, strict=True)], [(w - 2) / 2 for w in whole])


@feature("`learning_rate` is the first argument")
def test_the_first_argument(make):
    kind = type(make())
    assert float(kind(0.5).learning_rate) == 0.5
    schedule = keras.optimizers.schedules.CosineDecay(0.5, 10)
    assert kind(schedule)._learning_rate is schedule
    with pytest.raises(TypeError):
        kind(0.5, learning_rate=0.5)


@feature("names are distinct unless they are given")
def test_names(make):
    kind = type(make())
    names = [kind().name for _ in range(3)]
    assert len(set(names)) == 3
    assert kind(name="mine").name == kind(name="mine").name == "mine"
    assert kind.from_config(kind(name=names[0]).get_config()).name == names[0]


@feature("`learning_rate`: schedules")
def test_a_schedule(make):
    rates = [1.0, 0.0, 0.25]
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0, 1], rates)
    made = make(learning_rate=schedule), make()
    variables = new_variables(), new_variables()
    for step, rate in enumerate(rates):
        before = [values(v) for v in variables]
        for optimizer, v in zip(made, variables, strict=True):
            optimizer.apply(gradients(v, step), v)
        scheduled, plain = (
            [x - y for x, y in zip(values(v), b, strict=True)]
            for v, b in zip(variables, before, strict=True)
        )
        close(scheduled, [rate * change for change in plain])


@feature("`learning_rate`: the setter")
def test_the_setter(make):
    optimizer = make()
    variables = new_variables()
    steps(optimizer, variables=variables)
    optimizer.learning_rate = 0.0
    before = values(variables)
    steps(optimizer, variables=variables)
    equal(values(variables), before)
    optimizer.learning_rate.assign(0.5)
    assert float(optimizer.learning_rate) == 0.5
    moved(steps(optimizer, variables=variables), before)


@feature("`ReduceLROnPlateau`")
def test_reduce_lr_on_plateau(make):
    stop = keras.callbacks.ReduceLROnPlateau(
        monitor="loss", factor=0.0, patience=1, min_delta=1e9, min_lr=0.0
    )
    optimizer = make()
    model = new_model(optimizer)
    # The second epoch is no better than the first by 1e9: it stops there.
    fit(model, epochs=5, callbacks=[stop])
    assert float(optimizer.learning_rate) == 0.0
    close(model.get_weights(), fit(new_model(make()), epochs=2))


CLIPPED = {
    "clipnorm": lambda grads: [g * min(1, 0.5 / np.linalg.norm(g)) for g in grads],
    "global_clipnorm": lambda grads: [
        g * min(1, 0.5 / np.sqrt(sum(np.sum(np.square(g)) for g in grads))) for g in grads
    ],
    "clipvalue": lambda grads: [np.clip(g, -0.5, 0.5) for g in grads],
}


@feature("`clipnorm`, `global_clipnorm`, `clipvalue`")
def test_clipping(make):
    for option, clip in CLIPPED.items():
        clipped = steps(
            make(), lambda grads, clip=clip: [tf.constant(c) for c in clip(values(grads))]
        )
        close(steps(make(**{option: 0.5})), clipped)


@feature("`weight_decay`, `exclude_from_weight_decay`")
def test_weight_decay(make):
    plain, plain_variables = make(learning_rate=0.5), new_variables()
    made, variables = make(learning_rate=0.5, weight_decay=0.1), new_variables()
    made.exclude_from_weight_decay(var_names=["bias"])
    expected = values(variables)
    for step in range(3):
        grads, before = gradients(variables, step), values(plain_variables)
        plain.apply(grads, plain_variables)
        made.apply(grads, variables)
        changes = [a - b for a, b in zip(values(plain_variables), before, strict=True)]
        expected = [expected[0] * (1 - 0.1 * 0.5) + changes[0], expected[1] + changes[1]]
    close(variables, expected)


@feature("`use_ema`, `ema_overwrite_frequency`")
def test_the_moving_average_of_parameters(make):
    made, variables = make(use_ema=True, ema_momentum=0.5), new_variables()
    average = None
    for step in range(3):
        made.apply(gradients(variables, step), variables)
        now = values(variables)
        average = [(a + n) / 2 for a, n in zip(average or now, now, strict=True)]
    made.finalize_variable_values(variables)
    close(variables, average)
    overwritten = make(use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=3)
    close(steps(overwritten), average)


@feature("`gradient_accumulation_steps`", fast=BOTH)
def test_accumulated_gradients(make):
    plain, made = make(), make(gradient_accumulation_steps=2)
    a, b = new_variables(), new_variables()
    for step in range(3):
        first, second = gradients(a, step), gradients(a, step + 50)
        plain.apply([(f + s) / 2 for f, s in zip(first, second, strict=True)], a)
        before = values(b)
        made.apply(first, b)
        equal(values(b), before)
        made.apply(second, b)
        close(a, b)


@feature("`loss_scale_factor`")
def test_a_loss_scale(make):
    made = make(loss_scale_factor=8.0)
    assert float(made.scale_loss(tf.constant(0.5))) == 4.0
    close(steps(made, lambda grads: [8 * g for g in grads]), steps(make()))
    close(fit(new_model(make(loss_scale_factor=8.0))), fit(new_model(make())), atol=1e-4)


@feature("`LossScaleOptimizer` around it")
def test_a_dynamic_loss_scale(make):
    inner = make()
    scaled = keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0)
    variables = new_variables()
    close(steps(scaled, lambda grads: [8 * g for g in grads], variables), steps(make()))
    before = values(variables), state(inner)
    scaled.apply([g * np.inf for g in gradients(variables)], variables)
    equal(values(variables), before[0])
    equal(state(inner), before[1])
    assert float(scaled.dynamic_scale) == 4.0


@pytest.mark.traced
@feature("`mixed_float16`")
def test_mixed_float16(make):
    _mixed(make, "mixed_float16", keras.optimizers.LossScaleOptimizer)


@feature("`mixed_bfloat16`", fast=NONE)
def test_mixed_bfloat16(make):
    _mixed(make, "mixed_bfloat16", type(make()))


def _mixed(make, policy, wrapped):
    keras.config.set_dtype_policy(policy)
    try:
        model = new_model(make(learning_rate=0.1))
        start = model.get_weights()
        trained = fit(model)
    finally:
        keras.config.set_dtype_policy("float32")
    assert type(model.optimizer) is wrapped
    assert model.layers[0].compute_dtype in policy
    moved(trained, start)
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    slots = [v.dtype for v in model.optimizer.variables]
    assert not {"float16", "bfloat16"} & {*slots}
    # It goes where it goes in full precision, to that of its gradients.
    change = [t - s for t, s in zip(trained, start, strict=True)]
    full = [t - s for t, s in zip(fit(new_model(make(learning_rate=0.1))), start, strict=True)]
    cosine = np.dot(*map(_flat, (change, full))) / np.prod(
        [np.linalg.norm(_flat(c)) for c in (change, full)]
    )
    assert cosine > 0.9, cosine


def _flat(arrays):
    return np.concatenate([a.ravel() for a in arrays])


@pytest.mark.parametrize("make", ["DM"], indirect=True)
def test_an_option_that_keras_does_not_know_is_refused(make):
    with pytest.raises(ValueError, match="not recognized"):
        make(clip_norm=1.0)
