"""The options of language models, image models and autoencoders, `problems/<i>/kwargs/...`.

The models are tiny, and each has two mini-batches in an epoch.
"""

import json
from contextlib import contextmanager, nullcontext

import numpy as np
import tensorflow as tf

from l2o.problems import datasets, mlp_classifier
from tests.option_cases import MLP, Cases, close
from tests.problems import reference_models as reference
from tests.problems.test_data_options import CONV, NOISE, learns_the_tiny_set, tiny_set

cases = Cases()

SHARED = ("strategy/unroll_distribution=2", "strategy/validation_unroll=2")
TINY = {
    "char_lm": {
        "width": 4, "depth": 1, "heads": 2, "context": 8, "batch_size": 100,
        "text": "{tmp_path}/text.txt",
    },
    "vit_classifier": {"width": 4, "depth": 1, "heads": 2, "patch_size": 4, "batch_size": 700},
    "mixer_classifier": {"width": 4, "depth": 1, "patch_size": 4, "batch_size": 700},
    "residual_classifier": {"width": 2, "depth": 1, "batch_size": 700},
    "autoencoder": {"width": 3, "depth": 1, "latent": 2, "batch_size": 700},
    "vae": {"width": 3, "depth": 1, "latent": 2, "batch_size": 700},
}  # fmt: skip
TEXT = "".join(chr(97 + int(i)) for i in np.random.default_rng(0).integers(0, 26, 2000) ** 2 // 26)
# The others are close to these, and to the tests of the models themselves.
FAST = [("char_lm", "text"), ("vit_classifier", "transform"), ("vae", "latent")]
IMAGE_MODELS = [name for name in TINY if name != "char_lm"]


@contextmanager
def a_text(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    yield


def typed(name, **changed):
    """The tiny problem with other options; None: those that are left at their defaults."""
    kwargs = {k: v for k, v in {**TINY[name], **changed}.items() if v is not None}
    return (f"problems={json.dumps([{'target': name, 'kwargs': kwargs}])}", *SHARED)


def computes(name, size, **options):
    """A check that the problem is the reference's model, with `size` weights."""

    def check(run):
        params, state, _ = run.first.before
        batch = tf.nest.map_structure(lambda b: b[0], run.first.batches)
        found, _ = run.first.problem.objective(params, state, batch)
        arrays = [b.numpy() for b in batch]
        assert sum(p.shape.num_elements() for p in params) == size
        assert close(found, getattr(reference, name)(params, state, *arrays, **options))

    return check


def add(name, option, value, check, within=None, **others):
    shared = option not in ("characters", "context", "text", "normalization")
    within = within or (a_text if name == "char_lm" else lambda tmp_path: nullcontext())
    cases.add(
        f"problems/<i>/kwargs/{option}" + f" ({name})" * shared,
        *typed(name, **{option: value, **others}),
        check=check,
        within=within,
        slow=(name, option) not in FAST,
    )


def batches_have(count):
    return lambda run: check_equal([b.shape[1] for b in run.first.batches], [count, count])


def check_equal(found, expected):
    assert found == expected


# Language models.

CHARACTERS = len(set(TEXT)) + 1


def of_text(architecture="transformer", width=4, depth=1, context=8):
    return reference.count_char_lm(CHARACTERS, architecture, width, depth, context)


add(
    "char_lm", "architecture", "lstm",
    computes("char_lm", of_text("lstm"), architecture="lstm"),
)  # fmt: skip
add("char_lm", "width", 6, computes("char_lm", of_text(width=6)))
add("char_lm", "depth", 3, computes("char_lm", of_text(depth=3), depth=3))
add("char_lm", "heads", 1, computes("char_lm", of_text(), heads=1))
add("char_lm", "batch_size", 60, batches_have(60))


def windows_of(text, context):
    """The windows of the training split as numbers; the most frequent character is 1."""
    part, size = text[: len(text) - len(text) // 10], context + 1
    order = sorted(set(part), key=lambda c: (-part.count(c), c))
    ids = [order.index(c) + 1 for c in part]
    return [ids[i : i + size] for i in range(0, len(ids) - size + 1, size)]


def seen(run):
    """The windows of the two mini-batches, as numbers."""
    inputs, targets = (b.numpy()[:2] for b in run.first.batches)
    assert close(inputs[..., 1:], targets[..., :-1])
    return np.concatenate([inputs, targets[..., -1:]], -1).reshape(-1, inputs.shape[-1] + 1)


def windows_of_17(run):
    assert run.first.before.params[1].shape == (17, 4)
    assert {tuple(w) for w in seen(run)} <= {tuple(w) for w in windows_of(TEXT, 17)}


add("char_lm", "context", 17, windows_of_17, batch_size=50)


def in_order(run):
    assert close(seen(run), np.array(windows_of(TEXT, 8)[:200]))


add("char_lm", "shuffle_buffer", 0, in_order)


SHORT = len(TEXT) // 2


def learns_the_start(run):
    assert {tuple(w) for w in seen(run)} <= {tuple(w) for w in windows_of(TEXT[:SHORT], 8)}


add("char_lm", "characters", SHORT, learns_the_start, batch_size=50)


def learns_the_text(run):
    found = {tuple(w) for w in seen(run)}
    assert len(found) > 1000
    assert found <= {tuple(w) for w in windows_of(100 * TEXT, 8)}


@contextmanager
def a_long_text(tmp_path):
    # For large mini-batches: of these an epoch has few, of the default text too.
    (tmp_path / "text.txt").write_text(100 * TEXT)
    yield


add(
    "char_lm", "text", TINY["char_lm"]["text"], learns_the_text,
    within=a_long_text, batch_size=10_000,
)  # fmt: skip


# Images.

PATCHES = {"width": 4, "depth": 1, "patch_size": 4}
CLASSES_10 = {
    "vit_classifier": lambda **o: reference.count_vit(**{**PATCHES, **o}),
    "mixer_classifier": lambda **o: reference.count_mixer(**{**PATCHES, **o}),
    "residual_classifier": lambda **o: reference.count_residual(**{"width": 2, "depth": 1, **o}),
}  # fmt: skip

for _name, _size in CLASSES_10.items():
    add(_name, "width", 8, computes(_name, _size(width=8)))
    add(_name, "depth", 3, computes(_name, _size(depth=3), depth=3))
for _name in ("vit_classifier", "mixer_classifier"):
    _size = CLASSES_10[_name](patch_size=8)
    add(_name, "patch_size", 8, computes(_name, _size, patch_size=8))
add("vit_classifier", "heads", 1, computes("vit_classifier", reference.count_vit(4, 1, 4), heads=1))
add(
    "residual_classifier", "activation", "softsign",
    computes("residual_classifier", reference.count_residual(2, 1), activation=reference.softsign),
)  # fmt: skip

for _name, _codes in (("autoencoder", 1), ("vae", 2)):
    for _option, _value, _options in (
        ("architecture", "conv", {}),
        ("width", 5, {}),
        ("depth", 2, {}),
        ("latent", 3, {}),
    ):
        _all = {"architecture": "mlp", "width": 3, "depth": 1, "latent": 2, _option: _value}
        _used = {k: _all[k] for k in ("architecture", "depth")}
        _size = reference.count_autoencoder(**_all, codes=_codes)
        add(_name, _option, _value, computes(_name, _size, **_used))
    _size = reference.count_autoencoder("mlp", 3, 1, 2, codes=_codes)
    add(
        _name, "activation", "softsign",
        computes(_name, _size, activation=reference.softsign),
    )  # fmt: skip


def images_seen(run):
    return run.first.batches[0].numpy()[:2].reshape(1400, 8, 8)


DIGITS = datasets.load("digits").train.images[:1400, :, :, 0]


def images_in_order(run):
    assert close(images_seen(run), DIGITS)


def images_are_4_by_4(run):
    images = run.first.batches[0].numpy()[:2]
    blocks = DIGITS.reshape(2, 700, 4, 2, 4, 2).mean((3, 5))
    assert close(images[..., 0], blocks)


def labels_are_wrong(run):
    right = datasets.load("digits").train.labels[:1400].reshape(2, 700)
    wrong = (run.first.batches[1].numpy()[:2] != right).sum()
    assert 359 - 37 <= wrong <= 359


def images_are_inverted(run):
    assert close(images_seen(run), 1 - DIGITS)


def reconstructs_the_tiny_set(run):
    images, targets = run.first.batches
    assert images.shape[1:] == (10, 6, 5, 1)
    assert close(images, targets)


for _name in IMAGE_MODELS:
    _set = learns_the_tiny_set if "classifier" in _name else reconstructs_the_tiny_set
    _whole = {"patch_size": 1} if "patch_size" in TINY[_name] else {}
    add(_name, "dataset", "tiny_set", _set, tiny_set, batch_size=10, **_whole)
    add(_name, "batch_size", 500, batches_have(500))
    add(_name, "shuffle_buffer", 0, images_in_order)
    add(_name, "image_size", 4, images_are_4_by_4, shuffle_buffer=0)
    add(_name, "transform", "inverted", images_are_inverted, shuffle_buffer=0)
    if "classifier" in _name:
        add(_name, "label_noise", 0.25, labels_are_wrong, shuffle_buffer=0)

for _name, _typed in (("mlp_classifier", MLP), ("conv_classifier", CONV)):
    cases.add(
        f"problems/<i>/kwargs/transform ({_name})", *_typed, "problems/0/kwargs/transform=inverted",
        NOISE[1], check=images_are_inverted,
    )  # fmt: skip


# The MLP.


@cases.add("problems/<i>/kwargs/normalization", *MLP, "problems/0/kwargs/normalization=batch")
def _(run):
    kernel, gamma, beta, *last = (p.numpy() for p in run.first.before.params)
    images, labels = (b.numpy()[0] for b in run.first.batches)
    x = reference.normalised(images.reshape(700, 64) @ kernel, gamma, beta, 0, 1e-3)
    expected = reference.cross_entropy(reference.dense(reference.sigmoid(x), *last), labels)
    params, state, _ = run.first.before
    assert close(run.first.problem.objective(params, state, (images, labels))[0], expected)


@cases.add("problems/<i>/kwargs/dropout (mlp_classifier)", *MLP, "problems/0/kwargs/dropout=0.75")
def _(typed):
    params, state, _ = typed.first.before
    batch = tuple(b[0] for b in typed.first.batches)
    found, later = typed.first.problem.objective(params, state, batch)
    plain, _ = mlp_classifier([3], batch_size=700).objective(params, [], batch)
    assert not close(found, plain)
    assert int(later[0][1]) == int(state[0][1]) + 1, "the next step draws anew"


@cases.add(
    "problems/<i>/wrappers/<j>/kwargs/groups",
    *MLP,
    'problems/0/wrappers=[{"target": "RandomLabels", "kwargs": {"groups": 2}}]',
)
def _(run):
    table, *_ = run.first.before.model_state
    assert sorted(set(table.numpy().tolist())) == [0, 1]
    params = run.first.before.params
    images, classes = (b[0] for b in run.first.batches)
    expected = run.first.problem.problem.objective(params, [], (images, tf.gather(table, classes)))
    state = run.first.before.model_state
    found = run.first.problem.objective(params, state, (images, classes))
    assert close(found[0], expected[0])


test_option_changes_what_it_should = cases.test()
test_a_case_fails_if_its_option_is_ignored = cases.test_ignored()
